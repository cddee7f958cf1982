"""mafs: routes over fusepy, with threads.  It has no cache to turn on: every open is direct_io."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable
from typing import Any

import mafs

from . import common


def serve(root: common.Node, mountpoint: str, mode: str) -> None:
    fs = mafs.MagicFS()
    routes = ["/:top", "/:top/:name"]

    def find(parameters: Any) -> common.Node:
        """The node that a route's parameters name; mafs gives them in no useful order."""
        node = root
        for name in (getattr(parameters, field, None) for field in ("top", "name")):
            if name is None:
                break
            if name not in node.children:
                raise FileNotFoundError(name)
            node = node.children[name]
        return node

    def stat(path: str, parameters: Any) -> dict[str, int]:
        return common.attributes(find(parameters))

    def read(path: str, parameters: Any) -> Callable[[int, int], bytes]:
        node = find(parameters)
        if node.slow:
            time.sleep(common.SLOW_SECONDS)

        def part(length: int, offset: int) -> bytes:
            return bytes(node.content[offset : offset + length])

        return part

    def write(path: str, parameters: Any) -> Callable[[bytes, int], None]:
        content = find(parameters).content
        assert isinstance(content, bytearray)

        def part(data: bytes, offset: int) -> None:
            memoryview(content)[offset : offset + len(data)] = data

        return part

    def names(path: str, parameters: Any) -> Iterable[str]:
        return find(parameters).children

    fs.onlist("/", names)
    fs.onlist("/:top", names)
    for route in routes:
        fs.onread(route, read, None)
        fs.onstat(route, stat)
    fs.onwrite("/:top", write, None)
    fs.mount(mountpoint, foreground=True, threads=True)


if __name__ == "__main__":
    common.run(
        lambda: importlib.metadata.version("mafs"),
        lambda source, mode: common.read_tree(source),
        serve,
        ["default"],
    )
