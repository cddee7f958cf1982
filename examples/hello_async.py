#!/usr/bin/env python3
"""A file that says hello from a coroutine, on the program's own event loop: hello_async.py MOUNTPOINT"""

import asyncio
import errno
import stat
import sys

from fastfuse import Attr, Context, DirEntry, Entry, FileInfo, FuseError, Operations, Session

ROOT = Attr(ino=1, mode=stat.S_IFDIR | 0o755)
HELLO = Attr(ino=2, mode=stat.S_IFREG | 0o444, size=14)


class Hello(Operations):
    async def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        if (parent, name) != (1, b"hello"):
            raise FuseError(errno.ENOENT)
        return Entry(HELLO)

    async def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return {1: ROOT, 2: HELLO}[ino]

    async def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> list[DirEntry]:
        return [DirEntry(b"hello", 1, ino=2, mode=HELLO.mode)][off:]

    async def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        await asyncio.sleep(0.01)  # a Ctrl-C of the reader arrives here as a cancellation
        return b"Hello, world!\n"[off : off + size]


if __name__ == "__main__":
    asyncio.run(Session(Hello(), sys.argv[1]).serve())
