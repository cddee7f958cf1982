"""`--sync`: bring comics into the cache, so that they can be read offline."""

from __future__ import annotations

import sys

from tqdm import tqdm

from xkcdfs.collection import Collection
from xkcdfs.errors import FetchError

__all__ = ["parse_range", "sync"]


def parse_range(text: str) -> tuple[int, int | None]:
    """'7' is (7, 7), '7-9' is (7, 9), '7-' is (7, None), '-9' and '' begin at 1. Raises
    ValueError."""
    first, dash, last = text.partition("-")
    numbers = [int(word) if word else None for word in (first, last)]
    if any(number is not None and number < 1 for number in numbers):
        raise ValueError(text)
    low = numbers[0] or 1
    high = numbers[1] if dash or not text else low
    if high is not None and high < low:
        raise ValueError(text)
    return low, high


def sync(collection: Collection, wanted: tuple[int, int | None]) -> int:
    """Fetch what is not whole in the cache, with a progress bar on standard error; the exit status.

    What is there is checked against its digest; so a second run goes on where the first one was
    stopped.
    """
    low, high = wanted
    try:
        numbers = [n for n in collection.numbers() if low <= n and (high is None or n <= high)]
    except FetchError as error:
        print(f"xkcdfs: {error}", file=sys.stderr)
        return 1
    if not numbers:
        print("xkcdfs: no comic has such a number", file=sys.stderr)
        return 1
    try:
        with tqdm(total=len(numbers), unit=" comics", dynamic_ncols=True) as bar:
            failed = collection.sync(numbers, lambda done, of, number: bar.update())
    except KeyboardInterrupt:
        print("xkcdfs: stopped; the next --sync goes on from here", file=sys.stderr)
        return 130
    for failure in list(failed.values())[:5]:
        print(f"xkcdfs: {failure}", file=sys.stderr)
    cache = collection.figures()["cache"]
    held = f"{cache['bytes'] / 1e6:.1f} MB in {cache['directory']}"
    print(f"{len(numbers) - len(failed)} of {len(numbers)} comics are in the cache, {held}")
    if cache["bytes"] > 0.85 * cache["limit"]:
        print(f"the cache may hold no more than {cache['limit'] / 1e6:.0f} MB: --cache-size "
              "lets it have more", file=sys.stderr)  # fmt: skip
    return 1 if failed else 0
