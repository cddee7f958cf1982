"""Changing: the operations by which programs change a file system."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from errno import EACCES, EPERM
from typing import TYPE_CHECKING, Any

from fastfuse.core.tree import Tree
from fastfuse.core.types import Attr, Context, FileInfo
from fastfuse.errors import PUBLISHED, FuseError, Published, Unshared
from fastfuse.routes import writing
from fastfuse.routes.calling import drive, run
from fastfuse.routes.places import Place
from fastfuse.routes.registration import Handler
from fastfuse.routes.router import Router
from fastfuse.routes.serving import Opening, Reading

if TYPE_CHECKING:
    from fastfuse.operations import Answer, Opened

# FUSE_SET_ATTR_*
MODE, UID, GID, SIZE, ATIME, MTIME, ATIME_NOW, MTIME_NOW = 1, 2, 4, 8, 16, 32, 128, 256
RENAME_EXCHANGE = 2


class Changing(Reading):
    """The operations of a file system that programs can change, as far as there are routes."""

    def __init__(self, router: Router[Handler], tree: Tree) -> None:
        super().__init__(router, tree)
        # Around what counts who has a file open; never while a handler runs.
        self._counting = threading.Lock()

    def changed(self, path: str) -> None:
        """What handlers said of *path* no longer holds. The kernel knows: it asked for the change."""
        self.change()
        self.end(self.tree.find(path), tell=False)

    # ---- open files

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Opened | Published | Unshared]:
        """As Reading.open; who writes gets an open file of their own."""
        place = self.place(ctx, ino)
        if fi.flags & os.O_ACCMODE == os.O_RDONLY and not fi.flags & os.O_TRUNC:
            return drive(self._open(place, ino))
        return drive(self._open_to_write(place, ino, fi))

    async def _open_unshared(self, place: Place, ino: int, fi: FileInfo) -> Opened:
        if not place.writable:
            return await super()._open_unshared(place, ino, fi)
        if place.handler("open") is not None:
            await place.ask("open", flags=fi.flags)
        self.opened(fi, await self._live(place, fi.flags))
        fi.direct_io = True
        return None

    async def _live(self, place: Place, flags: int) -> writing.Live:
        live = writing.Live(place, flags, self.written, lambda: self.changes)
        if place.path not in self.written:
            await live.load()
        return live

    async def _open_to_write(self, place: Place, ino: int, fi: FileInfo) -> None:
        if place.handler("open") is not None:
            await place.ask("open", flags=fi.flags)
        opening = await self.writer(place, fi.flags)
        try:
            self._say_ino(opening, ino)
            if fi.flags & os.O_TRUNC:
                await self._empty(opening)
        except BaseException:
            await opening.close()
            raise
        fi.direct_io = True
        self.opened(fi, opening)

    def _say_ino(self, opening: Opening, ino: int) -> None:
        if isinstance(opening, writing.Drafting):
            opening.draft.ino = ino

    async def _empty(self, opening: writing.Writer) -> None:
        if isinstance(opening, writing.Drafting):
            await opening.draft.empty()
        # A handler that takes pieces has seen O_TRUNC among the flags.
        elif not isinstance(opening, writing.Pieces) or opening.place.handler("truncate"):
            await opening.truncate(0)

    async def writer(self, place: Place, flags: int) -> writing.Writer:
        """An open file as the write handler wants it. Raises FuseError: EACCES without one."""
        handler = place.handler("write")
        if handler is None:
            raise FuseError(EACCES, f"{place.path}: no route to write it")
        given: dict[str, Any] = {"data": None, "text": None, "offset": 0, "flags": flags}
        if handler.takes("offset"):

            async def take(data: bytes, offset: int) -> None:
                await place.ask("write", **{**given, "data": data, "offset": offset})

            return writing.Pieces(place, flags, take, self.changed)
        if handler.takes("data") or handler.takes("text"):
            return self._join(place, flags, writing.store_of(handler, flags))
        what = place.what("write")
        value = await place.ask("write", **given)
        if value is None:
            return writing.Discarding(place, flags, None)
        if hasattr(value, "write"):
            if not writing.is_text(value):
                return writing.ToFile(place, flags, value, self.changed)
            if not hasattr(value, "detach") or not hasattr(value, "buffer"):
                return self._join(place, flags, writing.store_in(value))
            return writing.ToFile(place, flags, value.detach(), self.changed)
        await run(what, _check_callable, value)
        if not writing.takes_two(value):
            store = writing.store_to(value, handler.encoding)
            return self._join(place, flags, store)

        async def hand(data: bytes, offset: int) -> None:
            await run(what, value, data, offset)

        return writing.Pieces(place, flags, hand, self.changed)

    def _join(self, place: Place, flags: int, store: writing.Store) -> writing.Drafting:
        with self._counting:
            draft = self.written.get(place.path)
            if not isinstance(draft, writing.Draft):
                draft = self.written[place.path] = writing.Draft(place, self._draft_changed, self._leave)
            return draft.join(place, flags, store)

    def _draft_changed(self, draft: writing.Draft) -> None:
        if not draft.is_gone:
            self.changed(draft.place.path)
            return
        # It has no path any more by which it could be asked for.
        attr = self.tree.stat(draft.ino)
        attr.size, attr.blocks = draft.length, None
        self.tree.set_attr(draft.ino, attr, sized=False)

    def _leave(self, draft: writing.Draft) -> None:
        with self._counting:
            draft.users -= 1
            # What was said while it was there was for that moment only: there is nothing to end.
            if draft.users == 0 and self.written.get(draft.place.path) is draft:
                del self.written[draft.place.path]

    def opened(self, fi: FileInfo, opening: Opening) -> None:
        """As Reading.opened."""
        if isinstance(opening, (writing.Pieces, writing.ToFile)):
            with self._counting:
                self.unsettled[opening.place.path] += 1
        super().opened(fi, opening)

    async def _release(self, opening: Opening) -> None:
        path = opening.place.path
        await super()._release(opening)
        if isinstance(opening, (writing.Pieces, writing.ToFile)):
            with self._counting:
                self.unsettled[path] -= 1
                if not self.unsettled[path]:
                    del self.unsettled[path]

    def _writer_of(self, fi: FileInfo) -> writing.Writer:
        opening = self.openings[fi.fh]
        assert isinstance(opening, writing.Writer)
        return opening

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> Answer[int]:
        """To the file's draft, or its handler."""
        return drive(self._writer_of(fi).write(buf, off))

    def flush(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[None]:
        """Store what has changed, so that close(2) tells of errors."""
        opening = self.openings.get(fi.fh)
        return drive(opening.flush()) if isinstance(opening, writing.Writer) else None

    def fsync(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> Answer[None]:
        """Store what has changed."""
        return self.flush(ctx, ino, fi)

    # ---- attributes

    def setattr(self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Answer[Attr]:
        """Ask the handlers of what is to be changed."""
        opening = None if fi is None else self.openings.get(fi.fh)
        if isinstance(opening, writing.Drafting) and opening.draft.is_gone and to_set & SIZE:
            return drive(self._resize_gone(opening, attr.size))
        return drive(self._setattr(self.place(ctx, ino), ino, attr, to_set, fi))

    async def _resize_gone(self, opening: writing.Drafting, size: int) -> Attr:
        await opening.truncate(size)
        said = self.tree.stat(opening.draft.ino)
        said.attr_timeout = 0
        return said

    async def _setattr(self, place: Place, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Attr:
        now = self.tree.stat(ino)
        # As on a file system without owners, what changes nothing is allowed: cp -p, sed -i.
        if to_set & MODE and stat.S_IMODE(attr.mode) != stat.S_IMODE(now.mode):
            await place.ask("chmod", mode=stat.S_IMODE(attr.mode))
        uid = attr.uid if to_set & UID and attr.uid != now.uid else -1
        gid = attr.gid if to_set & GID and attr.gid != now.gid else -1
        if (uid, gid) != (-1, -1):
            await place.ask("chown", uid=uid, gid=gid)
        if to_set & SIZE:
            await self._resize(place, attr.size, fi)
        elif to_set & (ATIME | MTIME):
            await self._set_times(place, attr, to_set)
        self.changed(place.path)
        found = await self.describe(place, ino)
        said = self.tree.stat(ino)
        said.attr_timeout = found.ttl if found.sized else 0
        return said

    async def _resize(self, place: Place, size: int, fi: FileInfo | None) -> None:
        opening = None if fi is None else self.openings.get(fi.fh)
        if isinstance(opening, writing.Writer):
            await opening.truncate(size)
        elif place.handler("truncate") is not None and place.path not in self.written:
            await place.ask("truncate", size=size)
        else:
            opening = await self.writer(place, os.O_WRONLY)
            try:
                await opening.truncate(size)
                await opening.flush()
            finally:
                await opening.close()

    async def _set_times(self, place: Place, attr: Attr, to_set: int) -> None:
        chosen = (to_set & ATIME and not to_set & ATIME_NOW) or (to_set & MTIME and not to_set & MTIME_NOW)
        if place.handler("utime") is None and place.handler("write") is not None and not chosen:
            return  # touch(1) of a file that has no times of its own
        await place.ask(
            "utime",
            atime_ns=attr.atime_ns if to_set & ATIME else None,
            mtime_ns=attr.mtime_ns if to_set & MTIME else None,
        )

    # ---- names

    def create(self, ctx: Context, parent: int, name: bytes, mode: int, fi: FileInfo) -> Answer[Published]:
        """Make a file and open it to write."""
        return drive(self._create(self.place(ctx, parent, name), parent, name, mode, fi))

    async def _create(self, place: Place, parent: int, name: bytes, mode: int, fi: FileInfo) -> Published:
        await place.ask("create", mode=stat.S_IMODE(mode), flags=fi.flags)
        self._names_changed(parent)
        opening: Opening
        if fi.flags & os.O_ACCMODE == os.O_RDONLY:
            opening = await self._live(place, fi.flags)
        else:
            opening = await self.writer(place, fi.flags)
        try:
            self._say_ino(opening, await self.enter(place, parent, name))
        except BaseException:
            await opening.close()
            raise
        fi.direct_io = True
        self.opened(fi, opening)
        return PUBLISHED

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int) -> Answer[Published]:
        """Make a file. Raises FuseError(EPERM) for anything but regular files."""
        if stat.S_IFMT(mode) != stat.S_IFREG:
            raise FuseError(EPERM)
        return self._make(ctx, parent, name, "create", mode=stat.S_IMODE(mode), flags=0)

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Answer[Published]:
        """Make a directory."""
        return self._make(ctx, parent, name, "mkdir", mode=stat.S_IMODE(mode))

    def symlink(self, ctx: Context, link: bytes, parent: int, name: bytes) -> Answer[Published]:
        """Make a symbolic link to *link*."""
        return self._make(ctx, parent, name, "symlink", target=os.fsdecode(link))

    def _make(self, ctx: Context, parent: int, name: bytes, kind: str, **given: Any) -> Answer[Published]:
        async def make(place: Place) -> Published:
            await place.ask(kind, **given)
            self._names_changed(parent)
            await self.enter(place, parent, name)
            return PUBLISHED

        return drive(make(self.place(ctx, parent, name)))

    def unlink(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        """Remove a file."""
        return drive(self._remove("unlink", self.place(ctx, parent, name), parent))

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        """Remove a directory."""
        return drive(self._remove("rmdir", self.place(ctx, parent, name), parent))

    async def _remove(self, kind: str, place: Place, parent: int) -> None:
        await place.ask(kind)
        self._names_changed(parent)
        lost = self._lose(place.path)
        if self.tree.find(place.path) is not None:
            self.tree.remove(place.path)
        self._say_lost(lost)

    def rename(
        self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int
    ) -> Answer[None]:
        """Move a name."""
        return drive(self._rename(ctx, parent, name, newparent, newname, flags))

    async def _rename(self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        old, new = self.place(ctx, parent, name), self.place(ctx, newparent, newname)
        await old.ask("rename", newpath=new.path, flags=flags)
        self._names_changed(parent)
        self._names_changed(newparent)
        exchange = flags & RENAME_EXCHANGE != 0
        lost = None if exchange else self._lose(new.path)
        self._move({old.path: new.path, new.path: old.path} if exchange else {old.path: new.path})
        self.tree.rename(parent, name, newparent, newname, exchange=exchange)
        self._say_lost(lost)
        self.changed(new.path)
        if exchange:
            self.changed(old.path)

    def _move(self, paths: Mapping[str, str]) -> None:
        """What is open at or below one of *paths* is where that leads to now."""
        drafts = [draft for draft in self.written.values() if isinstance(draft, writing.Draft)]
        things: list[writing.Draft | Opening] = [*drafts, *self.openings.values()]
        for thing in things:
            for old, new in paths.items():
                if thing.place.path == old or thing.place.path.startswith(f"{old}/"):
                    path = new + thing.place.path[len(old) :]
                    thing.place = Place(path, self.router.resolve(path), thing.place.ctx)
                    break
        self.written.clear()
        self.written.update((draft.place.path, draft) for draft in drafts)

    def _lose(self, path: str) -> writing.Draft | None:
        """*path* is no file any more, or another one: who has it open keeps what it was."""
        draft = self.written.pop(path, None)
        assert draft is None or isinstance(draft, writing.Draft)
        if draft is not None:
            draft.is_gone = True
        for opening in list(self.openings.values()):
            if isinstance(opening, writing.Live) and opening.place.path == path and not opening.is_gone:
                opening.lose(draft)
        return draft

    def _say_lost(self, draft: writing.Draft | None) -> None:
        if draft is not None and draft.is_loaded:
            self._draft_changed(draft)

    def _names_changed(self, parent: int) -> None:
        self.change()
        self.end(parent, tell=False)


def _check_callable(value: object) -> None:
    if not callable(value):
        raise TypeError(f"a write handler gives a function, a file or None, not {value!r}")
