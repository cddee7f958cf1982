"""Writing: what becomes of the bytes that programs write.

A handler that takes a whole file gets it from a Draft, which all who write the file share, and who
read it meanwhile; one that takes pieces, or gives a file to write to, gets each write as it comes.
"""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Awaitable, Callable, Mapping
from errno import EFBIG, EILSEQ, ENOENT, EPERM
from typing import Any

from fastfuse.core.content import Content
from fastfuse.errors import FuseError
from fastfuse.routes.calling import Turn, run
from fastfuse.routes.places import Place
from fastfuse.routes.registration import Handler
from fastfuse.routes.results import CHUNK, Held, Reader
from fastfuse.routes.serving import Opening

LARGEST = 1 << 30  # bytes of a draft

Store = Callable[[Place, bytes], Awaitable[None]]


class Draft:
    """A file while it is written, in memory. What was there before is read when it is needed."""

    def __init__(self, place: Place, changed: Callable[[Draft], None], done: Callable[[Draft], None]) -> None:
        self.place = place
        self.ino = 0
        self.is_gone = False  # unlinked, or replaced: what is written goes nowhere
        self.users = 0
        self._changed = changed
        self._done = done
        self._data: bytearray | None = None
        self._unsaved = False
        self._emptied = False  # by O_TRUNC, and nothing else yet
        self._turn = Turn()

    async def read(self, size: int, off: int) -> bytes:
        """Bytes as they are now."""
        async with self._turn:
            data = await self._load()
            return bytes(data[off : off + size])

    @property
    def is_loaded(self) -> bool:
        """Whether it holds the bytes: somebody has changed or read it."""
        return self._data is not None

    @property
    def length(self) -> int:
        """How many bytes it has now, once it is loaded."""
        return len(self._data or b"")

    async def size(self) -> int | None:
        """How many bytes it has now; None as long as it is what it was."""
        return None if self._data is None else len(self._data)

    def join(self, place: Place, flags: int, store: Store) -> Drafting:
        """One more open file of it; *store*: how it is stored when that one is closed."""
        self.users += 1
        return Drafting(place, flags, self, store)

    def leave(self) -> None:
        """One open file less; the draft goes with the last one."""
        self._done(self)

    async def write(self, piece: memoryview, off: int | None) -> int:
        """Put *piece* at byte *off*, None: at the end; a hole before it is zeros."""
        async with self._turn:
            data = await self._load()
            start = len(data) if off is None else off
            self._reach(start + len(piece))
            if len(data) < start:
                data.extend(bytes(start - len(data)))
            data[start : start + len(piece)] = piece
            self._touch()
            return len(piece)

    async def truncate(self, size: int) -> None:
        """Cut it off at *size* bytes, or fill it up with zeros."""
        async with self._turn:
            self._reach(size)
            data = bytearray() if size == 0 else await self._load()
            del data[size:]
            data.extend(bytes(size - len(data)))
            self._data = data
            self._touch()

    async def empty(self) -> None:
        """Drop what was there, for O_TRUNC.

        A shell that opens a file for a command closes one descriptor of it before the command
        writes: so this alone is not saved before the last one is closed.
        """
        async with self._turn:
            self._data = bytearray()
            self._emptied = True
            self._changed(self)

    async def save(self, store: Store, *, last: bool) -> None:
        """Give it to *store* if it has changed. After an error it counts as not saved."""
        async with self._turn:
            if self.is_gone or not (self._emptied if last else self._unsaved):
                return
            self._unsaved = self._emptied = False
            try:
                await store(self.place, bytes(await self._load()))
            except BaseException:
                self._unsaved = True
                raise
            finally:
                self._changed(self)

    def _reach(self, size: int) -> None:
        if size > LARGEST:
            raise FuseError(EFBIG, f"{self.place.path}: beyond {LARGEST} bytes")

    def _touch(self) -> None:
        if not self._unsaved or self.is_gone:
            self._unsaved = True
            self._changed(self)

    async def _load(self) -> bytearray:
        if self._data is None:
            self._data = bytearray()
            if self.place.handler("read") is not None:
                try:
                    self._data = await _all_of(await self.place.source())
                except BaseException as error:
                    self._data = None
                    if not isinstance(error, FuseError) or error.errno != ENOENT:
                        raise
                    self._data = bytearray()
        return self._data


async def _all_of(source: Content | Reader) -> bytearray:
    if isinstance(source, Content):
        return bytearray(bytes(source))
    data = bytearray()
    try:
        while piece := await source.read(CHUNK, len(data)):
            data += piece
            if len(data) > LARGEST:
                raise FuseError(EFBIG)
        return data
    finally:
        await source.close()


class Drafting(Opening):
    """An open file that is stored as a whole, by *store*."""

    def __init__(self, place: Place, flags: int, draft: Draft, store: Store) -> None:
        super().__init__(place, flags, None)
        self.draft = draft
        self._store = store

    async def read(self, size: int, off: int) -> bytes:
        """What is there, written or not."""
        return await self.draft.read(size, off)

    async def write(self, piece: memoryview, off: int) -> int:
        """With O_APPEND at the end, wherever the kernel thinks that is."""
        return await self.draft.write(piece, None if self.flags & os.O_APPEND else off)

    async def truncate(self, size: int) -> None:
        """Change the size."""
        await self.draft.truncate(size)

    async def flush(self) -> None:
        """Store what has changed."""
        await self.draft.save(self._store, last=False)

    async def close(self) -> None:
        """Leave the draft to those who still have it open."""
        try:
            if self.flags & os.O_TRUNC:
                await self.draft.save(self._store, last=True)
        finally:
            self.draft.leave()


class Live(Opening):
    """An open file that others may write: what is read is what is there now."""

    def __init__(self, place: Place, flags: int, drafts: Mapping[str, Any], changes: Callable[[], int]) -> None:
        super().__init__(place, flags, None)
        self.is_gone = False  # unlinked, or replaced
        self.draft: Draft | None = None
        self._drafts = drafts
        self._changes = changes
        self._loaded = -1
        self._turn = Turn()

    async def load(self) -> None:
        """Ask for what is there. Raises FuseError."""
        changes = self._changes()
        source = await self.place.source()
        await super().close()
        self.reader = Held(source) if isinstance(source, Content) else source
        self._loaded = changes

    async def read(self, size: int, off: int) -> bytes:
        """From the draft, if somebody writes one."""
        async with self._turn:
            draft = self.draft if self.is_gone else self._drafts.get(self.place.path)
            if draft is not None:
                data: bytes = await draft.read(size, off)
                return data
            if self._loaded != self._changes() and not self.is_gone:
                await self.load()
            return await super().read(size, off)

    def lose(self, draft: Draft | None) -> None:
        """The path stands for another file from now on, or for none."""
        self.is_gone, self.draft = True, draft


class Pieces(Opening):
    """An open file whose handler takes pieces."""

    def __init__(
        self,
        place: Place,
        flags: int,
        take: Callable[[bytes, int], Awaitable[Any]],
        changed: Callable[[str], None],
    ) -> None:
        super().__init__(place, flags, None)
        self._take = take
        self._changed = changed
        self._end: int | None = None  # of a file that is appended to
        self._turn = Turn()

    async def read(self, size: int, off: int) -> bytes:
        """What the read handler says, asked anew after a write."""
        async with self._turn:
            if self.reader is None:
                source = await self.place.source()
                self.reader = Held(source) if isinstance(source, Content) else source
            return await self.reader.read(size, off)

    async def write(self, piece: memoryview, off: int) -> int:
        """Hand it on."""
        async with self._turn:
            if self.flags & os.O_APPEND:
                off = await self._size() if self._end is None else self._end
                self._end = off + len(piece)
            try:
                await self._take(bytes(piece), off)
            finally:
                await self._drop()
                self._changed(self.place.path)
            return len(piece)

    async def _size(self) -> int:
        if self.place.handler("read") is not None:
            return len(await _all_of(await self.place.source()))
        return (await self.place.find()).attr(0).size

    async def truncate(self, size: int) -> None:
        """Through the truncate handler. Raises FuseError(EPERM) if there is none."""
        async with self._turn:
            await self.place.ask("truncate", size=size)
            self._end = None
            await self._drop()
            self._changed(self.place.path)

    async def _drop(self) -> None:
        if self.reader is not None:
            await self.reader.close()
        self.reader = None

    async def flush(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Close what was read from."""
        await self._drop()


class ToFile(Opening):
    """An open file whose handler gave a file to write to."""

    def __init__(self, place: Place, flags: int, file: Any, changed: Callable[[str], None]) -> None:
        super().__init__(place, flags, None)
        self._file = file
        self._changed = changed
        self._turn = Turn()

    async def _do(self, method: str, *args: Any) -> Any:
        return await run(self.place.what("write"), getattr(self._file, method), *args)

    async def read(self, size: int, off: int) -> bytes:
        """From the file, or, if that one can only be written, as the read handler says."""
        async with self._turn:
            if hasattr(self._file, "readable") and not self._file.readable():
                if hasattr(self._file, "flush"):
                    await self._do("flush")
                source = await self.place.source()
                reader: Reader = Held(source) if isinstance(source, Content) else source
                return await reader.read(size, off)
            await self._do("seek", off)
            data: bytes = await self._do("read", size)
            return data

    async def write(self, piece: memoryview, off: int) -> int:
        """To the file."""
        async with self._turn:
            if self.flags & os.O_APPEND:
                await self._do("seek", 0, os.SEEK_END)
            else:
                await self._do("seek", off)
            left = piece
            while left:
                done = await self._do("write", bytes(left))
                left = left[len(left) if done is None else done :]
            self._changed(self.place.path)
            return len(piece)

    async def truncate(self, size: int) -> None:
        """Of the file; one that is made longer is filled up with zeros."""
        async with self._turn:
            await self._do("truncate", size)
            end = await self._do("seek", 0, os.SEEK_END)
            if end < size:
                await self._do("write", bytes(size - end))
            self._changed(self.place.path)

    async def flush(self) -> None:
        """Of the file, where it can."""
        async with self._turn:
            if hasattr(self._file, "flush"):
                await self._do("flush")
            self._changed(self.place.path)

    async def close(self) -> None:
        """Of the file."""
        async with self._turn:
            await self._do("close")
            self._changed(self.place.path)


class Discarding(Opening):
    """An open file whose handler keeps nothing."""

    async def read(self, size: int, off: int) -> bytes:
        """Nothing is there."""
        return b""

    async def write(self, piece: memoryview, off: int) -> int:
        """Lost, as the handler wants it."""
        return len(piece)

    async def truncate(self, size: int) -> None:
        """Nothing to change."""

    async def flush(self) -> None:
        """Nothing to store."""


Writer = Drafting | Pieces | ToFile | Discarding


def store_of(handler: Handler, flags: int) -> Store:
    """How a handler that takes `data` or `text` gets the whole file."""

    async def store(place: Place, data: bytes) -> None:
        # The path may be another one by now.
        current = place.handler("write")
        if current is None or not (current.takes("data") or current.takes("text")):
            raise FuseError(EPERM, f"{place.path}: no route to write it as a whole")
        text = decoded(data, current.encoding or "utf-8") if current.takes("text") else None
        await place.ask("write", data=data, text=text, offset=0, flags=flags)

    return store


def store_to(function: Callable[[Any], Any], encoding: str | None) -> Store:
    """How a function that a handler gave gets the whole file."""

    async def store(place: Place, data: bytes) -> None:
        given = data if encoding is None else decoded(data, encoding)
        await run(place.what("write"), function, given)

    return store


def store_in(file: Any) -> Store:
    """How a file of text that a handler gave gets the whole."""

    def replace(text: str) -> None:
        file.seek(0)
        file.truncate()
        file.write(text)
        file.flush()

    return store_to(replace, "utf-8")


def decoded(data: bytes, encoding: str) -> str:
    """Raises FuseError(EILSEQ)."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FuseError(EILSEQ, str(error)) from error


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether *function* takes pieces (bytes, offset), or all at once."""
    try:
        return len(inspect.signature(function).parameters) == 2
    except (TypeError, ValueError):
        return False


def is_text(file: Any) -> bool:
    """Whether *file* takes str; its bytes cannot be told then."""
    return isinstance(file, io.TextIOBase)
