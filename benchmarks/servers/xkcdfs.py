"""xkcdfs: a collection that is whole in its cache, which SOURCE holds as `fill` made it."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

from xkcdfs.__main__ import main
from xkcdfs.cache import Cache
from xkcdfs.client import Client, Validators
from xkcdfs.collection import Collection
from xkcdfs.facts import Fact

URL = "http://127.0.0.1:9"  # where nobody answers, nor is asked
ENDS = {
    "png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "jpg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "gif": (b"GIF89a", b";"),
}


def image(fact: Fact) -> bytes:
    """As many bytes as the image has, which only begin and end as one."""
    begin, end = ENDS[fact.suffix]
    return begin + bytes(fact.size - len(begin) - len(end)) + end


def record(number: int, fact: Fact) -> bytes:
    date: datetime.date = fact.date
    day = {"year": str(date.year), "month": str(date.month), "day": str(date.day)}
    text = {"title": f"Number {number}", "alt": "", "transcript": ""}
    return json.dumps({"num": number, **day, **text, "img": f"{URL}/comics/{number}.{fact.suffix}"}).encode()


def fill(directory: Path, facts: dict[int, Fact]) -> None:
    """Make the cache of a collection with these comics, each read once."""
    cache = Cache(directory, URL)
    lines = []
    for number, fact in facts.items():
        cache.put(f"{URL}/{number}/info.0.json", record(number, fact), Validators())
        cache.put(f"{URL}/comics/{number}.{fact.suffix}", image(fact), Validators(), f".{fact.suffix}")
        lines.append(f'<a href="/{number}/" title="{fact.date}">Number {number}</a><br/>\n')
    latest = max(facts)
    cache.put(f"{URL}/info.0.json", record(latest, facts[latest]), Validators())
    cache.put(f"{URL}/archive/", "".join(lines[::-1]).encode() + b"</html>\n", Validators())
    with Client(offline=True) as client:
        collection = Collection(client, Cache(directory, URL), URL)
        for number in facts:
            collection.image(number)
        collection.save_checked()


if __name__ == "__main__":
    if "--version" in sys.argv:
        sys.exit(main(["--version"]))
    source, mountpoint = sys.argv[1:]
    print("{}", flush=True)
    sys.exit(main([mountpoint, "-f", "--offline", "--url", URL, "--cache-dir", source]))
