"""The comics of one site, from the cache where it has them and from the network where not."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from xkcdfs.cache import Cache, Cached, Seal
from xkcdfs.client import Client, Kind, Validators, ends_like_image, image_type
from xkcdfs.errors import FetchError
from xkcdfs.flights import Flights
from xkcdfs.records import (
    IndexEntry,
    Record,
    parse_archive,
    parse_record,
    repair_transcript,
    transcript_source,
)

__all__ = ["SITE", "Checked", "Collection", "Image", "Lifetimes"]

SITE = "https://xkcd.com"
CHANGING = frozenset({1335})  # its image follows the time of day
NEVER = 404  # no comic: the page is an error page
MAX_LAG = 20  # how many comics newer than the archive page are looked up one by one

T = TypeVar("T")


@dataclass(frozen=True)
class Lifetimes:
    """For how many seconds a document is believed before the site is asked whether it changed."""

    latest: float = 900.0
    record: float = 30 * 86400.0
    image: float = 30 * 86400.0
    changing_image: float = 900.0
    failed: float = 60.0  # what is old and could not be looked up again is good for so long


@dataclass(frozen=True)
class Image:
    """An image: its bytes, and the file in the cache that holds the same, if there is one. That
    file is replaced, never written to, and may be evicted: open it at once."""

    data: bytes
    path: Path | None
    url: str


class Checked(NamedTuple):
    """An image whose digest was checked, and until when the site need not be asked about it, in
    seconds since 1970."""

    seal: Seal
    until: float


class Collection:
    """The comics of *base_url*. Thread-safe; every method may block on the network, and raises
    FetchError. What is in the cache is also served, however old, where the site does not answer.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        base_url: str = SITE,
        lifetimes: Lifetimes | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = client
        self._cache = cache
        self._lifetimes = lifetimes or Lifetimes()
        self._flights = Flights()
        self._records: dict[int, tuple[Record, float]] = {}
        self._latest: tuple[int, float] = (0, 0.0)
        self._index: dict[int, IndexEntry] = {}
        self._index_until = 0.0
        self._is_makeshift = False  # the index has only numbers
        self._believed: dict[str, float] = {}
        self._asked_again: set[str] = set()
        self._in_vain: dict[str, FetchError] = {}  # of what is in the cache, and served from there
        self._checked: dict[int, Checked] = {}  # not saved yet

    def url(self, number: int) -> str:
        """The page of a comic."""
        return f"{self.base_url}/{number}/"

    def latest(self) -> int:
        """The number of the newest comic, looked up again when it is older than its lifetime."""
        number, until = self._latest
        if time.monotonic() < until:
            return number
        url = f"{self.base_url}/info.0.json"
        life = self._lifetimes.latest
        record, cached = self._document(url, _record_kind(url), life)
        if record.number != number:
            # Its own URL need not be asked, and may be remembered as missing.
            own_url = self._record_url(record.number)
            if self._cache.get(own_url) is None:
                self._cache.put(own_url, cached.body, Validators())
        self._latest = (record.number, time.monotonic() + min(life, self._lifetimes.failed))
        return record.number

    def index(self) -> Mapping[int, IndexEntry]:
        """All comics by rising number, with title and date: one request for all of them, and one
        more when there is a new one."""
        try:
            latest = self.latest()
        except FetchError:
            latest = 0  # an archive page in the cache is better than nothing
        if self._is_current(latest):
            return self._index
        return self._flights.run("index", lambda: self._read_index(latest))

    def remembered_index(self) -> tuple[dict[int, IndexEntry], bool] | None:
        """The index as the cache has it, without a request, and whether it is still believed."""
        url = f"{self.base_url}/archive/"
        archive = self._remembered(url, _archive_kind(url))
        if archive is None:
            return None
        index = archive[0]
        url = f"{self.base_url}/info.0.json"
        latest = self._remembered(url, _record_kind(url))
        if latest is None:
            return index, False
        newest, cached = latest
        for number in range(max(index) + 1, newest.number + 1):
            if record := self.remembered_record(number):
                index[number] = IndexEntry(number, record.title, record.date)
        return index, 0 <= time.time() - cached.fetched < self._lifetimes.latest

    def remembered_record(self, number: int) -> Record | None:
        """The record of comic *number* if it is in the cache, however old; no request."""
        if number in self._records:
            return self._records[number][0]
        url = self._record_url(number)
        found = self._remembered(url, _record_kind(url, number))
        if found is None:
            return None
        record, cached = found
        left = cached.fetched + self._lifetimes.record - time.time()
        return self._records.setdefault(number, (record, time.monotonic() + left))[0]

    def remembered_size(self, record: Record) -> int | None:
        """The bytes of the image of *record* if it is in the cache; no request."""
        if not record.image_url or record.number in CHANGING:
            return None
        return self._cache.size(record.image_url)

    def checked_images(self) -> dict[int, Checked]:
        """The images, by number, that `save_checked` remembers, of which nobody need ask anything;
        no request."""
        known, now = self._saved_checked(), time.time()
        if self._client.offline:  # then all is good for ever
            return {n: image._replace(until=inf) for n, image in known.items()}
        return {n: image for n, image in known.items() if now < image.until}

    def open_checked(self, image: Checked) -> int | None:
        """As Cache.open_sealed."""
        return self._cache.open_sealed(image.seal)

    def save_checked(self) -> None:
        """Remember, in the cache, which images were checked: until somebody writes to their files,
        they need not be read to know that they are right."""
        if self._checked:
            known = {**self._saved_checked(), **self._checked}
            body = json.dumps({str(n): known[n] for n in sorted(known)})
            self._cache.put(self._checked_url, body.encode(), Validators())

    @property
    def _checked_url(self) -> str:
        return f"{self.base_url}/#checked"  # no page can have it

    def _saved_checked(self) -> dict[int, Checked]:
        cached = self._cache.get(self._checked_url)
        try:
            table = json.loads(cached.body) if cached else {}
            return {
                int(number): Checked(Seal(str(name), *rest), float(until))
                for number, ((name, *rest), until) in table.items()
            }
        except (ValueError, TypeError, AttributeError):
            return {}  # of another version of this program

    def expire(self) -> None:
        """Believe nothing that was looked up about which comics there are."""
        self._latest = (self._latest[0], 0.0)
        self._index_until = 0.0
        url = f"{self.base_url}/info.0.json"
        self._believed.pop(url, None)
        self._asked_again.add(url)

    def trouble(self) -> FetchError | None:
        """Why the site could not be asked for the newest comic the last time; None if it could."""
        return self._in_vain.get(f"{self.base_url}/info.0.json")

    def numbers(self) -> list[int]:
        """The numbers that exist, rising."""
        return list(self.index())

    def exists(self, number: int) -> bool:
        """Whether there is a comic *number*."""
        return number in self.index()

    def record(self, number: int) -> Record:
        """The record of comic *number*."""
        known, until = self._records.get(number, (None, 0.0))
        if known and time.monotonic() < until:
            return known
        url = self._record_url(number)
        record, fetched = self._document(url, _record_kind(url, number), self._lifetimes.record)
        left = fetched.fetched + self._lifetimes.record - time.time()
        until = time.monotonic() + max(left, self._lifetimes.failed)
        self._records[number] = (record, until)
        return record

    def transcript(self, number: int) -> str:
        """The transcript of comic *number*, repaired, from the record that holds it; often ''."""
        source = transcript_source(number)
        if source is None or (source != number and not self.exists(source)):
            return ""
        return repair_transcript(self.record(source).transcript)

    def image(self, number: int) -> Image:
        """The image of comic *number*; FetchError with ENOENT for the few without."""
        record = self.record(number)
        return self._image(record, record.image_url)

    def image_2x(self, number: int) -> Image:
        """The image in double resolution; FetchError with ENOENT for those without."""
        record = self.record(number)
        return self._image(record, record.image_2x_url)

    def figures(self) -> dict[str, dict[str, Any]]:
        """The state of the cache and of the network."""
        cache = {
            "directory": str(self._cache.directory),
            "bytes": self._cache.usage(),
            "limit": self._cache.limit,
        }
        return {"cache": cache, "network": self._client.figures(self.base_url)}

    def sync(
        self,
        numbers: Iterable[int],
        progress: Callable[[int, int, int], object] | None = None,
        *,
        images: bool = True,
    ) -> dict[int, FetchError]:
        """Bring the records of *numbers*, and their *images*, into the cache.

        *progress* is called on this thread, after each comic, with how many are done, of how many,
        and the number; what it raises ends the work. Returns the comics that failed, and why.
        """
        wanted = sorted(set(numbers))
        failed: dict[int, FetchError] = {}

        def bring(number: int) -> None:
            if self.record(number).image_url and images:
                self.image(number)

        pool = ThreadPoolExecutor(self._client.settings.connections, "xkcdfs-sync")
        try:
            jobs = {pool.submit(bring, number): number for number in wanted}
            for done, job in enumerate(as_completed(jobs), 1):
                number = jobs[job]
                try:
                    job.result()
                except FetchError as error:
                    failed[number] = error
                if progress:
                    progress(done, len(wanted), number)
        finally:
            pool.shutdown(cancel_futures=True)
            self.save_checked()
        return dict(sorted(failed.items()))

    def _record_url(self, number: int) -> str:
        return f"{self.base_url}/{number}/info.0.json"

    def _image(self, record: Record, url: str | None) -> Image:
        if url is None:
            raise FetchError(self.url(record.number), "this comic has no such image", errno.ENOENT)
        changes = record.number in CHANGING
        life = self._lifetimes.changing_image if changes else self._lifetimes.image
        _, cached = self._document(url, _IMAGE, life)
        if cached.seal and url == record.image_url and not changes:
            left = self._records[record.number][1] - time.monotonic()
            until = min(time.time() + left, cached.fetched + life)
            self._checked[record.number] = Checked(cached.seal, until)
        return Image(cached.body, cached.path, url)

    def _read_index(self, latest: int) -> Mapping[int, IndexEntry]:
        if self._is_current(latest):
            return self._index
        url = f"{self.base_url}/archive/"
        remembered = None if self._index else self.remembered_index()
        if remembered and remembered[1] and latest <= max(remembered[0]):
            self._index = remembered[0]
            return self._index
        try:
            index = self._document(url, _archive_kind(url), 0.0)[0]
        except FetchError:
            if not latest:
                raise
            index = self._index_without_archive(latest)
            self._is_makeshift = True
        else:
            self._is_makeshift = False
        for number in range(max(index) + 1, min(latest, max(index) + MAX_LAG) + 1):
            try:
                record = self.record(number)
            except FetchError as error:
                if not error.missing:
                    raise
            else:
                index[number] = IndexEntry(number, record.title, record.date)
        self._index = index
        self._index_until = time.monotonic() + self._lifetimes.failed
        return index

    def _remembered(self, url: str, kind: Kind[T]) -> tuple[T, Cached] | None:
        cached = self._cache.get(url)
        if cached is None:
            return None
        try:
            return kind.parse(cached.body), cached
        except ValueError:
            return None

    def _is_current(self, latest: int) -> bool:
        # An index that could not be had in full is good for a while too.
        index = self._index
        is_complete = bool(index) and latest <= max(index) and not self._is_makeshift
        return is_complete or (bool(index) and time.monotonic() < self._index_until)

    def _index_without_archive(self, latest: int) -> dict[int, IndexEntry]:
        """The numbers up to *latest*, as mirrors have them that have no such page: titles and dates
        where the cache knows them, no title and the newest comic's date where not."""
        newest = self.record(latest)
        index = {}
        for number in range(1, latest + 1):
            if number != NEVER:
                found = self.remembered_record(number)
                title = found.title if found else ""
                index[number] = IndexEntry(number, title, found.date if found else newest.date)
        return index

    def _document(self, url: str, kind: Kind[T], life: float) -> tuple[T, Cached]:
        return self._flights.run(url, lambda: self._fetch(url, kind, life))

    def _fetch(self, url: str, kind: Kind[T], life: float) -> tuple[T, Cached]:
        cached = self._cache.get(url)
        value: T | None = None
        if cached:
            try:
                value = kind.parse(cached.body)
            except ValueError:
                # Whole, yet not what this version of the program takes.
                self._cache.remove(url)
                cached = None
        if cached and value is not None:
            young = 0 <= time.time() - cached.fetched < life and url not in self._asked_again
            if young or self._client.offline or time.monotonic() < self._believed.get(url, 0.0):
                return value, cached
        self._asked_again.discard(url)
        try:
            answer = self._client.fetch(url, kind, cached.validators if cached else None)
        except FetchError as error:
            if cached is None or value is None:
                raise
            self._believed[url] = time.monotonic() + self._lifetimes.failed
            self._in_vain[url] = error
            return value, cached
        self._in_vain.pop(url, None)
        if answer is not None:
            suffix = f".{image_type(answer.body)}" if kind is _IMAGE else ""
            return answer.value, self._cache.put(url, answer.body, answer.validators, suffix)
        assert cached is not None and value is not None  # only what is cached can be unchanged
        return value, self._cache.renew(cached)


def _record_kind(url: str, number: int | None = None) -> Kind[Record]:
    # JSON tells its own end.
    return Kind(
        "application/json", 4 << 20, lambda body: parse_record(body, url, number), lambda _: True
    )


def _archive_kind(url: str) -> Kind[dict[int, IndexEntry]]:
    return Kind(
        "text/html",
        32 << 20,
        lambda body: parse_archive(body.decode("utf-8", "replace"), url),
        lambda body: body.rstrip().endswith(b"</html>"),
    )


_IMAGE = Kind("image/png, image/jpeg, image/gif", 32 << 20, image_type, ends_like_image)
