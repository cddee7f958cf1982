"""mfusepy: ctypes over libfuse 3's high-level API, with threads and long timeouts."""

from __future__ import annotations

import importlib.metadata
import os

from . import common
from .paths import PathOperations

os.environ["FUSE_LIBRARY_NAME"] = "fuse3"  # with libfuse 2 installed too, it would take that

import mfusepy


class Operations(PathOperations, mfusepy.Operations):  # type: ignore[misc]
    pass


def serve(root: common.Node, mountpoint: str, mode: str) -> None:
    mfusepy.FUSE(
        Operations(root),
        mountpoint,
        foreground=True,
        kernel_cache=mode == "kernel_cache",
        entry_timeout=common.FOREVER,
        attr_timeout=common.FOREVER,
        negative_timeout=common.FOREVER,
    )


if __name__ == "__main__":
    common.run(
        lambda: importlib.metadata.version("mfusepy"),
        lambda source, mode: common.read_tree(source),
        serve,
        ["default", "kernel_cache"],
    )
