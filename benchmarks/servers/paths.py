"""The handlers that the two path-based ctypes bindings, fusepy and mfusepy, share."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

from .common import SLOW_SECONDS, Node, attributes


class PathOperations:
    """Serves a tree by path; the bindings name the methods and their arguments."""

    use_ns = True

    def __init__(self, root: Node) -> None:
        self._nodes = dict(self._walk("/", root))

    def _walk(self, path: str, node: Node) -> Iterator[tuple[str, Node]]:
        yield path, node
        for name, child in node.children.items():
            yield from self._walk(f"{path.rstrip('/')}/{name}", child)

    def _node(self, path: str) -> Node:
        try:
            return self._nodes[path]
        except KeyError:
            raise OSError(errno.ENOENT, path) from None

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        return attributes(self._node(path))

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._node(path).children]

    def open(self, path: str, flags: int) -> int:
        if self._node(path).slow:
            time.sleep(SLOW_SECONDS)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._node(path).content[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        content = self._node(path).content
        assert isinstance(content, bytearray)
        memoryview(content)[offset : offset + len(data)] = data
        return len(data)
