"""What a session tells the kernel, from handlers and from other threads."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import libfuse_version

from fastfuse import FOREVER, Attr, Context, Entry, FileInfo, FuseError, Operations, Session

pytestmark = pytest.mark.mount

ROOT, FILE = 1, 2
PAGE = 4096


class Changing(Operations):
    """Two pages of a letter, which the kernel may keep for good; `writing` runs inside each write to `trigger`."""

    def __init__(self) -> None:
        self.letter = b"a"
        self.mode = 0o644
        self.exists = True
        self.asked: list[tuple[str, int]] = []
        self.retrieved: list[tuple[int, int, int, bytes]] = []
        self.got = threading.Event()
        self.writing: Callable[[], None] = lambda: None

    def attr(self, ino: int) -> Attr:
        mode = stat.S_IFDIR | 0o755 if ino == ROOT else stat.S_IFREG | self.mode
        return Attr(ino=ino, mode=mode, size=2 * PAGE, attr_timeout=FOREVER)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        self.asked.append(("lookup", parent))
        if name == b"trigger":
            return Entry(self.attr(3), entry_timeout=FOREVER)
        if name != b"f" or not self.exists:
            return Entry(Attr(), entry_timeout=FOREVER)
        return Entry(self.attr(FILE), entry_timeout=FOREVER)

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        self.asked.append(("getattr", ino))
        return self.attr(ino)

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.keep_cache = ino == FILE
        fi.direct_io = ino != FILE

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        self.asked.append(("read", off))
        return self.letter * max(0, min(size, 2 * PAGE - off))

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        self.writing()
        return len(buf)

    def retrieve_reply(self, cookie: int, ino: int, offset: int, data: bytes) -> None:
        self.retrieved.append((cookie, ino, offset, data))
        self.got.set()


class ChangingAsync(Changing):
    async def write(  # type: ignore[override]
        self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo
    ) -> int:
        await asyncio.to_thread(self.writing)
        return len(buf)


Notify = Callable[[Callable[[], None]], None]


@pytest.fixture(params=["this thread", "another thread", "a handler", "a coroutine"])
def where(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def ops(where: str) -> Changing:
    return ChangingAsync() if where == "a coroutine" else Changing()


def notify(where: str, ops: Changing, mountpoint: Path, tell: Callable[[], None]) -> None:
    """Call *tell* there, and wait until it has returned."""
    if where == "this thread":
        tell()
    elif where == "another thread":
        thread = threading.Thread(target=tell)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    else:
        ops.writing = tell
        with open(mountpoint / "trigger", "r+b", buffering=0) as file:
            file.write(b"now")


def asked(ops: Changing, what: str) -> int:
    """How often, since the last time."""
    count = sum(op == what for op, _ in ops.asked)
    ops.asked = [(op, number) for op, number in ops.asked if op != what]
    return count


def test_inval_inode(ops: Changing, where: str, mountpoint: Path) -> None:
    with Session(ops, mountpoint) as session:
        assert (mountpoint / "f").read_bytes() == b"a" * 2 * PAGE
        ops.letter = b"b"
        assert (mountpoint / "f").read_bytes() == b"a" * 2 * PAGE
        asked(ops, "getattr")
        notify(where, ops, mountpoint, lambda: session.inval_inode(FILE))
        assert (mountpoint / "f").read_bytes() == b"b" * 2 * PAGE
        assert asked(ops, "getattr") >= 1


def test_inval_inode_of_a_range(ops: Changing, where: str, mountpoint: Path) -> None:
    with Session(ops, mountpoint) as session:
        assert (mountpoint / "f").read_bytes() == b"a" * 2 * PAGE
        ops.letter = b"b"
        notify(where, ops, mountpoint, lambda: session.inval_inode(FILE, PAGE, PAGE))
        assert (mountpoint / "f").read_bytes() == b"a" * PAGE + b"b" * PAGE


def test_inval_inode_of_attributes_only(ops: Changing, where: str, mountpoint: Path) -> None:
    with Session(ops, mountpoint) as session:
        assert (mountpoint / "f").read_bytes() == b"a" * 2 * PAGE
        (mountpoint / "f").stat()  # reading has made the time of the last access unknown
        ops.letter, ops.mode = b"b", 0o600
        assert stat.S_IMODE((mountpoint / "f").stat().st_mode) == 0o644
        notify(where, ops, mountpoint, lambda: session.inval_inode(FILE, -1))
        assert stat.S_IMODE((mountpoint / "f").stat().st_mode) == 0o600
        assert (mountpoint / "f").read_bytes() == b"a" * 2 * PAGE


@pytest.mark.parametrize("how", ["inval_entry", "expire_entry"])
def test_the_end_of_an_entry(ops: Changing, where: str, mountpoint: Path, how: str) -> None:
    if how == "expire_entry" and libfuse_version() < 313:
        with Session(ops, mountpoint) as session, pytest.raises(FuseError) as refused:
            session.expire_entry(ROOT, b"f")
        assert refused.value.errno == errno.ENOSYS
        return
    with Session(ops, mountpoint) as session:
        assert (mountpoint / "f").exists()
        ops.exists = False
        assert (mountpoint / "f").exists()
        asked(ops, "lookup")
        notify(where, ops, mountpoint, lambda: getattr(session, how)(ROOT, b"f"))
        assert not (mountpoint / "f").exists()
        assert asked(ops, "lookup") >= 1


def test_inval_entry_of_a_name_that_did_not_exist(ops: Changing, where: str, mountpoint: Path) -> None:
    ops.exists = False
    with Session(ops, mountpoint) as session:
        assert not (mountpoint / "f").exists()
        ops.exists = True
        assert not (mountpoint / "f").exists()
        notify(where, ops, mountpoint, lambda: session.inval_entry(ROOT, b"f"))
        assert (mountpoint / "f").exists()


def test_delete_reaches_who_watches(ops: Changing, where: str, mountpoint: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    in_delete_self, in_nonblock = 0x400, 0x800
    with Session(ops, mountpoint) as session:
        assert (mountpoint / "f").exists()
        watcher = libc.inotify_init1(in_nonblock)
        try:
            assert libc.inotify_add_watch(watcher, os.fsencode(mountpoint / "f"), in_delete_self) >= 0
            ops.exists = False
            notify(where, ops, mountpoint, lambda: session.delete(ROOT, FILE, b"f"))
            event = os.read(watcher, 4096)
        finally:
            os.close(watcher)
        assert not (mountpoint / "f").exists()
    assert struct.unpack_from("iI", event)[1] & in_delete_self


def test_what_is_stored_is_read_and_retrieved(ops: Changing, where: str, mountpoint: Path) -> None:
    with Session(ops, mountpoint) as session:
        with open(mountpoint / "f", "rb", buffering=0) as file:
            notify(where, ops, mountpoint, lambda: session.store(FILE, 0, b"stored" + b"." * (2 * PAGE - 6)))
            assert os.pread(file.fileno(), 8, 0) == b"stored.."
            assert asked(ops, "read") == 0
            notify(where, ops, mountpoint, lambda: session.retrieve(FILE, 10, 3, 2**63 + 7))
            assert ops.got.wait(10)
    assert ops.retrieved == [(2**63 + 7, FILE, 3, b"red.......")]


def test_what_the_kernel_does_not_know_is_an_error(mountpoint: Path) -> None:
    with Session(Changing(), mountpoint) as session:
        for tell in (
            lambda: session.inval_inode(99),
            lambda: session.inval_entry(99, b"f"),
            lambda: session.delete(99, 98, b"f"),
            lambda: session.store(99, 0, b"data"),
            lambda: session.retrieve(99, 10, 0, 1),
        ):
            with pytest.raises(FuseError) as raised:
                tell()
            assert raised.value.errno == errno.ENOENT


def test_notifications_after_the_end_do_no_harm(mountpoint: Path) -> None:
    with Session(Changing(), mountpoint) as session:
        assert (mountpoint / "f").exists()
    session.inval_inode(FILE)
    session.inval_entry(ROOT, b"f")
    session.store(FILE, 0, b"data")


def test_notifications_from_many_threads_during_requests(mountpoint: Path) -> None:
    ops = Changing()
    with Session(ops, mountpoint) as session:
        assert (mountpoint / "f").exists()
        done = threading.Event()

        def shout() -> None:
            while not done.is_set():
                session.inval_inode(FILE)
                session.inval_inode(FILE, -1)

        threads = [threading.Thread(target=shout) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(200):
                assert (mountpoint / "f").read_bytes() == b"a" * 2 * PAGE
                (mountpoint / "f").stat()
        finally:
            done.set()
            for thread in threads:
                thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
