"""The disk cache: documents of one site, each by itself in plain files.

A directory for each site holds, for the document with the key K (the SHA-256 of its URL),

    K             the SHA-256 of the rest; a line of JSON (URL, validators, time); then the body
    K-DIGEST.png  the body instead, if it is an image, so that it can be served by descriptor
    tmp-...       what is being written

There is no database: nothing to lock between processes, nothing that a fork or a network file
system upsets, and damage costs the damaged document alone. Everything is written to a temporary
file, synced and renamed, and checked against its digest when it is read; so a kill, a full disk or
two writers at once leave either a whole document or one that is noticed and asked for again.
The time of last use is the mtime of K, or the time of access of the body's file, which counts the
reads that only the kernel sees (to the day, where the disk is mounted with relatime).

No program can set a file's ctime. So a file that has the inode number, size and ctime that it had
when its digest was checked is what was checked: its `Seal` is unbroken, and it need not be read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from xkcdfs.client import Validators

__all__ = ["Cache", "Cached", "Seal", "default_directory"]

log = logging.getLogger(__name__)

MAX_ENTRY = 16 << 20
STALE = 3600.0  # seconds; a file of no document is on its way for less than that
_KEY = re.compile(r"[0-9a-f]{40}")
_SUFFIX = re.compile(r"\.[a-z]{3,4}")
_FILE = re.compile(r"[0-9a-f]{40}-[0-9a-f]{16}\.[a-z]{3,4}")
_FIELDS = ("url", "etag", "last_modified", "fetched", "suffix", "sha256")


class Seal(NamedTuple):
    """A body's file, by its name, as it was when its digest was checked."""

    name: str
    ino: int
    size: int
    ctime_ns: int


@dataclass(frozen=True)
class Cached:
    """A document from the cache. `path` is the plain file of an image, `seal` what it was like
    when it was checked; None if the body is kept inside the entry, or in memory because it could
    not be written."""

    url: str
    body: bytes
    validators: Validators
    fetched: float  # seconds since 1970: when the site last said that this is what it has
    path: Path | None = None
    seal: Seal | None = field(default=None, compare=False)


def default_directory() -> Path:
    """`xkcdfs` in the user's cache directory ($XDG_CACHE_HOME)."""
    return Path(platformdirs.user_cache_dir("xkcdfs"))


class Cache:
    """Documents of *base_url* below *directory*, in *limit* bytes; past that, the least recently
    used go. Thread-safe, and shared by processes. Never raises for what the disk does: what cannot
    be written stays in memory, up to *memory_limit* bytes, and one line is logged.
    """

    def __init__(
        self, directory: Path, base_url: str, *, limit: int = 1 << 30, memory_limit: int = 64 << 20
    ) -> None:
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", base_url.partition("://")[2]).strip("-.")[:40]
        self.directory = directory / f"{readable}-{_key(base_url.rstrip('/'))[:10]}"
        self.limit = limit
        self._memory_limit = memory_limit
        self._lock = threading.Lock()
        self._size: int | None = None  # None: not counted yet
        self._unsaved: OrderedDict[str, Cached] = OrderedDict()
        self._complained = False
        self._numbers = count()

    def get(self, url: str) -> Cached | None:
        """The document at *url*, checked; None when there is none, or it is damaged (it is removed
        then)."""
        with self._lock:
            if url in self._unsaved:
                self._unsaved.move_to_end(url)
                return self._unsaved[url]
        key = _key(url)
        # Another process may put a new version between the reading of the entry and of its file.
        for _ in range(2):
            if (found := self._read(key, url)) is not None:
                with contextlib.suppress(OSError):
                    os.utime(self.directory / key)
                return found
        return None

    def size(self, url: str) -> int | None:
        """How many bytes the document at *url* has, by its file's size alone: no content is read
        and nothing is checked. None when there is none."""
        with self._lock:
            if url in self._unsaved:
                return len(self._unsaved[url].body)
        try:
            entry = _contents(self.directory / _key(url), MAX_ENTRY)
            header = _header(entry)
            if header is None or header["url"] != url:
                return None
            if not header["suffix"]:
                return len(entry.split(b"\n", 2)[2])
            return os.stat(self.directory / self._name(_key(url), header)).st_size
        except OSError:
            return None

    def open_sealed(self, seal: Seal) -> int | None:
        """A descriptor of the file that *seal* is of, for reading; the caller closes it. None if
        the file is gone, or somebody may have written to it since it was checked."""
        if not _FILE.fullmatch(seal.name):
            return None
        try:
            fd = _open(self.directory / seal.name)
        except OSError:
            return None
        if _seal(seal.name, os.fstat(fd)) != seal:
            os.close(fd)
            return None
        return fd

    def usage(self) -> int:
        """How many bytes the documents on the disk have, all together."""
        with self._lock:
            if self._size is None:
                self._size = self._shrink("")
            return self._size

    def put(self, url: str, body: bytes, validators: Validators, suffix: str = "") -> Cached:
        """Keep *body* as the document at *url*; with a *suffix* such as '.png', in a file of its
        own."""
        if suffix and not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"no file suffix: {suffix!r}")
        key = _key(url)
        digest = hashlib.sha256(body).hexdigest()
        name = f"{key}-{digest[:16]}{suffix}" if suffix else ""
        cached = Cached(url, body, validators, time.time(), self.directory / name if name else None)
        header = json.dumps({
            "url": url, "etag": validators.etag, "last_modified": validators.last_modified,
            "fetched": cached.fetched, "suffix": suffix, "sha256": digest,
        }).encode()  # fmt: skip
        entry = header + b"\n" + (b"" if name else body)
        entry = hashlib.sha256(entry).hexdigest().encode() + b"\n" + entry
        try:
            before = self._file_of(key)
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if name:
                cached = replace(cached, seal=_seal(name, self._write(name, body)))
            self._write(key, entry)
            if before and before != name:
                self._unlink(before)
        except OSError as error:
            self._complain(error)
            return self._remember(replace(cached, path=None, seal=None))
        with self._lock:
            self._complained = False
            self._unsaved.pop(url, None)
        self._added(len(entry) + (len(body) if name else 0), keep=key)
        return cached

    def renew(self, cached: Cached) -> Cached:
        """The site says that *cached* has not changed: it is as good as fetched now."""
        suffix = cached.path.suffix if cached.path else ""
        return self.put(cached.url, cached.body, cached.validators, suffix)

    def remove(self, url: str) -> None:
        """Forget the document at *url*."""
        with self._lock:
            self._unsaved.pop(url, None)
        self._discard(_key(url))

    def _read(self, key: str, url: str) -> Cached | None:
        try:
            entry = _contents(self.directory / key, MAX_ENTRY)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._complain(error)
            return None
        header = _header(entry)
        if header is None or header["url"] != url:
            self._discard(key)
            return None
        validators = Validators(header["etag"], header["last_modified"])
        if not header["suffix"]:
            body = entry.split(b"\n", 2)[2]
            return Cached(url, body, validators, header["fetched"])
        path = self.directory / self._name(key, header)
        try:
            # Before it is read: who writes to it meanwhile breaks the seal.
            seal = _seal(path.name, os.lstat(path))
            file: bytes | None = _contents(path, self.limit)
        except FileNotFoundError:
            file = None
        except OSError:
            file = b""
        if file is not None and hashlib.sha256(file).hexdigest() == header["sha256"]:
            return Cached(url, file, validators, header["fetched"], path, seal)
        if self._file_of(key) == path.name:
            if file is not None:  # and not evicted by another process just now
                log.warning("%s is damaged; %s will be fetched again", path, url)
            self._discard(key)
        return None

    def _file_of(self, key: str) -> str:
        """The name of the file that the entry *key* has beside it, or ''."""
        try:
            header = _header(_contents(self.directory / key, MAX_ENTRY))
        except OSError:
            return ""
        if header is None or not header["suffix"]:
            return ""
        return self._name(key, header)

    @staticmethod
    def _name(key: str, header: Mapping[str, Any]) -> str:
        return f"{key}-{header['sha256'][:16]}{header['suffix']}"

    def _write(self, name: str, data: bytes) -> os.stat_result:
        # The random part keeps processes of different PID namespaces apart.
        unique = f"tmp-{os.getpid()}-{next(self._numbers)}-{os.urandom(4).hex()}"
        temporary = self.directory / unique
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(fd)
                temporary.replace(self.directory / name)
                return os.fstat(fd)  # now: being renamed changes ctime
        except BaseException:
            self._unlink(unique)
            raise

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self.directory / name).unlink()

    def _discard(self, key: str) -> None:
        name = self._file_of(key)
        self._unlink(key)
        if name:
            self._unlink(name)

    def _remember(self, cached: Cached) -> Cached:
        # An older version must not come back from the disk when memory has let this one go.
        self._discard(_key(cached.url))
        with self._lock:
            self._unsaved[cached.url] = cached
            self._unsaved.move_to_end(cached.url)
            while sum(len(kept.body) for kept in self._unsaved.values()) > self._memory_limit:
                self._unsaved.popitem(last=False)
        return cached

    def _complain(self, error: OSError) -> None:
        with self._lock:
            first, self._complained = not self._complained, True
        if first:
            log.warning("the cache in %s cannot be used: %s", self.directory, error)

    def _added(self, size: int, keep: str) -> None:
        with self._lock:
            if self._size is not None:
                self._size += size
            if self._size is None or self._size > self.limit:
                self._size = self._shrink(keep)

    def _shrink(self, keep: str) -> int:
        """Remove what was left over by a kill, and the least recently used documents while all
        together are over the limit; returns the bytes that remain."""
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        entries: set[str] = set()
        files: dict[str, list[tuple[str, float]]] = {}
        try:
            listing = list(os.scandir(self.directory))
        except OSError:
            return 0
        now = time.time()
        for item in listing:
            try:
                stat = item.stat(follow_symlinks=False)
            except OSError:
                continue  # another process removed it
            key = item.name[:40]
            if item.name.startswith("tmp-"):
                if now - stat.st_mtime > STALE:
                    self._unlink(item.name)
            elif _KEY.fullmatch(key):
                sizes[key] = sizes.get(key, 0) + stat.st_size
                if item.name == key:
                    used[key] = max(used.get(key, 0.0), stat.st_mtime)
                    entries.add(key)
                else:
                    if stat.st_atime_ns > stat.st_mtime_ns:  # else nobody has read it yet
                        used[key] = max(used.get(key, 0.0), stat.st_atime)
                    files.setdefault(key, []).append((item.name, stat.st_mtime))
        for key in set(files) - entries:
            if all(now - mtime > STALE for _, mtime in files[key]):
                for name, _ in files[key]:
                    self._unlink(name)
                del sizes[key]
        total = sum(sizes.values())
        if total <= self.limit:
            return total
        # Below the limit by a tenth, so that the next document does not start this again.
        for key in sorted(entries, key=used.__getitem__):
            if total <= self.limit * 9 // 10:
                break
            if key != keep:
                self._unlink(key)
                for name, _ in files.get(key, []):
                    self._unlink(name)
                total -= sizes[key]
        return total


def _key(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _seal(name: str, found: os.stat_result) -> Seal:
    return Seal(name, found.st_ino, found.st_size, found.st_ctime_ns)


def _open(path: Path) -> int:
    # O_NONBLOCK: a FIFO that somebody put there must not hold us.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)


def _contents(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; OSError for all else, and for one larger than *limit*."""
    fd = _open(path)
    with open(fd, "rb", buffering=0) as file:
        size = os.fstat(fd).st_size
        if size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.readall()


def _header(entry: bytes) -> dict[str, Any] | None:
    """The JSON line of an entry that is what was written; None for all else."""
    digest, _, rest = entry.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        return None
    try:
        header = json.loads(rest.partition(b"\n")[0])
        known = {name: header[name] for name in _FIELDS}
    except (ValueError, KeyError, TypeError):
        return None  # whole, but of another version of this program
    return known if not known["suffix"] or _SUFFIX.fullmatch(known["suffix"]) else None
