"""pyfuse3: Cython over libfuse 3's low-level API, trio; keep_cache, long timeouts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pyfuse3
import trio

from . import common


class Operations(pyfuse3.Operations):  # type: ignore[misc, unused-ignore]
    """Serves a tree by inode number: the index in a list, plus the root's number."""

    def __init__(self, root: common.Node) -> None:
        super().__init__()
        self._nodes: list[common.Node] = []
        self._children: list[list[tuple[bytes, int]]] = []
        self._number: dict[tuple[int, bytes], int] = {}
        self._add(root)

    def _add(self, node: common.Node) -> int:
        ino = len(self._nodes) + int(pyfuse3.ROOT_INODE)
        children: list[tuple[bytes, int]] = []
        self._nodes.append(node)
        self._children.append(children)
        for name, child in node.children.items():
            number = self._add(child)
            children.append((os.fsencode(name), number))
            self._number[ino, os.fsencode(name)] = number
        return ino

    def _node(self, ino: int) -> common.Node:
        return self._nodes[ino - int(pyfuse3.ROOT_INODE)]

    def _entry(self, ino: int) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = ino
        entry.entry_timeout = entry.attr_timeout = common.FOREVER
        if ino:
            for name, value in common.attributes(self._node(ino)).items():
                setattr(entry, name, value)
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        return self._entry(self._number.get((parent, name), 0))  # 0: a negative entry

    async def getattr(self, ino: int, ctx: Any) -> Any:
        return self._entry(ino)

    async def setattr(self, ino: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        return self._entry(ino)

    async def opendir(self, ino: int, ctx: Any) -> int:
        return ino

    async def readdir(self, ino: int, start: int, token: Any) -> None:
        for number, (name, child) in self._listing(ino, start):
            if not pyfuse3.readdir_reply(token, name, self._entry(child), number + 1):
                break

    def _listing(self, ino: int, start: int) -> Iterator[tuple[int, tuple[bytes, int]]]:
        children = self._children[ino - pyfuse3.ROOT_INODE]
        return ((number, children[number]) for number in range(start, len(children)))

    async def open(self, ino: int, flags: int, ctx: Any) -> Any:
        if self._node(ino).slow:
            await trio.sleep(common.SLOW_SECONDS)
        return pyfuse3.FileInfo(fh=ino, keep_cache=True)

    async def read(self, ino: int, off: int, size: int) -> bytes:
        return bytes(self._node(ino).content[off : off + size])

    async def write(self, ino: int, off: int, buf: bytes) -> int:
        content = self._node(ino).content
        assert isinstance(content, bytearray)
        if off + len(buf) > len(content):
            raise pyfuse3.FUSEError(errno.EFBIG)
        memoryview(content)[off : off + len(buf)] = buf
        return len(buf)


def serve(root: common.Node, mountpoint: str, mode: str) -> None:
    pyfuse3.init(Operations(root), mountpoint, {*pyfuse3.default_options, "fsname=pyfuse3"})
    trio.run(pyfuse3.main)
    pyfuse3.close(unmount=False)


if __name__ == "__main__":
    common.run(
        lambda: str(pyfuse3.__version__),
        lambda source, mode: common.read_tree(source),
        serve,
        ["default"],
    )
