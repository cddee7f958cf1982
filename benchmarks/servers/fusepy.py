"""fusepy: ctypes over libfuse 2, with threads, big_writes, kernel_cache and long timeouts."""

from __future__ import annotations

import importlib.metadata

import fuse

from . import common
from .paths import PathOperations


class Operations(PathOperations, fuse.Operations):  # type: ignore[misc]
    pass


def serve(root: common.Node, mountpoint: str, mode: str) -> None:
    fuse.FUSE(
        Operations(root),
        mountpoint,
        foreground=True,
        big_writes=True,
        kernel_cache=True,
        entry_timeout=common.FOREVER,
        attr_timeout=common.FOREVER,
        negative_timeout=common.FOREVER,
    )


if __name__ == "__main__":
    common.run(
        lambda: importlib.metadata.version("fusepy"),
        lambda source, mode: common.read_tree(source),
        serve,
        ["default"],
    )
