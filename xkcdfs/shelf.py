"""The collection as a file system needs it: what is known is told at once, from memory."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import NamedTuple

from xkcdfs.catalogue import Catalogue
from xkcdfs.collection import Collection, Image
from xkcdfs.errors import FetchError
from xkcdfs.facts import Fact
from xkcdfs.records import IndexEntry, Record, repair_transcript, transcript_source

__all__ = ["UNKNOWN_SIZE", "Shelf", "Size"]

log = logging.getLogger(__name__)

#: What a file is said to have before anybody knows: as in sysfs, one page, and not 0, which programs
#: take for "nothing to read".
UNKNOWN_SIZE = 4096


class Size(NamedTuple):
    """The bytes of an image, and whether that is certain."""

    size: int
    exact: bool


class Shelf:
    """What is known about the comics of *collection*. Thread-safe.

    The catalogue is looked up again every *life* seconds, if somebody looks; who looks waits
    *patience* seconds for it and then gets the one that was. Only a method that says so asks the
    site. No thread is started before `start`.
    """

    def __init__(
        self, collection: Collection, *, life: float = 900.0, patience: float = 2.0
    ) -> None:
        self.collection = collection
        self.started = time.time()
        self._life = life
        self._patience = patience
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._until = 0.0
        self._refreshing: Future[Catalogue] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closing = threading.Event()
        self._sizes: dict[int, int] = {}
        self._sizes_2x: dict[int, int] = {}
        self._records: dict[int, Record] = {}

    # ---- life

    def start(self) -> None:
        """Take up what the cache has, without a request."""
        self._pool = ThreadPoolExecutor(2, "xkcdfs-shelf")
        remembered = self.collection.remembered_index()
        if remembered:
            index, is_young = remembered
            self._catalogue = Catalogue(index)
            self._until = time.monotonic() + self._life if is_young else 0.0
            self._pool.submit(self._recall, list(index)[::-1])

    def stop(self) -> None:
        """Start nothing more, and let the next mount know what was checked. Waits for nobody."""
        self._closing.set()
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self.collection.save_checked()

    def _recall(self, numbers: list[int]) -> None:
        """Bring the records and sizes of what is in the cache to memory."""
        try:
            for number in numbers:
                if self._closing.is_set():
                    return
                record = self.collection.remembered_record(number)
                if record:
                    self._records.setdefault(number, record)
                    size = self.collection.remembered_size(record)
                    if size:
                        self._sizes.setdefault(number, size)
        except Exception:
            log.exception("the cache could not be read through")

    # ---- the catalogue

    def catalogue(self) -> Catalogue:
        """What there is. Asks the site when that is not known or too old. Raises FetchError."""
        with self._lock:
            known = self._catalogue
            if known and time.monotonic() < self._until:
                return known
            refresh = self._begin_refresh()
        try:
            return refresh.result(self._patience if known else None)
        except (FetchError, FutureTimeout):
            if known is None:
                raise
            with self._lock:  # nobody else shall wait for this one
                self._until = max(self._until, time.monotonic() + 10.0)
            return known

    def known_catalogue(self) -> Catalogue | None:
        """The catalogue if there is one, however old; no request."""
        return self._catalogue

    def refresh(self) -> Catalogue:
        """Ask the site for new comics now. Raises FetchError."""
        self.collection.expire()
        with self._lock:
            refresh = self._begin_refresh()
        return refresh.result()

    def _begin_refresh(self) -> Future[Catalogue]:
        if self._refreshing is None or self._refreshing.done():
            if self._pool is None:
                raise RuntimeError("not started")
            self._refreshing = self._pool.submit(self._refresh)
        return self._refreshing

    def _refresh(self) -> Catalogue:
        try:
            index = self.collection.index()
        except FetchError:
            with self._lock:
                if self._catalogue:
                    self._until = time.monotonic() + min(self._life, 30.0)
            raise
        known = self._catalogue
        found = known if known and known.index == index else Catalogue(index)
        with self._lock:
            self._catalogue = found
            # The collection itself knows when the site is to be asked; this is only to ask it.
            self._until = time.monotonic() + min(self._life, 60.0)
        return found

    # ---- comics

    def entry(self, number: int) -> IndexEntry:
        """The comic's title and date, without a request once the catalogue is there. Raises
        FileNotFoundError."""
        entry = self.catalogue().index.get(number)
        if entry is None:
            raise FileNotFoundError(f"there is no comic {number}")
        record = self._records.get(number)
        return IndexEntry(number, record.title, record.date) if record else entry

    def record(self, number: int) -> Record:
        """The comic's record; asks the site unless it is known. Raises FetchError."""
        self.entry(number)
        record = self._records[number] = self.collection.record(number)
        return record

    def known_record(self, number: int) -> Record | None:
        """The record if it came to memory before."""
        return self._records.get(number)

    def image(self, number: int) -> Image:
        """The comic's image; asks the site unless it is in the cache. Raises FetchError."""
        self.record(number)
        image = self.collection.image(number)
        self._sizes[number] = len(image.data)
        return image

    def unchanged_images(self) -> Iterator[tuple[IndexEntry, int, float]]:
        """The images in the cache that need neither be checked nor asked for: the comic, the file's
        descriptor (open until the next one), and until when, in seconds since 1970. No request."""
        index = self._catalogue.index if self._catalogue else {}
        for number, image in self.collection.checked_images().items():
            entry = index.get(number)
            fd = self.collection.open_checked(image) if entry else None
            if entry is None or fd is None:
                continue
            try:
                self._sizes.setdefault(number, image.seal.size)
                yield entry, fd, image.until
            finally:
                os.close(fd)

    def image_2x(self, number: int) -> Image:
        """The image in double resolution; asks the site unless it is in the cache. Raises
        FetchError (ENOENT: there is none)."""
        self.record(number)
        image = self.collection.image_2x(number)
        self._sizes_2x[number] = len(image.data)
        return image

    def image_2x_size(self, number: int) -> int | None:
        """How large the image in double resolution is; None until somebody asked for it."""
        return self._sizes_2x.get(number)

    def transcript(self, number: int, *, ask: bool) -> str | None:
        """The repaired transcript; None if that is not known and the site is not to be asked.
        Raises FetchError."""
        source = transcript_source(number)
        if source is None or source not in self.catalogue().index:
            return ""
        record = self.record(source) if ask else self._records.get(source)
        return repair_transcript(record.transcript) if record else None

    def image_size(self, number: int) -> Size:
        """How large the image is, as far as that is known."""
        size = self._sizes.get(number)
        if size is not None:
            return Size(size, True)
        hint = self._hint(number)
        return Size(hint.size if hint and hint.size else UNKNOWN_SIZE, False)

    def image_suffix(self, number: int) -> str:
        """'png', 'jpg' or 'gif', a guess if need be; '' if the comic is known to have no image."""
        record = self._records.get(number)
        if record:
            return (record.image_suffix.lstrip(".") or "png") if record.image_url else ""
        hint = self._hint(number)
        return hint.suffix if hint else "png"

    def _hint(self, number: int) -> Fact | None:
        self.entry(number)
        return self.catalogue().facts.get(number)

    def random(self) -> int:
        """The number of any comic."""
        return random.choice(list(self.catalogue().index))

    # ---- looking

    def known_records(self) -> dict[int, Record]:
        """All records in memory, by number."""
        return dict(self._records)

    def known_images(self) -> int:
        """How many images are known to be in the cache."""
        return len(self._sizes)
