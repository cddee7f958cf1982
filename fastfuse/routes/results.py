"""Results: what a read handler gave, as bytes that can be served.

It is a Content where all is known, else a Reader, which makes bytes as they are read.
"""

from __future__ import annotations

import codecs
import io
import os
import pathlib
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Protocol

from fastfuse.core.content import Content
from fastfuse.routes.calling import Turn, is_async, next_of, run

CHUNK = 1 << 16
SPOOL = 16 << 20  # bytes of a stream that are kept in memory; more go to a temporary file
PATIENCE = 0.05  # seconds after which a read of a stream returns what there is


class Reader(Protocol):
    """Bytes that are made as they are read."""

    async def read(self, size: int, off: int) -> bytes:
        """Up to *size* bytes from byte *off*; fewer: that is all for now; none: the end."""

    async def close(self) -> None:
        """Nobody reads any more."""


class Parts:
    """A Reader of parts, made one after the other and kept, so that readers may seek back."""

    def __init__(
        self,
        parts: Iterator[Any] | AsyncIterator[Any],
        what: object,
        encode: Callable[[Any], bytes],
        finished: Callable[[Content], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._parts: Iterator[Any] | AsyncIterator[Any] | None = parts
        self._close = close
        self._what = what
        self._encode = encode
        self.finished = finished  # called with the whole, once that is known
        self._kept = tempfile.SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115
        self._size = 0
        self._turn = Turn()

    async def read(self, size: int, off: int) -> bytes:
        """All *size* bytes if they come fast, what there is if not."""
        deadline = None
        async with self._turn:
            while self._parts is not None and self._size < off + size:
                # The patience is for what follows the first byte: the way there takes as long as it takes.
                if self._size > off:
                    now = time.monotonic()
                    deadline = deadline or now + PATIENCE
                    if now > deadline:
                        break
                await self._make_part()
            self._kept.seek(off)
            return self._kept.read(size)

    async def _make_part(self) -> None:
        end = object()
        if isinstance(self._parts, AsyncIterator):
            part = await next_of(self._what, self._parts, end)
        else:
            part = await run(self._what, next, self._parts, end)
        if part is not end:
            data = await run(self._what, self._encode, part)
            self._kept.seek(self._size)
            self._kept.write(data)
            self._size += len(data)
            return
        self._parts = None
        if self.finished is not None and self._size <= SPOOL:
            self._kept.seek(0)
            self.finished(Content(self._kept.read()))

    async def close(self) -> None:
        """Close the generator, if it is one."""
        async with self._turn:
            parts, self._parts = self._parts, None
            close = self._close or getattr(parts, "aclose", None) or getattr(parts, "close", None)
            self._kept.close()
            if close is not None:
                await run(self._what, close)


class Function:
    """A Reader that is a function of (size, offset)."""

    def __init__(self, function: Callable[..., Any], what: object, encode: Any) -> None:
        self._function = function
        self._what = what
        self._encode = encode

    async def read(self, size: int, off: int) -> bytes:
        """What the function gives."""
        given = await run(self._what, self._function, size, off)
        data: bytes = await run(self._what, self._encode, given)
        if len(data) > size:
            await run(self._what, _too_long, len(data), size)
        return data

    async def close(self) -> None:
        """Nothing to do."""


class Held:
    """A Reader of what is known, for who does not read it through the tree."""

    def __init__(self, content: Content) -> None:
        self._data = bytes(content)

    async def read(self, size: int, off: int) -> bytes:
        """A part of it."""
        return self._data[off : off + size]

    async def close(self) -> None:
        """Nothing to do."""


def _too_long(given: int, size: int) -> None:
    raise ValueError(f"a function gave {given} bytes, {size} were asked for")


def encoder(encoding: str | None) -> Callable[[Any], bytes]:
    """From a part (str, or anything with the buffer protocol) to its bytes; parts come in order."""
    incremental = codecs.getincrementalencoder(encoding)() if encoding else None

    def encode(part: Any) -> bytes:
        if isinstance(part, str):
            if incremental is None:
                raise TypeError("a str, but the route has encoding=None")
            return incremental.encode(part)
        if isinstance(part, bytes):
            return part
        if part is None:
            return b""
        return memoryview(part).tobytes()

    return encode


async def result(value: Any, encoding: str | None, what: object) -> Content | Reader:
    """What *value* stands for. Files and fds are taken over. Raises as `run`."""
    encode = encoder(encoding)
    if isinstance(value, Content):
        return value
    if value is None or isinstance(value, str):
        return Content(await run(what, encode, value))
    if isinstance(value, pathlib.Path):
        value = await run(what, os.open, value, os.O_RDONLY | os.O_CLOEXEC)
    if isinstance(value, int) and not isinstance(value, bool):
        return await _of_fd(value, what)
    buffer = await run(what, _buffer, value)
    if buffer is not None:
        return Content(buffer)
    if hasattr(value, "read"):
        return await _of_file(value, encode, what)
    if isinstance(value, (list, tuple)):
        return Content(await run(what, _joined, value, encode))
    if callable(value):
        return Function(value, what, encode)
    if hasattr(value, "__aiter__"):
        return Parts(aiter(value), what, encode)
    return Parts(await run(what, iter, value), what, encode)


def _joined(parts: Any, encode: Callable[[Any], bytes]) -> bytes:
    return b"".join(map(encode, parts))


def _buffer(value: Any) -> Any:
    try:
        view = memoryview(value)
    except TypeError:
        return None
    # What is served must not change; and whoever holds a bytearray's buffer stops it from growing.
    if isinstance(value, bytearray) or not view.c_contiguous:
        return view.tobytes()
    return value


async def _of_fd(fd: int, what: object) -> Content | Reader:
    found = await run(what, os.fstat, fd)
    if stat.S_ISREG(found.st_mode) and found.st_size:
        return await run(what, _take_fd, fd)  # type: ignore[no-any-return]
    if stat.S_ISDIR(found.st_mode):
        os.close(fd)
        raise IsADirectoryError
    chunks = iter(partial(os.read, fd, CHUNK), b"")
    if stat.S_ISREG(found.st_mode):
        # Empty, or one of those in /proc, whose size nobody knows before.
        try:
            return Content(await run(what, b"".join, chunks))
        finally:
            os.close(fd)
    return Parts(chunks, what, bytes, close=partial(os.close, fd))


def _take_fd(fd: int) -> Content:
    try:
        return Content.from_fd(fd)
    finally:
        os.close(fd)


async def _of_file(file: Any, encode: Callable[[Any], bytes], what: object) -> Content | Reader:
    raw = getattr(file, "raw", file)
    if isinstance(raw, io.FileIO):
        with file:
            if raw.writable():
                file.flush()
            return await _of_fd(os.dup(raw.fileno()), what)
    close = getattr(file, "close", None)
    if is_async(file.read):
        return Parts(_async_chunks(file), what, encode)
    seekable = getattr(file, "seekable", None)
    if seekable is None or not await run(what, seekable):
        ends = ("", b"")
        return Parts(_chunks(file, ends), what, encode, close=close)
    try:
        await run(what, file.seek, 0)
        return Content(encode(await run(what, file.read)))
    finally:
        if close is not None:
            await run(what, close)


def _chunks(file: Any, ends: tuple[str, bytes]) -> Iterator[Any]:
    while (part := file.read(CHUNK)) not in ends:
        yield part


async def _async_chunks(file: Any) -> AsyncIterator[Any]:
    try:
        while part := await file.read(CHUNK):
            yield part
    finally:
        done = getattr(file, "close", None)
        if done is not None and (closing := done()) is not None:
            await closing
