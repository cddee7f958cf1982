"""Places: a path with the routes that match it, and what their handlers say about it."""

from __future__ import annotations

import logging
import os
import pathlib
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from errno import EACCES, ENOENT, ENOTDIR, EPERM
from typing import Any, NamedTuple

from fastfuse.core.content import Content
from fastfuse.core.types import FOREVER, Attr, Context
from fastfuse.errors import FuseError
from fastfuse.routes.attributes import TYPES, Said
from fastfuse.routes.calling import items, run
from fastfuse.routes.registration import Handler
from fastfuse.routes.results import Reader, result
from fastfuse.routes.router import Match, Resolution

log = logging.getLogger("fastfuse")


@dataclass
class Listing:
    """What a directory holds: the type of each name (0: unknown), and the attributes of some."""

    names: dict[bytes, int]
    said: dict[bytes, Said]
    ttl: float
    complete: bool = False


@dataclass
class Found:
    """What is known of a path; *size* if it is known better than what was said, the rest as far as it was asked."""

    said: Said
    mode: int
    ttl: float
    size: int | None = None
    sized: bool = True
    content: Content | Reader | None = None
    listing: Listing | None = None
    link: bytes | None = None

    def attr(self, since_ns: int) -> Attr:
        """The attributes, which nobody said more precisely than since *since_ns*."""
        # A guess is for who asked: the next one may be worth a better answer.
        ttl = 0 if self.said.guess and self.size is None else self.ttl
        return self.said.attr(self.mode, since_ns, ttl, self.size)


class What(NamedTuple):
    """A handler and what it was asked about, in words only when they are needed."""

    match: Match[Handler] | None
    path: str

    def __str__(self) -> str:
        return f"route {self.match.route if self.match else None} of {self.path!r}"


class Place:
    """A path, the routes that match it, and who asks."""

    def __init__(self, path: str, resolution: Resolution[Handler], ctx: Context) -> None:
        self.path = path
        self.resolution = resolution
        self.ctx = ctx

    def child(self, name: bytes) -> Place:
        """The place of a name in this directory."""
        below = os.fsdecode(name)
        return Place(f"{self.path.rstrip('/')}/{below}", self.resolution.child(below), self.ctx)

    def handler(self, kind: str) -> Handler | None:
        """The handler of *kind* that wins."""
        match = self.resolution.get(kind)
        return None if match is None else match.route.value

    def what(self, kind: str) -> What:
        """The handler of *kind*, for the log."""
        return What(self.resolution.get(kind), self.path)

    async def ask(self, kind: str, **given: Any) -> Any:
        """What the handler of *kind* says. Raises FuseError; EPERM if there is none."""
        match = self.resolution.get(kind)
        if match is None:
            raise FuseError(EPERM, f"{self.path}: no route for {kind}")
        return await run(
            What(match, self.path),
            match.route.value.call,
            match.params,
            path=self.path,
            ctx=self.ctx,
            **given,
        )

    async def source(self) -> Content | Reader:
        """What the read handler gives. Raises as `ask`; EACCES if there is none."""
        handler = self.handler("read")
        if handler is None:
            raise FuseError(EACCES, f"{self.path}: no route to read it")
        return await result(await self.ask("read"), handler.encoding, self.what("read"))

    async def link(self) -> bytes:
        """What the readlink handler gives."""
        target = await self.ask("readlink")
        return os.fsencode(await run(self.what("readlink"), os.fspath, target))

    async def listing(self) -> Listing:
        """What the routes spell out below, and what the list handler gives."""
        handler = self.handler("list")
        listing = Listing({}, {}, FOREVER)
        for name in self.resolution.static_children:
            child = self.resolution.child(name)
            kind = type_of(child)
            if kind or child.get("stat") is not None:
                listing.names[os.fsencode(name)] = kind
        if handler is None:
            return listing
        listing.ttl = handler.ttl
        what = self.what("list")
        entries = await run(what, _entries, await self.ask("list"))
        for item in await items(what, entries):
            name, given = item if isinstance(item, tuple) else (item, None)
            encoded = _name(name)
            if encoded is None:
                log.error("%s gave %r, which is not a name: left out", what, name)
                continue
            kind = type_of(self.resolution.child(os.fsdecode(encoded)))
            if given is not None:
                said = await run(what, Said, given)
                kind = stat.S_IFMT(said.mode) or kind
                if kind:
                    listing.said[encoded] = said
            listing.names[encoded] = kind
        listing.complete = handler.complete
        return listing

    async def find(self, *, writing: int | None = None, known: Content | None = None) -> Found:
        """What is said of this path. Raises FuseError: ENOENT if there is none.

        A file that somebody writes has *writing* bytes now; *known* is what it holds, if that still
        holds. A handler is asked for the whole file only where nobody says its size, and only if
        its ttl lets others make use of it.
        """
        handler = self.handler("stat")
        said = Said(None)
        found = Found(said, 0, FOREVER)
        if handler is not None:
            given = await self.ask("stat")
            found.said = said = await run(self.what("stat"), Said, given)
            found.ttl = handler.ttl
        kind = stat.S_IFMT(said.mode)
        if self.path == "/":
            kind = stat.S_IFDIR
        if not kind:
            kind = await self._type(found)
        found.mode = self.mode(kind)
        asked = handler is not None
        if kind == stat.S_IFREG:
            await self._size(found, asked, writing, known)
        elif not asked:
            await self._exists(found, kind)
        return found

    async def _type(self, found: Found) -> int:
        types = self.resolution.types(TYPES)
        if len(types) == 1:
            return next(iter(types))
        asked = self.handler("stat") is not None
        if stat.S_IFDIR in types and self.handler("list") is not None and not asked:
            # Routes for a file and for a directory have this path: the list handler knows.
            try:
                found.listing = await self.listing()
                return stat.S_IFDIR
            except FuseError as error:
                if error.errno != ENOTDIR:
                    raise
        for kind in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
            if kind in types:
                return kind
        raise FuseError(ENOENT)

    async def _size(self, found: Found, asked: bool, writing: int | None, known: Content | None) -> None:
        handler = self.handler("read")
        if writing is not None:
            found.size, found.sized, found.ttl = writing, False, 0
        elif known is not None:
            found.size = known.size
        elif asked:
            found.sized = found.said.sized
        elif handler is not None:
            found.ttl = handler.ttl
            found.sized = False
            if handler.ttl > 0 and not handler.is_generator and not self.hooked:
                try:
                    found.content = await self.source()
                except FuseError as error:
                    # To read it is forbidden, to look at it is not.
                    if error.errno not in (EACCES, EPERM):
                        raise
                if isinstance(found.content, Content):
                    found.size = found.content.size
                    found.sized = True
                    if self.writable:
                        found.content = None

    async def _exists(self, found: Found, kind: int) -> None:
        # A path with parameters may have a name that the handler refuses.
        name = "list" if kind == stat.S_IFDIR else "readlink"
        match = self.resolution.get(name)
        if match is None:
            return
        handler = match.route.value
        if kind == stat.S_IFLNK:
            found.ttl = handler.ttl
            if handler.ttl > 0:
                found.link = await self.link()
                found.size = len(found.link)
        elif match.route.pattern.names and handler.ttl > 0 and self.path != "/":
            found.ttl = handler.ttl
            if found.listing is None:
                found.listing = await self.listing()

    @property
    def writable(self) -> bool:
        """Whether programs may write it: then what it holds is no fact, and each open asks."""
        return self.handler("write") is not None

    @property
    def hooked(self) -> bool:
        """Whether somebody wants to know of each open."""
        return self.handler("open") is not None or self.handler("release") is not None

    def mode(self, kind: int) -> int:
        """The mode of a path of type *kind* where no handler says it."""
        if kind == stat.S_IFDIR:
            return kind | 0o755
        if kind == stat.S_IFLNK:
            return kind | 0o777
        readable = 0o444 if self.handler("read") else 0
        return kind | readable | (0o200 if self.handler("write") else 0)


def type_of(resolution: Resolution[Handler]) -> int:
    """The S_IF* that the routes tell, 0 if they tell none or several."""
    types = resolution.types(TYPES)
    return next(iter(types)) if len(types) == 1 else 0


def _entries(given: Any) -> Any:
    if isinstance(given, (str, bytes)) or not (isinstance(given, Iterable) or hasattr(given, "__aiter__")):
        raise TypeError(f"a list handler gives names, not {given!r}")
    return given


def _name(given: object) -> bytes | None:
    if isinstance(given, (pathlib.PurePath, os.DirEntry)):
        given = given.name
    try:
        name = os.fsencode(given)  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        return None
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > 255:
        return None
    return name
