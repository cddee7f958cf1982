"""fastfuse: the tree published, for C to serve (three ways), or served by handlers in Python."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import stat
import time
from collections.abc import Iterator

from fastfuse.core.content import Content
from fastfuse.core.tree import Tree
from fastfuse.core.types import Attr, Context, DirEntry, Entry, FileInfo
from fastfuse.errors import FuseError
from fastfuse.operations import Operations
from fastfuse.session import Session

from . import common

ROOT_INO = 1
PER_DIR = 1000


def attr_of(node: common.Node, ino: int = 0) -> Attr:
    size = len(node.content)
    return Attr(ino=ino, mode=node.mode, size=size, attr_timeout=common.FOREVER)


class Published(Operations):
    """Everything is in the tree; nothing is left for Python."""

    def __init__(self, source: str, in_memfd: bool) -> None:
        self.tree: Tree = Tree()
        self.tree.set_negative_timeout(common.FOREVER)
        self._in_memfd = in_memfd
        if source.startswith("nodes:"):
            for number in range(int(source.removeprefix("nodes:"))):
                self.tree.publish(f"/m/{number // PER_DIR}/{number % PER_DIR}", b"")
        else:
            self._publish(source, "")

    def _publish(self, source: str, top: str) -> None:
        for name, node in common.walk(source + top, top == "/slow"):
            if stat.S_ISDIR(node.mode):
                self.tree.mkdir(f"{top}/{name}", mode=node.mode)
                self._publish(source, f"{top}/{name}")
            else:
                self.put(f"{top}/{name}", node)

    def put(self, path: str, node: common.Node) -> None:
        content = node.content
        large = self._in_memfd and content
        self.tree.publish(path, Content.in_memfd(content) if large else content, mode=node.mode)


class PublishedAndHandlers(Published):
    """As Published, but opening slow/* sleeps in Python, and sink is read and written in Python.

    What is written goes through no page cache, which would only be one more copy.
    """

    def __init__(self, source: str, in_memfd: bool) -> None:
        self._sink = bytearray()
        self._slow: set[int] = set()
        super().__init__(source, in_memfd)

    def put(self, path: str, node: common.Node) -> None:
        if not node.slow and path != "/sink":
            super().put(path, node)
            return
        parent, name = os.path.split(path)
        above = self.tree.find(parent)
        assert above
        ino = self.tree.set_entry(above, os.fsencode(name), attr_of(node), common.FOREVER)
        if node.slow:
            self._slow.add(ino)
        else:
            self._sink = bytearray(node.content)

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        if ino in self._slow:
            time.sleep(common.SLOW_SECONDS)
        else:
            fi.direct_io = fi.parallel_direct_writes = True

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        return bytes(memoryview(self._sink)[off : off + size])

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        memoryview(self._sink)[off : off + len(buf)] = buf
        return len(buf)


class Handlers(Operations):
    """Nothing is in the tree: each request that reaches the process is answered in Python."""

    def __init__(self, root: common.Node) -> None:
        self._nodes: list[common.Node] = []
        self._numbers: list[dict[bytes, int]] = []
        self._add(root)

    def _add(self, node: common.Node) -> int:
        ino = len(self._nodes) + ROOT_INO
        numbers: dict[bytes, int] = {}
        self._nodes.append(node)
        self._numbers.append(numbers)
        for name, child in node.children.items():
            numbers[os.fsencode(name)] = self._add(child)
        return ino

    def _entry(self, ino: int) -> Entry:
        attr = attr_of(self._nodes[ino - ROOT_INO], ino) if ino else Attr()
        return Entry(attr, entry_timeout=common.FOREVER)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        return self._entry(self._numbers[parent - ROOT_INO].get(name, 0))

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return attr_of(self._nodes[ino - ROOT_INO], ino)

    def readdirplus(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterator[DirEntry]:
        names = list(self._numbers[ino - ROOT_INO].items())
        for position in range(off, len(names)):
            name, child = names[position]
            yield DirEntry(name, position + 1, entry=self._entry(child))

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        node = self._nodes[ino - ROOT_INO]
        fi.keep_cache = True
        fi.direct_io = fi.parallel_direct_writes = isinstance(node.content, bytearray)
        if node.slow:
            time.sleep(common.SLOW_SECONDS)
        if node.computes:
            common.compute_a_while()

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> memoryview:
        return memoryview(self._nodes[ino - ROOT_INO].content)[off : off + size]

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        content = self._nodes[ino - ROOT_INO].content
        if not isinstance(content, bytearray) or off + len(buf) > len(content):
            raise FuseError(errno.EFBIG)
        memoryview(content)[off : off + len(buf)] = buf
        return len(buf)


def load(source: str, mode: str) -> Operations:
    if mode == "handlers":
        return Handlers(common.read_tree(source))
    if mode == "immutable":
        return Published(source, False)
    return PublishedAndHandlers(source, mode == "passthrough")


def serve(operations: Operations, mountpoint: str, mode: str) -> None:
    Session(operations, mountpoint, immutable=mode == "immutable").run()


def version() -> str:
    try:
        return importlib.metadata.version("fastfuse")
    except importlib.metadata.PackageNotFoundError:
        return "not installed, from the source tree"


if __name__ == "__main__":
    common.run(
        version,
        load,
        serve,
        ["keep_cache", "immutable", "passthrough", "handlers"],
    )
