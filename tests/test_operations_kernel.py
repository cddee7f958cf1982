"""What handlers say to the kernel beside their answers (lifetimes, bits of open files), and what it says to them."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import select
import signal
import stat
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from fastfuse import (
    FOREVER,
    Attr,
    Content,
    Context,
    DirEntry,
    Entry,
    FileInfo,
    Flock,
    FuseError,
    IoctlRetry,
    Operations,
    Session,
    Tree,
)
from fastfuse.core.calls import PollHandle
from fastfuse.operations import Answer

pytestmark = pytest.mark.mount

ROOT, FILE = 1, 2
DIR_MODE, FILE_MODE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
CONTENT = bytes(range(256)) * 64

libc = ctypes.CDLL(None, use_errno=True)


def requests(session: Session, op: str) -> int:
    """How many requests of one operation the kernel has sent."""
    counted: int = session.stats()["operations"].get(op, {"requests": 0})["requests"]
    return counted


def hits(session: Session, op: str) -> int:
    counted: int = session.stats()["operations"].get(op, {"hits": 0})["hits"]
    return counted


class OneFile(Operations):
    """A root directory with one file, `f`."""

    entry_timeout = 0.0
    attr_timeout = 0.0

    def attr(self, ino: int) -> Attr:
        mode, size = (DIR_MODE, 0) if ino == ROOT else (FILE_MODE, len(CONTENT))
        return Attr(ino=ino, mode=mode, size=size, attr_timeout=self.attr_timeout)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        if name != b"f":
            raise FuseError(errno.ENOENT)
        return Entry(self.attr(FILE), entry_timeout=self.entry_timeout)

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return self.attr(ino)

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> Answer[bytes]:
        return CONTENT[off : off + size]


# ---- lifetimes


@pytest.mark.parametrize(("timeout", "asked"), [(0.0, 3), (1000.0, 1), (FOREVER, 1)])
def test_an_entry_is_believed_for_its_timeout(mountpoint: Path, timeout: float, asked: int) -> None:
    ops = OneFile()
    ops.entry_timeout = ops.attr_timeout = timeout
    with Session(ops, mountpoint) as session:
        for _ in range(3):
            os.stat(mountpoint / "f")
        assert requests(session, "lookup") == asked


@pytest.mark.parametrize(("timeout", "asked"), [(0.0, 3), (1000.0, 0)])
def test_attributes_are_believed_for_their_timeout(mountpoint: Path, timeout: float, asked: int) -> None:
    ops = OneFile()
    ops.entry_timeout = FOREVER
    ops.attr_timeout = timeout
    with Session(ops, mountpoint) as session:
        os.stat(mountpoint / "f")
        before = requests(session, "getattr")
        for _ in range(3):
            os.stat(mountpoint / "f")
        assert requests(session, "getattr") - before == asked


@pytest.mark.parametrize(("timeout", "asked"), [(None, 3), (0.0, 3), (1000.0, 1)])
def test_a_negative_entry_is_believed_for_its_timeout(mountpoint: Path, timeout: float | None, asked: int) -> None:
    class Negative(OneFile):
        def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
            if timeout is None:
                raise FuseError(errno.ENOENT)
            return Entry(Attr(), entry_timeout=timeout)

    with Session(Negative(), mountpoint) as session:
        for _ in range(3):
            assert not os.path.exists(mountpoint / "g")
        assert requests(session, "lookup") == asked


def test_the_generation_is_part_of_the_file_handle(mountpoint: Path) -> None:
    class Generation(OneFile):
        def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
            return Entry(self.attr(FILE), generation=0x1234567)

    handle = ctypes.create_string_buffer(struct.pack("Ii", 64, 0), 8 + 64)
    mount_id = ctypes.c_int()
    with Session(Generation(), mountpoint):
        path = os.fsencode(mountpoint / "f")
        result = libc.name_to_handle_at(-100, path, handle, ctypes.byref(mount_id), 0)
        assert result == 0, os.strerror(ctypes.get_errno())
    assert struct.unpack_from("3I", handle, 8) == (0, FILE, 0x1234567)


# ---- how a file is open


class Opening(OneFile):
    """Sets some bits in open."""

    def __init__(self, *bits: str) -> None:
        self.bits = bits
        self.sizes: list[int] = []

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        for bit in self.bits:
            setattr(fi, bit, True)

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        self.sizes.append(size)
        return CONTENT[off : off + size]

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        return len(buf)

    def flush(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        pass


def read_twice(path: Path) -> None:
    for _ in range(2):
        with open(path, "rb", buffering=0) as file:
            assert file.read(10) == CONTENT[:10]


def test_direct_io_asks_for_what_was_asked(mountpoint: Path) -> None:
    ops = Opening("direct_io")
    with Session(ops, mountpoint):
        read_twice(mountpoint / "f")
    assert ops.sizes == [10, 10]


def test_without_direct_io_whole_pages_are_asked_for(mountpoint: Path) -> None:
    ops = Opening()
    with Session(ops, mountpoint):
        read_twice(mountpoint / "f")
    assert len(ops.sizes) == 2
    assert min(ops.sizes) >= 4096


def test_keep_cache_keeps_what_was_read(mountpoint: Path) -> None:
    ops = Opening("keep_cache")
    with Session(ops, mountpoint):
        read_twice(mountpoint / "f")
    assert len(ops.sizes) == 1


def test_nonseekable_files_cannot_be_sought(mountpoint: Path) -> None:
    with Session(Opening("nonseekable"), mountpoint), open(mountpoint / "f", "rb", buffering=0) as file:
        with pytest.raises(OSError) as raised:
            os.lseek(file.fileno(), 5, os.SEEK_SET)
    assert raised.value.errno == errno.ESPIPE


@pytest.mark.parametrize(("bits", "asked"), [((), 1), (("noflush",), 0)])
def test_noflush_saves_the_flush(mountpoint: Path, bits: tuple[str, ...], asked: int) -> None:
    with Session(Opening(*bits), mountpoint) as session:
        with open(mountpoint / "f", "rb"):
            pass
        assert requests(session, "flush") == asked


@pytest.mark.parametrize("parallel", [True, False])
def test_parallel_direct_writes(mountpoint: Path, parallel: bool) -> None:
    meeting = threading.Barrier(2)
    met: list[bool] = []

    class Meeting(Opening):
        def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
            try:
                meeting.wait(10 if parallel else 0.2)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)
            return len(buf)

    ops = Meeting("direct_io", *["parallel_direct_writes"] * parallel)
    with Session(ops, mountpoint), open(mountpoint / "f", "r+b", buffering=0) as file:
        fd = file.fileno()
        writers = [threading.Thread(target=os.pwrite, args=(fd, b"x" * 10, 10 * i)) for i in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(20)
    assert met == [parallel, parallel]


class Listing(OneFile):
    """A directory of many files."""

    count = 3

    def __init__(self, *bits: str) -> None:
        self.bits = bits
        self.known: Counter[int] = Counter()
        self.changed = threading.Condition()

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        for bit in self.bits:
            setattr(fi, bit, True)

    def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        for number in range(off, self.count):
            yield DirEntry(b"%d" % number, number + 1, ino=number + 10, mode=FILE_MODE)


class ListingPlus(Listing):
    """As Listing, with entries; counts what the kernel knows."""

    def readdirplus(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        for entry in self.readdir(ctx, ino, off, fi):
            entry.entry = Entry(Attr(ino=entry.ino, mode=FILE_MODE), entry_timeout=1000)
            with self.changed:
                self.known[entry.ino] += 1
            yield entry

    def forget(self, ino: int, nlookup: int) -> None:
        with self.changed:
            self.known[ino] -= nlookup
            self.changed.notify_all()


@pytest.mark.parametrize(("bits", "asked"), [((), 2), (("cache_readdir", "keep_cache"), 1)])
def test_cache_readdir_keeps_the_listing(mountpoint: Path, bits: tuple[str, ...], asked: int) -> None:
    with Session(Listing(*bits), mountpoint) as session:
        assert os.listdir(mountpoint) == ["0", "1", "2"]
        once = requests(session, "readdir")
        assert os.listdir(mountpoint) == ["0", "1", "2"]
        assert requests(session, "readdir") == once * asked


@pytest.mark.parametrize("kind", [Listing, ListingPlus])
def test_a_large_directory_is_listed_whole_and_from_anywhere(mountpoint: Path, kind: type[Listing]) -> None:
    ops = kind()
    ops.count = 5000
    libc.opendir.restype = libc.telldir.restype = libc.readdir.restype = ctypes.c_void_p
    with Session(ops, mountpoint):
        assert os.listdir(mountpoint) == [str(number) for number in range(ops.count)]
        stream = ctypes.c_void_p(libc.opendir(os.fsencode(mountpoint)))
        libc.seekdir(stream, ctypes.c_long(4321))
        record = libc.readdir(stream)
        assert ctypes.string_at(record + 19) == b"4321"
        libc.closedir(stream)


def test_readdirplus_counts_lookups_which_forget_takes_back(mountpoint: Path) -> None:
    ops = ListingPlus()
    ops.count = 2000
    with Session(ops, mountpoint) as session:
        assert len(os.listdir(mountpoint)) == ops.count
        # Whatever did not fit into an answer has been given back already.
        assert set(ops.known.values()) <= {0, 1}
        for number in range(ops.count):
            with suppress(FuseError):  # ENOENT: the kernel did not ask for the entries of all names
                session.inval_entry(ROOT, b"%d" % number)
        with ops.changed:
            assert ops.changed.wait_for(lambda: not any(ops.known.values()), 20)


def test_readdirplus_that_fails_half_way_takes_its_lookups_back(mountpoint: Path) -> None:
    class Failing(ListingPlus):
        def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
            yield from super().readdir(ctx, ino, off, fi)
            raise FuseError(errno.EBADMSG)

    ops = Failing()
    with Session(ops, mountpoint):
        with pytest.raises(OSError) as raised:
            os.listdir(mountpoint)
    assert raised.value.errno == errno.EBADMSG
    assert not any(ops.known.values())


# ---- contents and writes


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "Path", "fd"])
@pytest.mark.parametrize("direct_io", [False, True])
def test_what_open_hands_back_is_served_in_c(mountpoint: Path, tmp_path: Path, kind: str, direct_io: bool) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(CONTENT)

    class Serving(OneFile):
        def open(self, ctx: Context, ino: int, fi: FileInfo) -> bytes | bytearray | memoryview | Path | Content:
            fi.direct_io = direct_io
            if kind == "Path":
                return backing
            if kind == "fd":
                with open(backing, "rb") as file:
                    return Content.from_fd(file.fileno())
            if kind == "bytearray":
                return bytearray(CONTENT)
            return memoryview(CONTENT) if kind == "memoryview" else CONTENT

        def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
            raise AssertionError("the content is there")

    with Session(Serving(), mountpoint) as session:
        assert (mountpoint / "f").read_bytes() == CONTENT
        with open(mountpoint / "f", "rb") as file:
            assert os.pread(file.fileno(), 100, len(CONTENT) - 50) == CONTENT[-50:]
    assert hits(session, "read") == requests(session, "read") > 0


class Storing(OneFile):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[tuple[int, memoryview, bool]] = []

    def attr(self, ino: int) -> Attr:
        mode = DIR_MODE if ino == ROOT else FILE_MODE
        return Attr(ino=ino, mode=mode, size=len(self.data), attr_timeout=FOREVER)

    def setattr(self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Attr:
        return self.attr(ino)

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        self.views.append((off, buf, fi.writepage))
        if len(self.data) < off:
            self.data += bytes(off - len(self.data))
        self.data[off : off + len(buf)] = buf
        return len(buf)

    def fsync(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        pass


class StoringAsync(Storing):
    async def write(  # type: ignore[override]
        self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo
    ) -> int:
        await asyncio.sleep(0.001)
        return super().write(ctx, ino, buf, off, fi)


@pytest.mark.parametrize("kind", [Storing, StoringAsync])
def test_a_large_write_arrives_whole_and_may_be_kept(mountpoint: Path, kind: type[Storing]) -> None:
    ops = kind()
    blocks = [bytes([number]) * (1 << 20) for number in range(4)]
    with Session(ops, mountpoint), open(mountpoint / "f", "wb", buffering=0) as file:
        for block in blocks:
            assert file.write(block) == len(block)
        # The views were lent, and nobody has taken the memory back while they are kept.
        assert [(off, len(view)) for off, view, _ in ops.views] == [(n << 20, 1 << 20) for n in range(4)]
        assert [bytes(view) == block for (_, view, _), block in zip(ops.views, blocks, strict=True)] == [True] * 4
        with pytest.raises(TypeError):
            ops.views[0][1][0] = 1
    assert ops.data == b"".join(blocks)


def test_the_writeback_cache_gathers_writes(mountpoint: Path) -> None:
    ops = Storing()
    with Session(ops, mountpoint, want={"writeback_cache"}), open(mountpoint / "f", "r+b", buffering=0) as file:
        for number in range(100):
            file.write(b"%05d" % number)
        os.fsync(file.fileno())
    assert ops.data == b"".join(b"%05d" % number for number in range(100))
    assert len(ops.views) < 100
    assert all(writepage for _, _, writepage in ops.views)


# ---- flags and arguments


def test_rename_flags(mountpoint: Path) -> None:
    seen: list[int] = []

    class Renaming(OneFile):
        def rename(self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
            seen.append(flags)
            if flags == 1:
                raise FileExistsError

    class Two(Renaming):
        def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
            if name == b"g":
                return Entry(Attr(ino=3, mode=FILE_MODE), entry_timeout=0)
            return super().lookup(ctx, parent, name)

    with Session(Two(), mountpoint):
        names = [os.fsencode(mountpoint / name) for name in ("f", "g", "h")]
        assert libc.renameat2(-100, names[0], -100, names[1], 2) == 0
        assert libc.renameat2(-100, names[0], -100, names[2], 1) == -1
        assert ctypes.get_errno() == errno.EEXIST
    assert seen == [2, 1]


UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
ATIME, MTIME, ATIME_NOW, MTIME_NOW = 1 << 4, 1 << 5, 1 << 7, 1 << 8


@pytest.mark.parametrize(
    ("atime", "mtime", "bits"),
    [
        ((5, 6), (-7, 8), ATIME | MTIME),
        ((0, UTIME_NOW), (0, UTIME_NOW), ATIME | MTIME | ATIME_NOW | MTIME_NOW),
        ((0, UTIME_OMIT), (7, 8), MTIME),
        ((5, 6), (0, UTIME_OMIT), ATIME),
    ],
)
def test_times_to_set(mountpoint: Path, atime: tuple[int, int], mtime: tuple[int, int], bits: int) -> None:
    seen: list[tuple[int, int, int]] = []

    class Timed(OneFile):
        def setattr(self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Attr:
            seen.append((to_set, attr.atime_ns, attr.mtime_ns))
            return self.attr(ino)

    with Session(Timed(), mountpoint):
        times = struct.pack("4q", *atime, *mtime)
        assert libc.utimensat(-100, os.fsencode(mountpoint / "f"), times, 0) == 0
    ((to_set, atime_ns, mtime_ns),) = seen
    assert to_set & (ATIME | MTIME | ATIME_NOW | MTIME_NOW) == bits
    if bits & ATIME and not bits & ATIME_NOW:
        assert atime_ns == atime[0] * 10**9 + atime[1]
    if bits & MTIME and not bits & MTIME_NOW:
        assert mtime_ns == mtime[0] * 10**9 + mtime[1]


def test_sizes_of_extended_attributes(mountpoint: Path) -> None:
    class Xattr(OneFile):
        def getxattr(self, ctx: Context, ino: int, name: bytes) -> bytes:
            return b"value"

    with Session(Xattr(), mountpoint):
        path, buf = os.fsencode(mountpoint / "f"), ctypes.create_string_buffer(10)
        assert libc.getxattr(path, b"user.a", None, 0) == 5
        assert libc.getxattr(path, b"user.a", buf, 10) == 5
        assert buf.value == b"value"
        assert libc.getxattr(path, b"user.a", buf, 4) == -1
        assert ctypes.get_errno() == errno.ERANGE


def test_names_are_bytes(mountpoint: Path) -> None:
    class Named(OneFile):
        def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
            if name != b"\xff\xfe ":
                raise FuseError(errno.ENOENT)
            return Entry(self.attr(FILE))

    with Session(Named(), mountpoint):
        assert os.stat(os.fsencode(mountpoint) + b"/\xff\xfe ").st_ino == FILE


def test_context_says_who_asks(mountpoint: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act for somebody else")
    contexts: list[Context] = []

    class Asked(OneFile):
        def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Entry:
            contexts.append(ctx)
            raise FuseError(errno.EROFS)

    program = "import os, sys; os.umask(0o27); os.setgid(1235); os.setuid(1234); print(os.getpid(), flush=True)"
    with Session(Asked(), mountpoint, options=["allow_other"]):
        for parent in mountpoint.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(0o755)
        run = subprocess.run(
            [sys.executable, "-c", f"{program}; os.mkdir(sys.argv[1])", str(mountpoint / "new")],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert "Read-only file system" in run.stderr
    (ctx,) = contexts
    assert (ctx.uid, ctx.gid, ctx.pid, ctx.umask) == (1234, 1235, int(run.stdout), 0o27)
    assert not ctx.interrupted


def test_locks_carry_their_owner_until_the_file_is_closed(mountpoint: Path) -> None:
    seen: list[tuple[str, int, object]] = []
    closed = threading.Event()

    class Locking(OneFile):
        def setlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock, sleep: bool) -> None:
            seen.append(("setlk", fi.lock_owner, (lock.l_type, lock.l_start, lock.l_len, sleep)))

        def getlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock) -> Flock:
            return Flock(l_type=fcntl.F_UNLCK)

        def flock(self, ctx: Context, ino: int, fi: FileInfo, op: int) -> None:
            seen.append(("flock", fi.lock_owner, op))

        def flush(self, ctx: Context, ino: int, fi: FileInfo) -> None:
            seen.append(("flush", fi.lock_owner, None))

        def release(self, ctx: Context, ino: int, fi: FileInfo) -> None:
            seen.append(("release", fi.lock_owner, fi.flock_release))
            closed.set()

    with Session(Locking(), mountpoint):
        with open(mountpoint / "f", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert closed.wait(10)
    ours, theirs = seen[0][1], seen[1][1]
    assert ours != 0 != theirs
    assert seen[:2] == [
        ("setlk", ours, (fcntl.F_WRLCK, 5, 10, True)),
        ("flock", theirs, fcntl.LOCK_EX | fcntl.LOCK_NB),
    ]
    assert ("flush", ours, None) in seen
    assert ("release", theirs, True) in seen


def test_an_ioctl_retry_is_refused_where_the_kernel_allows_none(mountpoint: Path) -> None:
    class Retrying(OneFile):
        def ioctl(
            self, ctx: Context, ino: int, cmd: int, arg: int, fi: FileInfo, flags: int, in_buf: bytes, out_bufsz: int
        ) -> IoctlRetry:
            return IoctlRetry([(arg, 4)], [(arg, 4)])

    with Session(Retrying(), mountpoint), open(mountpoint / "f", "rb") as file:
        with pytest.raises(OSError) as raised:
            fcntl.ioctl(file, 0xC0046601, b"abcd")
        assert raised.value.errno == errno.EIO
        assert os.stat(mountpoint / "f").st_size == len(CONTENT)


def test_what_is_not_defined_is_not_asked(mountpoint: Path) -> None:
    with Session(OneFile(), mountpoint) as session:
        for _ in range(2):
            with pytest.raises(OSError) as raised:
                os.setxattr(mountpoint / "f", "user.a", b"v")
            assert raised.value.errno == errno.EOPNOTSUPP
        with pytest.raises(OSError) as raised:
            os.mkdir(mountpoint / "d")
        assert raised.value.errno == errno.ENOSYS
        assert os.access(mountpoint / "f", os.R_OK)
        with open(mountpoint / "f", "rb") as file:
            os.fsync(file.fileno())
        assert set(session.stats()["operations"]) <= {"lookup", "getattr", "read"}


def test_poll_waits_until_it_is_woken(mountpoint: Path) -> None:
    ready, asked = threading.Event(), threading.Event()
    handles: list[PollHandle] = []

    class Polled(OneFile):
        def poll(self, ctx: Context, ino: int, fi: FileInfo, ph: PollHandle | None) -> int:
            if ph is not None:
                handles.append(ph)
            asked.set()
            return select.POLLIN if ready.is_set() else 0

    program = "import select, sys; p = select.epoll(); f = open(sys.argv[1]); p.register(f, select.EPOLLIN); "
    with Session(Polled(), mountpoint) as session:
        waiter = subprocess.Popen(
            [sys.executable, "-c", program + "print(p.poll(30)[0][1])", str(mountpoint / "f")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(10)
        ready.set()
        handles[-1].notify()
        assert waiter.communicate(timeout=20)[0] == f"{select.EPOLLIN}\n"
        assert requests(session, "poll") >= 2
    handles[-1].notify()  # too late, and harmless


# ---- a tree beside


def test_a_class_serves_what_its_tree_does_not(mountpoint: Path) -> None:
    class Mixed(OneFile):
        def __init__(self) -> None:
            self.tree = Tree(first_ino=1 << 48)
            self.tree.publish("in/c", b"from C" * 4000)

        def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
            assert ino == FILE

    with Session(Mixed(), mountpoint) as session:
        assert (mountpoint / "in/c").read_bytes() == b"from C" * 4000
        assert (mountpoint / "f").read_bytes() == CONTENT
        assert os.stat(mountpoint / "f").st_ino == FILE
        assert os.stat(mountpoint / "in").st_ino >= 1 << 48
        assert not os.path.exists(mountpoint / "in/g")
    assert hits(session, "read") == 1


# ---- interrupts


class DirectIO(OneFile):
    """Reads that wait for their answer: those of the page cache wait for pages, which no signal ends."""

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.direct_io = True


def interrupted_reader(path: Path, asked: threading.Event) -> int:
    """The exit status of a program that is interrupted while it reads *path*."""
    program = "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.read(fd, 10)"
    reader = subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.PIPE)
    assert asked.wait(20)
    reader.send_signal(signal.SIGINT)
    reader.communicate(timeout=20)
    return reader.returncode


def test_a_signal_sets_the_flag_that_a_plain_handler_looks_at(mountpoint: Path) -> None:
    asked = threading.Event()
    contexts: list[Context] = []

    class Waiting(DirectIO):
        def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
            contexts.append(ctx)
            assert not ctx.interrupted
            asked.set()
            for _ in range(2000):
                if ctx.interrupted:
                    raise FuseError(errno.EINTR)
                threading.Event().wait(0.01)
            raise FuseError(errno.EBADMSG)

    with Session(Waiting(), mountpoint):
        assert interrupted_reader(mountpoint / "f", asked) == -signal.SIGINT
        assert contexts[0].interrupted


def test_a_signal_cancels_a_coroutine(mountpoint: Path) -> None:
    asked, cancelled = threading.Event(), threading.Event()

    class Waiting(DirectIO):
        async def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert ctx.interrupted
                cancelled.set()
                raise
            return b""

    with Session(Waiting(), mountpoint):
        assert interrupted_reader(mountpoint / "f", asked) == -signal.SIGINT
        assert cancelled.wait(10)


def test_a_coroutine_is_cancelled_once_and_may_still_answer(mountpoint: Path) -> None:
    asked, done = threading.Event(), threading.Event()

    class Stubborn(DirectIO):
        async def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for _ in range(20):
                    await asyncio.sleep(0.01)
                done.set()
            return CONTENT[off : off + size]

    with Session(Stubborn(), mountpoint):
        interrupted_reader(mountpoint / "f", asked)
        assert done.wait(10)
