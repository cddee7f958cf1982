"""Everything at once: facts said, replaced, evicted, ended and forgotten by many threads while programs read.

What it is for is the sanitizers (make sanitize): any order of events must be free of races and of freed memory.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastfuse import FOREVER, PUBLISHED, Attr, Context, FileInfo, FuseError, Operations, Session, Tree
from fastfuse.errors import Published

pytestmark = pytest.mark.mount

NAMES = [b"f%d" % i for i in range(40)]
SECONDS = 3.0

# Each content is one byte, repeated: a torn read shows at once.
CLIENT = """
import os, random, sys, time
mount, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
random.seed(seed)
end = time.monotonic() + seconds
torn = reads = 0
while time.monotonic() < end:
    name = random.choice(["f%d" % i for i in range(40)] + ["p%d" % i for i in range(20)] + ["no"])
    try:
        with open(f"{mount}/{name}", "rb") as file:
            data = file.read()
            if os.fstat(file.fileno()).st_size != len(data):
                torn += 1
            file.seek(0)
            if len(set(data)) > 1 or file.read() != data:
                torn += 1
            reads += 1
        if random.random() < 0.2:
            os.stat(f"{mount}/{name}")
            os.listdir(mount)
    except OSError as error:
        if error.errno not in (2, 116):
            raise
print(reads, torn)
"""


class Shifting(Operations):
    """f* exist; their contents change and go as they please."""

    coalesce = frozenset({"lookup", "getattr", "open", "opendir"})

    def __init__(self) -> None:
        self.tree: Tree = Tree(cache_size=200_000)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Published:
        if name not in NAMES:
            raise FuseError(errno.ENOENT)
        life = random.choice([0, 0.01, FOREVER])
        self.tree.set_entry(parent, name, Attr(mode=stat.S_IFREG | 0o444, attr_timeout=life), life, sized=False)
        return PUBLISHED

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Published:
        kind = stat.S_IFDIR | 0o555 if ino == 1 else stat.S_IFREG | 0o444
        self.tree.set_attr(ino, Attr(mode=kind, attr_timeout=0.01), sized=False)
        return PUBLISHED

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> Published:
        content = bytes([random.randrange(256)]) * random.randrange(1, 30_000)
        self.tree.set_content(ino, content, random.choice([0, 0.01, FOREVER]))
        return PUBLISHED

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> Published:
        self.tree.set_listing(ino, [(name, stat.S_IFREG) for name in NAMES], random.choice([0, 0.01]))
        return PUBLISHED


def shake(tree: Tree, end: float) -> None:
    """Publish, replace, remove, invalidate, until *end*."""
    while time.monotonic() < end:
        name = f"p{random.randrange(20)}"
        try:
            match random.randrange(4):
                case 0 | 1:
                    tree.publish(name, bytes([random.randrange(256)]) * random.randrange(30_000))
                case 2:
                    tree.remove(name)
                case _:
                    ino = tree.find(random.choice(NAMES))
                    if ino is not None:
                        tree.invalidate(ino)
        except FuseError as error:
            assert error.errno in (errno.ENOENT, errno.ESTALE), error
        time.sleep(0.0005)


def drop_caches(end: float) -> None:
    """Let the kernel forget inodes, where it may be asked to."""
    while time.monotonic() < end:
        try:
            Path("/proc/sys/vm/drop_caches").write_text("2")
        except OSError:
            return
        time.sleep(0.05)


def test_everything_at_once(mountpoint: Path) -> None:
    ops = Shifting()
    failures: list[BaseException] = []
    before = threading.excepthook
    threading.excepthook = lambda args: failures.append(args.exc_value or RuntimeError(str(args.exc_type)))
    try:
        with Session(ops, mountpoint) as session:
            end = time.monotonic() + SECONDS
            clients = [
                subprocess.Popen(
                    [sys.executable, "-c", CLIENT, mountpoint, str(seed), str(SECONDS)],
                    stdout=subprocess.PIPE,
                    text=True,
                    # The sanitizers' libraries are for the server.
                    env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
                )
                for seed in range(3)
            ]
            threads = [threading.Thread(target=shake, args=(ops.tree, end)) for _ in range(2)]
            threads.append(threading.Thread(target=drop_caches, args=(end,)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            said = [client.communicate(timeout=60)[0].split() for client in clients]
            assert [client.returncode for client in clients] == [0, 0, 0]
            stats = session.stats()
    finally:
        threading.excepthook = before
    assert failures == []
    assert sum(int(reads) for reads, _ in said) > 0
    assert [int(torn) for _, torn in said] == [0, 0, 0]
    assert stats["tree"]["evictions"] > 0
