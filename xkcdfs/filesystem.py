"""The tree: which file shows what."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from fastfuse import Attr, Content, Context, FileSystem, FuseError
from xkcdfs.catalogue import Catalogue
from xkcdfs.collection import Image
from xkcdfs.control import control
from xkcdfs.errors import FetchError
from xkcdfs.gallery import alt_script, gallery
from xkcdfs.lookers import Lookers
from xkcdfs.search import Search
from xkcdfs.shelf import UNKNOWN_SIZE, Shelf
from xkcdfs.texts import index_tsv, page_html, plain, url_file

__all__ = ["comics"]

WHOLE = 5.0  # seconds that index.tsv and index.html stay as they are
LISTED = 60.0  # seconds that a listing is believed: then new comics appear
CONTENT = 900.0  # the site is asked far less often: this is for how long nobody asks the cache
TEXTS = ("title.txt", "alt.txt", "transcript.txt", "info.json", "link.url", "page.html")
MIME = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "txt": "text/plain",
        "json": "application/json", "html": "text/html", "url": "application/x-mswinurl"}  # fmt: skip

Attributes = Mapping[str, int]
K = TypeVar("K")
V = TypeVar("V")


def comics(shelf: Shelf) -> FileSystem:
    """xkcd as files."""
    fs = FileSystem(ttl=LISTED, negative_ttl=10)
    fs.init(shelf.start)
    fs.destroy(shelf.stop)
    fs.include("/.xkcdfs", control(shelf, lambda: fs.invalidate("/**")))
    names = _Names(shelf)
    lookers = Lookers()
    excuses: dict[str, tuple[float, FetchError]] = {}

    # ---- /353: the image

    @fs.list("/")
    def numbers() -> Iterator[tuple[str, Attributes]]:
        for number in shelf.catalogue().index:
            yield str(number), image_attributes(number)

    @fs.stat("/:number<int>")
    def number_attributes(number: int, path: str, ctx: Context) -> Attributes:
        told = image_attributes(number)
        if "st_size_guess" in told and not failed(path) and lookers.only_wants(ctx.pid):
            with excused(path), learning(number, path):
                shelf.image(number)
            return image_attributes(number)
        return told

    def failed(path: str) -> bool:
        """Whether the size was looked up just now, in vain."""
        return time.monotonic() < excuses.get(path, (0.0, None))[0]

    def not_again(path: str) -> None:
        """Raise what the stat ran into that this open follows, without asking the site again."""
        until, error = excuses.pop(path, (0.0, None))
        if error and time.monotonic() < until:
            raise error

    def image_attributes(number: int) -> Attributes:
        mtime = shelf.entry(number).mtime_ns
        if not shelf.image_suffix(number):
            return _link(mtime, no_image(number))
        return _file(mtime, *shelf.image_size(number))

    @fs.read("/:number<int>", ttl=CONTENT)
    def image(number: int, path: str, ctx: Context) -> object:
        not_for_an_icon(number, ctx)
        with learning(number, path):
            not_again(path)
            return _served(shelf.image(number))

    def not_for_an_icon(number: int, ctx: Context) -> None:
        """Let a file manager do without the image: it looks into all of them before it shows one."""
        if not shelf.image_size(number).exact and lookers.only_looks(ctx.pid, number):
            raise FuseError(errno.EAGAIN, f"{number} is not in the cache, for an icon")

    @fs.init
    def serve_unchanged() -> None:
        """Put in what the read handler would give, where nothing has to be read to know it."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # the rest is for all else
        owner, group = os.geteuid(), os.getegid()
        for entry, fd, until in islice(shelf.unchanged_images(), files):
            life = max(0.0, min(until - time.time(), CONTENT))
            content, mtime = Content.from_fd(fd), entry.mtime_ns
            attr = Attr(
                mode=stat.S_IFREG | 0o444, size=content.size, uid=owner, gid=group,
                atime_ns=mtime, mtime_ns=mtime, ctime_ns=mtime, attr_timeout=life,
            )  # fmt: skip
            ino = fs.tree.set_entry(1, str(entry.number).encode(), attr, life)
            fs.tree.set_content(ino, content, life)

    @fs.readlink("/:number<int>")
    def no_image(number: int) -> str:
        """To its folder, where the rest is."""
        return f"comics/{names.folder(number)}"

    @contextlib.contextmanager
    def excused(path: str) -> Iterator[None]:
        """While a size is looked up: if it cannot be had, a guess has to do."""
        try:
            yield
        except FetchError as error:
            if len(excuses) > 100:
                excuses.clear()
            excuses[path] = time.monotonic() + 1, error
        except FuseError:
            pass  # it is no file, as those will see who look again

    @contextlib.contextmanager
    def learning(number: int, path: str) -> Iterator[None]:
        """While *path* is read from the site: what was a guess about other files is ended."""
        guessed = shelf.image_suffix(number)
        unknown = shelf.known_record(number) is None, shelf.image_size(number).exact
        try:
            yield
        except FetchError as error:
            if guessed and error.missing and not shelf.image_suffix(number):
                # There is no image. ESTALE has the kernel look the name up again.
                fs.invalidate(path=path)
                raise FuseError(errno.ESTALE, str(error)) from error
            raise
        finally:
            if unknown != (shelf.known_record(number) is None, shelf.image_size(number).exact):
                folder = f"/comics/{names.folder(number)}"
                image = f"{folder}/image.{guessed}"
                for other in (f"/{number}", folder, image, *(f"{folder}/{t}" for t in TEXTS)):
                    ino = fs.tree.find(other)
                    if ino is not None and other != path:
                        fs.tree.invalidate(ino)

    @fs.readlink("/latest")
    def latest() -> str:
        return str(shelf.catalogue().latest)

    @fs.readlink("/random", ttl=0)
    def random() -> str:
        return str(shelf.random())

    # ---- /comics/0353-python/: all that there is of one

    @fs.list("/comics")
    def folders() -> Iterator[tuple[str, Attributes]]:
        catalogue = shelf.catalogue()
        for folder, number in catalogue.numbers.items():
            yield folder, _directory(catalogue.index[number].mtime_ns)

    @fs.stat("/comics/:folder")
    def folder_attributes(folder: str) -> Attributes:
        return _directory(shelf.entry(names.number(folder)).mtime_ns)

    @fs.list("/comics/:folder")
    def files(folder: str) -> Iterator[tuple[str, Attributes]]:
        number = names.number(folder)
        suffix = shelf.image_suffix(number)
        shown = [f"image.{suffix}"] if suffix else []
        if suffix and shelf.image_2x_size(number):
            shown.append(f"image_2x.{suffix}")
        for file in (*shown, *TEXTS):
            yield file, attributes_of(number, file)

    @fs.stat("/comics/:folder/:file")
    def file_attributes(folder: str, file: str, path: str, ctx: Context) -> Attributes:
        number = names.number(folder)
        told = attributes_of(number, file)
        if "st_size_guess" in told and not failed(path) and lookers.only_wants(ctx.pid):
            with excused(path), learning(number, path):
                content_of(number, file)
            return attributes_of(number, file)
        return told

    def attributes_of(number: int, file: str) -> Attributes:
        mtime = shelf.entry(number).mtime_ns
        match file.split("."):
            case ["image", "png" | "jpg" | "gif"] if shelf.image_suffix(number):
                return _file(mtime, *shelf.image_size(number))
            case ["image_2x", "png" | "jpg" | "gif"] if shelf.image_suffix(number):
                size = shelf.image_2x_size(number) or len(shelf.image_2x(number).data)
                return _file(mtime, size)
        known = _text(shelf, number, file, ask=False)
        return _file(mtime, UNKNOWN_SIZE, False) if known is None else _file(mtime, len(known))

    @fs.read("/comics/:folder/:file", ttl=CONTENT)
    def content(folder: str, file: str, path: str, ctx: Context) -> object:
        number = names.number(folder)
        if file.startswith("image"):
            not_for_an_icon(number, ctx)
        with learning(number, path):
            not_again(path)
            return content_of(number, file)

    def content_of(number: int, file: str) -> object:
        if file.startswith("image_2x."):
            return _served(shelf.image_2x(number))
        if file.startswith("image."):
            return _served(shelf.image(number))
        return _text(shelf, number, file, ask=True)

    # ---- links into /comics, by title, by date, by words

    @fs.list("/by-title")
    def titles() -> Iterator[tuple[str, Attributes]]:
        catalogue = shelf.catalogue()
        return links(catalogue.titles, catalogue, "..")

    @fs.readlink("/by-title/:title")
    def by_title(title: str) -> str:
        return f"../comics/{names.folder(_in(shelf.catalogue().titles, title))}"

    @fs.list("/by-date")
    def years() -> Iterator[tuple[str, int]]:
        return ((year, stat.S_IFDIR | 0o555) for year in shelf.catalogue().dates)

    @fs.list("/by-date/:year")
    def months(year: str) -> Iterator[tuple[str, int]]:
        return ((month, stat.S_IFDIR | 0o555) for month in _in(shelf.catalogue().dates, year))

    @fs.list("/by-date/:year/:month")
    def days(year: str, month: str) -> Iterator[tuple[str, Attributes]]:
        catalogue = shelf.catalogue()
        return links(_in(_in(catalogue.dates, year), month), catalogue, "../../..")

    @fs.readlink("/by-date/:year/:month/:name")
    def by_date(year: str, month: str, name: str) -> str:
        found = _in(_in(_in(shelf.catalogue().dates, year), month), name)
        return f"../../../comics/{names.folder(found)}"

    @fs.list("/search")
    def searches() -> list[str]:
        return []  # what is looked up, is there

    @fs.list("/search/:words")
    def results(words: str) -> Iterator[tuple[str, Attributes]]:
        return links(names.search(words), shelf.catalogue(), "../..")

    @fs.readlink("/search/:words/:name")
    def result(words: str, name: str) -> str:
        return f"../../comics/{names.folder(_in(names.search(words), name))}"

    def links(
        numbers: Mapping[str, int], catalogue: Catalogue, up: str
    ) -> Iterator[tuple[str, Attributes]]:
        for name, number in numbers.items():
            target = f"{up}/comics/{catalogue.folders[number]}"
            yield name, _link(catalogue.index[number].mtime_ns, target)

    # ---- everything in one file

    def whole(file: str, make: Callable[[], str]) -> None:
        kept: dict[str, bytes] = {}
        until = 0.0

        @fs.read(f"/{file}", ttl=WHOLE)
        def text() -> bytes:
            nonlocal until
            if time.monotonic() > until:
                kept["text"] = make().encode()
                until = time.monotonic() + WHOLE
            return kept["text"]

        @fs.stat(f"/{file}", ttl=WHOLE)
        def attributes() -> Attributes:
            catalogue = shelf.catalogue()
            return _file(catalogue.index[catalogue.latest].mtime_ns, len(text()))

    url = shelf.collection.base_url
    whole("index.tsv", lambda: index_tsv(shelf.catalogue(), shelf.known_records(), url))
    whole("index.html", lambda: gallery(shelf))

    # What the gallery loads: browsers read a file as far as stat(2) said before they opened it, so
    # here, where nobody lists anything, each size is looked up.

    @fs.list("/.xkcdfs/gallery")
    def unlisted() -> list[str]:
        return []

    @fs.stat("/.xkcdfs/gallery/:number<int>")
    def picture_attributes(number: int) -> Attributes:
        return _file(shelf.entry(number).mtime_ns, len(shelf.image(number).data))

    @fs.read("/.xkcdfs/gallery/:number<int>", ttl=CONTENT)
    def picture(number: int) -> object:
        return _served(shelf.image(number))

    @fs.read("/.xkcdfs/gallery/:number<int>.js", ttl=CONTENT)
    def alt(number: int) -> str:
        return alt_script(number, shelf.record(number).alt)

    # ---- extended attributes

    @fs.xattr("/:number<int>")
    def of_number(number: int) -> Mapping[str, str]:
        return _Xattrs(shelf, number, "image")

    @fs.xattr("/comics/:folder")
    def of_folder(folder: str) -> Mapping[str, str]:
        return _Xattrs(shelf, names.number(folder))

    @fs.xattr("/comics/:folder/:file")
    def of_file(folder: str, file: str) -> Mapping[str, str]:
        return _Xattrs(shelf, names.number(folder), file)

    return fs


class _Names:
    """From names to numbers and back. FileNotFoundError for what is no name."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._search: tuple[object, int, Search] | None = None

    def number(self, folder: str) -> int:
        return _in(self._shelf.catalogue().numbers, folder)

    def folder(self, number: int) -> str:
        return _in(self._shelf.catalogue().folders, number)

    def search(self, words: str) -> dict[str, int]:
        """Names of links, of which the first is the best, to what has the *words*."""
        if words.startswith("."):  # a probe of some program, not a word
            raise FileNotFoundError(words)
        catalogue, records = self._shelf.catalogue(), self._shelf.known_records()
        if self._search is None or self._search[:2] != (catalogue, len(records)):
            self._search = catalogue, len(records), Search(catalogue, records)
        found = self._search[2].find(words)
        if not found:
            raise FileNotFoundError(f"no comic has {words!r}")
        digits = len(str(len(found)))
        return {f"{rank:0{digits}d}-{self.folder(n)}": n for rank, n in enumerate(found, 1)}


class _Xattrs(Mapping[str, str]):
    """The extended attributes of a file of a comic. The names are there at once; the values that
    only the site knows are asked for when somebody reads them."""

    def __init__(self, shelf: Shelf, number: int, file: str = "") -> None:
        self._shelf = shelf
        self._number = number
        self._file = file
        self._values: dict[str, Callable[[], str]] = {
            "user.xkcd.num": lambda: str(number),
            "user.xkcd.title": lambda: shelf.entry(number).title,
            "user.xkcd.alt": lambda: shelf.record(number).alt,
            "user.xkcd.date": lambda: shelf.entry(number).date.isoformat(),
            "user.xkcd.url": lambda: shelf.collection.url(number),
        }
        if file:
            self._values["user.mime_type"] = self._mime

    def __getitem__(self, name: str) -> str:
        return self._values[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _mime(self) -> str:
        suffix = self._file.rpartition(".")[2]
        if self._file.startswith("image"):
            suffix = self._shelf.record(self._number).image_suffix.lstrip(".")
        return MIME.get(suffix, "application/octet-stream")


def _text(shelf: Shelf, number: int, file: str, *, ask: bool) -> bytes | None:
    """The text *file* of a comic; None if the site had to be asked and is not to be."""
    if file == "title.txt":
        return plain(shelf.entry(number).title).encode()
    if file == "link.url":
        return url_file(shelf.collection.url(number)).encode()
    if file not in TEXTS:
        raise FileNotFoundError(file)
    if file == "transcript.txt":
        transcript = shelf.transcript(number, ask=ask)
        return None if transcript is None else plain(transcript).encode()
    record = shelf.record(number) if ask else shelf.known_record(number)
    if record is None:
        return None
    if file == "info.json":
        return record.source
    if file == "alt.txt":
        return plain(record.alt).encode()
    transcript = shelf.transcript(number, ask=ask)
    if transcript is None:
        return None
    suffix = record.image_suffix
    double = f"image_2x{suffix}" if shelf.image_2x_size(number) else None
    url = shelf.collection.url(number)
    image = f"image{suffix}" if suffix else ""
    return page_html(record, url, image, double, transcript).encode()


def _served(image: Image) -> object:
    """The image as root can have it from the kernel alone: by the cache's file; else its bytes."""
    if image.path and os.geteuid() == 0:
        with contextlib.suppress(OSError):  # evicted just now, or too many are open
            return Content(image.path)
    return image.data


def _in(table: Mapping[K, V], name: K) -> V:
    try:
        return table[name]
    except KeyError:
        raise FileNotFoundError(name) from None


def _file(mtime_ns: int, size: int, exact: bool = True) -> Attributes:
    told = "st_size" if exact else "st_size_guess"
    return {"st_mode": stat.S_IFREG | 0o444, "st_mtime_ns": mtime_ns, told: size}


def _directory(mtime_ns: int) -> Attributes:
    return {"st_mode": stat.S_IFDIR | 0o555, "st_mtime_ns": mtime_ns}


def _link(mtime_ns: int, target: str) -> Attributes:
    mode = stat.S_IFLNK | 0o777
    return {"st_mode": mode, "st_mtime_ns": mtime_ns, "st_size": len(target.encode())}
