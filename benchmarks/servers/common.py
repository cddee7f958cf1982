"""What the servers share: the command line, the tree in memory, and the load beside it."""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import mmap
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SLOW_SECONDS = 0.25
"""How long the handler of an open of a file in slow/ sleeps."""

COMPUTE_ROUNDS = 100_000
"""How often the handler of an open of the file compute goes round an empty loop: about a millisecond."""

PAGES = 1 << 20
"""Bytes from which on a content lies in whole pages, as in the C server."""

FOREVER = 1e9
"""Seconds: the timeouts that the servers give the kernel."""


@dataclass
class Node:
    """A file (content) or directory (children) of the tree, as read from the source directory."""

    mode: int
    content: bytes | bytearray | mmap.mmap = b""
    children: dict[str, Node] = field(default_factory=dict)
    slow: bool = False
    computes: bool = False


def walk(source: str, slow: bool = False) -> Iterator[tuple[str, Node]]:
    """The (name, node) pairs of the directory *source*; those of directories have no children yet.

    The file sink can be written; files in slow/ and the file compute are marked.
    """
    for entry in os.scandir(source):
        node = Node(entry.stat().st_mode, slow=slow, computes=entry.name == "compute")
        if not entry.is_dir():
            with open(entry.path, "rb", buffering=0) as file:
                node.content = read_content(file, entry.stat().st_size)
        if entry.name == "sink":
            node.content = bytearray(node.content)
        yield entry.name, node


def read_content(file: io.FileIO, size: int) -> bytes | mmap.mmap:
    """All *size* bytes of *file*."""
    if size < PAGES:
        return file.readall()
    pages = mmap.mmap(-1, size)
    done = 0
    with memoryview(pages) as view:
        while done < size:
            done += file.readinto(view[done:]) or size
    return pages


def read_tree(source: str, slow: bool = False) -> Node:
    """The directory *source* in memory, with all that is below it."""
    root = Node(os.stat(source).st_mode)
    for name, node in walk(source, slow):
        if stat.S_ISDIR(node.mode):
            node = read_tree(f"{source}/{name}", name == "slow")
        root.children[name] = node
    return root


def attributes(node: Node) -> dict[str, int]:
    """The st_* fields of *node*."""
    return {
        "st_mode": node.mode,
        "st_nlink": 2 if stat.S_ISDIR(node.mode) else 1,
        "st_size": len(node.content),
    }


def resident() -> int:
    """Bytes resident in this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def compute_a_while() -> None:
    """Keep a CPU busy with Python."""
    for _ in range(COMPUTE_ROUNDS):
        pass


def _compute() -> None:
    while True:
        compute_a_while()


def _hold_gil() -> None:
    libc = ctypes.PyDLL(None)  # unlike CDLL, it keeps the GIL during the call
    while True:
        libc.usleep(10_000)


_BUSY: dict[str, Callable[[], None]] = {"computing": _compute, "gil": _hold_gil}


def run(
    version: Callable[[], str],
    load: Callable[[str, str], Any],
    serve: Callable[[Any, str, str], None],
    modes: Sequence[str],
) -> None:
    """Run a server: *load*(source, mode) makes its tree, *serve*(tree, mountpoint, mode) serves it.

    One line of JSON is printed between the two: the seconds and resident bytes that the tree took.
    *serve* returns when the file system has been unmounted.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument("--busy", choices=_BUSY)
    parser.add_argument("source")
    parser.add_argument("mountpoint")
    args = parser.parse_args()
    before, start = resident(), time.monotonic()
    tree = load(args.source, args.mode)
    facts = {"seconds": time.monotonic() - start, "bytes": resident() - before}
    if args.busy:
        threading.Thread(target=_BUSY[args.busy], daemon=True).start()
    print(json.dumps(facts), flush=True)
    serve(tree, args.mountpoint, args.mode)
