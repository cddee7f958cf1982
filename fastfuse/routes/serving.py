"""Serving: what the kernel asks becomes calls of handlers, and what they say becomes facts.

A fact (an entry, attributes, a listing, a link's target, a content) is put into the tree, where C
finds it until its ttl ends. What is no fact, because it differs from open to open, is answered
here each time: streams, functions of (size, offset), files that somebody writes, hooked opens.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Callable
from errno import ENOENT
from typing import TYPE_CHECKING, Protocol

from fastfuse.core.content import Content
from fastfuse.core.tree import Tree
from fastfuse.core.types import FOREVER, Context, FileInfo
from fastfuse.errors import PUBLISHED, UNSHARED, FuseError, Published, Unshared
from fastfuse.operations import Operations
from fastfuse.routes.attributes import Said
from fastfuse.routes.calling import drive
from fastfuse.routes.places import Found, Listing, Place
from fastfuse.routes.registration import Handler
from fastfuse.routes.results import Parts, Reader
from fastfuse.routes.router import Router

if TYPE_CHECKING:
    from fastfuse.operations import Answer, Opened

log = logging.getLogger("fastfuse")

PREPARED = 5.0  # seconds for which a stream that a lookup came upon waits for an open


class Opening:
    """An open file that is answered here; *reader* None: its content is served in C."""

    def __init__(self, place: Place, flags: int, reader: Reader | None) -> None:
        self.place = place
        self.flags = flags
        self.reader = reader

    async def read(self, size: int, off: int) -> bytes:
        """As Reader.read."""
        assert self.reader is not None
        return await self.reader.read(size, off)

    async def close(self) -> None:
        """The last descriptor is gone."""
        if self.reader is not None:
            await self.reader.close()


class Written(Protocol):
    """A file that somebody writes just now."""

    async def size(self) -> int | None:
        """Bytes so far; None while nothing has been written."""


class Serving(Operations):
    """The operations of a file system whose tree is all that there is."""

    def __init__(self, tree: Tree) -> None:
        self.tree: Tree = tree
        self.inits: list[Callable[[], object]] = []
        self.destroys: list[Callable[[], object]] = []

    def init(self) -> None:
        """Call the functions that the file system's init registered."""
        for function in self.inits:
            function()

    def destroy(self) -> None:
        """Call the functions that the file system's destroy registered."""
        for function in self.destroys:
            function()


class Reading(Serving):
    """The operations of a file system that nobody can change."""

    coalesce = frozenset({"lookup", "getattr", "open", "opendir", "readlink"})

    def __init__(self, router: Router[Handler], tree: Tree) -> None:
        super().__init__(tree)
        self.router = router
        self.since_ns = time.time_ns()
        #: Another number after each change: what a handler was asked before one is not kept after it.
        self.changes = 0
        self._ticks = itertools.count(1)
        self.written: dict[str, Written] = {}
        #: Paths whose handlers somebody hands pieces to just now: what they say is true for the moment only.
        self.unsettled: Counter[str] = Counter()
        self.openings: dict[int, Opening] = {}
        self._numbers = itertools.count(1)
        # By path; with when they end, and `changes` when they were made.
        self._prepared: dict[str, tuple[float, int, Reader]] = {}
        self._complete: dict[str, tuple[float, int, frozenset[bytes]]] = {}

    def destroy(self) -> None:
        """Close the streams that nobody opened, and call what destroy registered."""
        while self._prepared:
            rest = drive(self._prepared.popitem()[1][2].close())
            if rest is not None:
                rest.close()  # there is no loop any more
        super().destroy()

    def change(self) -> None:
        """What handlers are asked now may be outdated when they answer. From any thread."""
        self.changes = next(self._ticks)

    def end(self, ino: int | None, *, tell: bool) -> None:
        """End what was said of *ino*, which may be gone meanwhile; *tell* the kernel too."""
        if ino is not None:
            with contextlib.suppress(FuseError):
                self.tree.invalidate(ino, tell=tell)

    def say_root(self) -> None:
        """Let the root be asked for, or say what it is, for good, if nobody can be asked."""
        asked = self.router.resolve("/").get("stat") is not None
        mode = stat.S_IFDIR | 0o755
        self.tree.set_attr(1, Said(None).attr(mode, self.since_ns, 0 if asked else FOREVER))

    def place(self, ctx: Context, ino: int, name: bytes | None = None) -> Place:
        """The place of an inode, or of a name in that directory. Raises FuseError(ESTALE)."""
        path = os.fsdecode(self.tree.path(ino))
        place = Place(path, self.router.resolve(path), ctx)
        return place if name is None else place.child(name)

    # ---- facts

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Answer[Published]:
        """Say what *name* is."""
        return drive(self._lookup(ctx, parent, name))

    async def _lookup(self, ctx: Context, parent: int, name: bytes) -> Published:
        above = self.place(ctx, parent)
        handler = above.handler("list")
        if handler is not None and handler.complete:
            await self._check_listed(above, parent, name)
        await self.enter(above.child(name), parent, name)
        return PUBLISHED

    async def _check_listed(self, above: Place, parent: int, name: bytes) -> None:
        until, changes, names = self._complete.get(above.path, (0.0, 0, frozenset[bytes]()))
        if until <= time.monotonic() or changes != self.changes:
            await self._list(above, parent)
            names = self._complete[above.path][2]
        if name not in names:
            raise FuseError(ENOENT)

    async def enter(self, place: Place, parent: int, name: bytes) -> int:
        """Say what *name* is; its inode number. Raises FuseError(ENOENT)."""
        if not place.resolution:
            raise FuseError(ENOENT)
        changes = self.changes
        ino = self.tree.child(parent, name)
        found = await self._find(place, ino)
        attr = found.attr(self.since_ns)
        life = self._life(found.ttl, changes)
        attr.attr_timeout = min(attr.attr_timeout, life)
        ino = self.tree.set_entry(parent, name, attr, life, sized=found.sized)
        await self._keep(ino, place, found, changes)
        return ino

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Answer[Published]:
        """Say what attributes *ino* has."""
        return drive(self._getattr(ctx, ino))

    async def _getattr(self, ctx: Context, ino: int) -> Published:
        await self.describe(self.place(ctx, ino), ino)
        return PUBLISHED

    async def describe(self, place: Place, ino: int) -> Found:
        """Say what attributes *ino* has. Raises FuseError: ENOENT if it is gone."""
        changes = self.changes
        found = await self._find(place, ino)
        attr = found.attr(self.since_ns)
        if stat.S_IFMT(attr.mode) != stat.S_IFMT(self.tree.stat(ino).mode):
            raise FuseError(ENOENT, f"{place.path}: of another type now")
        attr.attr_timeout = min(attr.attr_timeout, self._life(found.ttl, changes))
        self.tree.set_attr(ino, attr, sized=found.sized)
        await self._keep(ino, place, found, changes)
        return found

    async def _find(self, place: Place, ino: int | None) -> Found:
        written = self.written.get(place.path)
        writing = None if written is None else await written.size()
        known = None if ino is None else self._content(ino)
        found = await place.find(writing=writing, known=known)
        if place.path in self.unsettled:
            found.ttl, found.sized = 0, False
        return found

    def _content(self, ino: int) -> Content | None:
        try:
            return self.tree.content(ino)
        except FuseError:
            return None

    async def _keep(self, ino: int, place: Place, found: Found, changes: int) -> None:
        """Publish what was learned of *ino* besides its attributes."""
        life = self._life(found.ttl, changes)
        if isinstance(found.content, Content):
            self.tree.set_content(ino, found.content, life)
        elif found.content is not None:
            await self._prepare(place.path, found.content)
        if found.listing is not None:
            self._put_listing(ino, place, found.listing, changes)
        if found.link is not None:
            self.tree.set_link(ino, found.link, life)

    def _life(self, ttl: float, changes: int) -> float:
        return ttl if changes == self.changes else 0.0

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Published]:
        """Say what the directory lists."""
        return drive(self._list(self.place(ctx, ino), ino))

    async def _list(self, place: Place, ino: int) -> Published:
        changes = self.changes
        self._put_listing(ino, place, await place.listing(), changes)
        return PUBLISHED

    def _put_listing(self, ino: int, place: Place, listing: Listing, changes: int) -> None:
        life = self._life(listing.ttl, changes)
        for name, said in listing.said.items():
            child = place.resolution.child(os.fsdecode(name))
            mode = Place("", child, place.ctx).mode(listing.names[name])
            # A stat handler may know better than a guess, and for whom.
            asked = said.guess and child.get("stat") is not None
            attr = said.attr(mode, self.since_ns, 0 if asked else life)
            self.tree.set_entry(ino, name, attr, life, sized=said.sized or not stat.S_ISREG(mode))
        if listing.complete:
            names = frozenset(listing.names)
            self._complete[place.path] = (time.monotonic() + life, changes, names)
        # The tree takes "complete" to mean that all have entries.
        all_said = listing.complete and len(listing.said) == len(listing.names)
        self.tree.set_listing(ino, listing.names.items(), life, complete=all_said)

    def readlink(self, ctx: Context, ino: int) -> Answer[Published]:
        """Say where the link points to."""
        return drive(self._readlink(self.place(ctx, ino), ino))

    async def _readlink(self, place: Place, ino: int) -> Published:
        changes = self.changes
        target = await place.link()
        handler = place.handler("readlink")
        assert handler is not None
        self.tree.set_link(ino, target, self._life(handler.ttl, changes))
        return PUBLISHED

    # ---- open files

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Opened | Published | Unshared]:
        """Say what the file holds, or that each open differs."""
        return drive(self._open(self.place(ctx, ino), ino))

    async def _open(self, place: Place, ino: int) -> Published | Unshared:
        if place.hooked or place.writable:
            return UNSHARED
        handler = place.handler("read")
        changes = self.changes
        source = self._prepared_for(place.path) or await place.source()
        if not isinstance(source, Content):
            await self._prepare(place.path, source)
            return UNSHARED
        assert handler is not None
        self.tree.set_content(ino, source, self._life(handler.ttl, changes))
        return PUBLISHED

    def open_unshared(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Opened]:
        """Open for one of those who want to."""
        return drive(self._open_unshared(self.place(ctx, ino), ino, fi))

    async def _open_unshared(self, place: Place, ino: int, fi: FileInfo) -> Opened:
        if place.handler("open") is not None:
            await place.ask("open", flags=fi.flags)
        source = self._prepared_for(place.path) or await place.source()
        if isinstance(source, Content):
            self._say_size(place, ino, source.size)
            self.opened(fi, Opening(place, fi.flags, None))
            return source
        if isinstance(source, Parts):
            source.finished = self._keeper(place, ino)
        # The kernel's own idea of where the file ends would be in the way.
        fi.direct_io = True
        self.opened(fi, Opening(place, fi.flags, source))
        return None

    def _say_size(self, place: Place, ino: int, size: int) -> None:
        handler = place.handler("stat") or place.handler("read")
        assert handler is not None
        attr = self.tree.stat(ino)
        attr.size, attr.blocks, attr.attr_timeout = size, None, handler.ttl
        self.tree.set_attr(ino, attr)

    def _keeper(self, place: Place, ino: int) -> Callable[[Content], None] | None:
        handler = place.handler("read")
        if handler is None or handler.ttl == 0:
            return None
        ttl, changes = handler.ttl, self.changes

        def keep(content: Content) -> None:
            try:
                self.tree.set_content(ino, content, self._life(ttl, changes))
            except FuseError as error:
                log.debug("%s was forgotten while it was read: %s", place.path, error)

        return keep

    async def _prepare(self, path: str, reader: Reader) -> None:
        """Keep a stream that a handler gave for the next open of *path*."""
        now = time.monotonic()
        late = [other for other, (until, _, _) in list(self._prepared.items()) if until < now]
        for other in (*late, path):
            old = self._prepared.pop(other, None)
            if old is not None:
                await old[2].close()
        self._prepared[path] = (now + PREPARED, self.changes, reader)

    def _prepared_for(self, path: str) -> Reader | None:
        until, changes, reader = self._prepared.get(path, (0.0, 0, None))
        if until < time.monotonic() or changes != self.changes:
            return None  # closed with the next that comes
        kept = self._prepared.pop(path, None)
        return reader if kept is not None else None

    def opened(self, fi: FileInfo, opening: Opening) -> None:
        """From here on *fi* stands for *opening*."""
        fi.fh = next(self._numbers)
        self.openings[fi.fh] = opening

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> Answer[bytes]:
        """Bytes of what is no fact."""
        return drive(self.openings[fi.fh].read(size, off))

    def release(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[None]:
        """Close what `open_unshared` opened."""
        opening = self.openings.pop(fi.fh, None)
        return None if opening is None else drive(self._release(opening))

    async def _release(self, opening: Opening) -> None:
        try:
            await opening.close()
        except FuseError as error:
            # close(2) has returned long ago.
            log.error("%s: %s", opening.place.path, error)
        if opening.place.handler("release") is not None:
            await opening.place.ask("release", flags=opening.flags)
