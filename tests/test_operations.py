"""Every operation, reached by a system call on a mount: what its handler sees, gives and raises."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import select
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import ANY

import pytest
from programs import libfuse_version

from fastfuse import (
    Attr,
    Context,
    DirEntry,
    Entry,
    FileInfo,
    Flock,
    FuseError,
    IoctlRetry,
    Operations,
    Session,
    StatVFS,
)
from fastfuse.core.calls import OPERATIONS

pytestmark = pytest.mark.mount

ROOT, FILE, DIRECTORY, LINK, MADE = 1, 2, 3, 4, 10
MODES = {
    ROOT: stat.S_IFDIR | 0o755,
    FILE: stat.S_IFREG | 0o644,
    DIRECTORY: stat.S_IFDIR | 0o755,
    LINK: stat.S_IFLNK | 0o777,
}
NAMES = {b"f": FILE, b"d": DIRECTORY, b"l": LINK}
SET_MODE = 1  # FUSE_SET_ATTR_MODE
IOCTL = 0xC0046601  # _IOWR('f', 1, 4 bytes)

AT_FDCWD, STATX_BTIME = -100, 0x800

libc = ctypes.CDLL(None, use_errno=True)


def libc_call(name: str, *args: object) -> int:
    """A function of the C library that Python lacks; raises OSError."""
    result: int = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Everything(Operations):
    """A file, a directory and a link, which nothing changes; it notes what it is asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[object, ...]]] = []
        self.noted = threading.Condition()
        self.raises: dict[str, BaseException] = {}
        self.gives: dict[str, object] = {}

    def note(self, op: str, args: tuple[object, ...]) -> None:
        with self.noted:
            self.seen.append((op, args))
            self.noted.notify_all()

    def wait_for(self, op: str) -> tuple[object, ...]:
        """The arguments of the first call of *op*, which may still have to come."""

        def calls() -> list[tuple[object, ...]]:
            return [args for name, args in self.seen if name == op]

        with self.noted:
            assert self.noted.wait_for(calls, 10), f"{op} was not called, only {self.seen}"
            return calls()[0]

    def attr(self, ino: int) -> Attr:
        return Attr(ino=ino, mode=MODES[ino], size=5, attr_timeout=0)

    def made(self, mode: int) -> Entry:
        return Entry(Attr(ino=MADE, mode=mode, attr_timeout=0), entry_timeout=0)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        if parent != ROOT or name not in NAMES:
            raise FuseError(errno.ENOENT)
        return Entry(self.attr(NAMES[name]), entry_timeout=0)

    def forget(self, ino: int, nlookup: int) -> None:
        pass

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return self.attr(ino) if ino in MODES else self.made(stat.S_IFREG | 0o600).attr

    def setattr(
        self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None
    ) -> Attr:
        return self.attr(ino)

    def readlink(self, ctx: Context, ino: int) -> bytes:
        return b"target"

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        return self.made(mode)

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Entry:
        return self.made(stat.S_IFDIR | mode)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> None:
        pass

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> None:
        pass

    def symlink(self, ctx: Context, link: bytes, parent: int, name: bytes) -> Entry:
        return self.made(stat.S_IFLNK | 0o777)

    def rename(
        self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int
    ) -> None:
        pass

    def link(self, ctx: Context, ino: int, newparent: int, newname: bytes) -> Entry:
        return Entry(self.attr(ino), entry_timeout=0)

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.fh = 77
        fi.direct_io = True

    def create(self, ctx: Context, parent: int, name: bytes, mode: int, fi: FileInfo) -> Entry:
        fi.fh = 78
        return self.made(mode)

    def tmpfile(self, ctx: Context, parent: int, mode: int, fi: FileInfo) -> Entry:
        return self.made(mode)

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        return b"hello"[off : off + size]

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        return len(buf)

    def flush(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        pass

    def release(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        pass

    def fsync(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        pass

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.fh = 79

    def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        names = [(b".", ROOT), (b"..", ROOT), *NAMES.items()]
        for at, (name, child) in list(enumerate(names, 1))[off:]:
            yield DirEntry(name, at, ino=child, mode=MODES[child])

    def readdirplus(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        for entry in Everything.readdir(self, ctx, ino, off, fi):
            entry.entry = Entry(self.attr(entry.ino), entry_timeout=0)
            yield entry

    def releasedir(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        pass

    def fsyncdir(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        pass

    def statfs(self, ctx: Context, ino: int) -> StatVFS:
        return StatVFS(f_blocks=1000, f_bfree=300, f_bavail=200, f_files=50, f_ffree=7)

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int) -> None:
        pass

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> bytes:
        return b"value"

    def listxattr(self, ctx: Context, ino: int) -> Iterable[bytes]:
        return [b"user.a", b"user.b"]

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> None:
        pass

    def access(self, ctx: Context, ino: int, mask: int) -> None:
        pass

    def getlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock) -> Flock:
        return Flock(l_type=fcntl.F_WRLCK, l_start=2, l_len=3, l_pid=1)

    def setlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock, sleep: bool) -> None:
        pass

    def flock(self, ctx: Context, ino: int, fi: FileInfo, op: int) -> None:
        pass

    def bmap(self, ctx: Context, ino: int, blocksize: int, idx: int) -> int:
        return 1000 + idx

    def ioctl(
        self,
        ctx: Context,
        ino: int,
        cmd: int,
        arg: int,
        fi: FileInfo,
        flags: int,
        in_buf: bytes,
        out_bufsz: int,
    ) -> int | tuple[int, bytes] | IoctlRetry:
        return 5, in_buf[::-1]

    def poll(self, ctx: Context, ino: int, fi: FileInfo, ph: object) -> int:
        return select.POLLIN

    def fallocate(
        self, ctx: Context, ino: int, mode: int, offset: int, length: int, fi: FileInfo
    ) -> None:
        pass

    def copy_file_range(
        self,
        ctx: Context,
        ino_in: int,
        off_in: int,
        fi_in: FileInfo,
        ino_out: int,
        off_out: int,
        fi_out: FileInfo,
        len: int,
        flags: int,
    ) -> int:
        return len

    def lseek(self, ctx: Context, ino: int, off: int, whence: int, fi: FileInfo) -> int:
        return 4

    def statx(self, ctx: Context, ino: int, flags: int, mask: int, fi: FileInfo | None) -> Attr:
        return self.attr(ino)

    def retrieve_reply(self, cookie: int, ino: int, offset: int, data: bytes) -> None:
        pass


def watched(base: type[Everything], style: str) -> type[Everything]:
    """*base* whose every handler is noted, then does what `raises` and `gives` say, as `def` or `async def`."""

    def watch(op: str) -> Callable[..., object]:
        def handler(self: Everything, *args: object) -> object:
            self.note(op, args if op in ("forget", "retrieve_reply") else args[1:])
            if op in self.raises:
                raise self.raises[op]
            if op in self.gives:
                return self.gives[op]
            return getattr(base, op)(self, *args)

        async def coroutine(self: Everything, *args: object) -> object:
            return handler(self, *args)

        return coroutine if style == "async def" else handler

    return type("Watched", (base,), {op: watch(op) for op in OPERATIONS})


@pytest.fixture(params=["def", "async def"])
def ops(request: pytest.FixtureRequest) -> Everything:
    return watched(Everything, request.param)()


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def with_file(do: Callable[[int], object]) -> Callable[[Path, Session], object]:
    def call(root: Path, session: Session) -> object:
        with opened(root / "f") as fd:
            return do(fd)

    return call


def with_directory(do: Callable[[int], object]) -> Callable[[Path, Session], object]:
    def call(root: Path, session: Session) -> object:
        with opened(root, os.O_RDONLY | os.O_DIRECTORY) as fd:
            return do(fd)

    return call


def poll_once(fd: int) -> list[int]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return [events for _, events in poll.poll(10000)]


def lock_words(kind: int, start: int, length: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def get_lock(fd: int) -> tuple[object, ...]:
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, lock_words(fcntl.F_RDLCK, 0, 0))
    return struct.unpack("hhqqi4x", answer)[:4]


def look_up_and_drop(root: Path, session: Session) -> None:
    os.stat(root / "f")
    os.unlink(root / "f")


def retrieve(root: Path, session: Session) -> None:
    with opened(root / "f"):
        session.store(FILE, 0, b"hello")
        session.retrieve(FILE, 4, 1, 12345)


def scan(root: Path, session: Session) -> list[str]:
    return sorted(os.listdir(root))


def scan_and_stat(root: Path, session: Session) -> list[int]:
    with os.scandir(root) as entries:
        return sorted(entry.stat(follow_symlinks=False).st_ino for entry in entries)


def birth_time(root: Path, session: Session) -> int:
    """The inode number, by a statx(2) that asks for more than getattr can tell."""
    answer = ctypes.create_string_buffer(256)
    libc_call("statx", AT_FDCWD, os.fsencode(root / "f"), 0, STATX_BTIME, answer)
    ino: int = struct.unpack_from("Q", answer, 32)[0]
    return ino


@dataclass(frozen=True)
class Case:
    """*call* reaches *op*, whose handler sees *sees* (without ctx); the caller gets *gets*.

    *loud* False: an error of the handler reaches nobody. *failed*: what the caller gets in place of an errno.
    """

    op: str
    call: Callable[[Path, Session], object]
    sees: tuple[object, ...]
    gets: object = None
    loud: bool = True
    failed: object = None
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.op


CASES = [
    Case("lookup", lambda m, s: os.stat(m / "f").st_ino, (ROOT, b"f"), FILE),
    Case("forget", look_up_and_drop, (FILE, ANY), loud=False),
    Case("getattr", lambda m, s: os.stat(m).st_mode, (ROOT, None), MODES[ROOT]),
    Case("setattr", lambda m, s: os.chmod(m / "f", 0o600), (FILE, ANY, SET_MODE, None)),
    Case("readlink", lambda m, s: os.readlink(m / "l"), (LINK,), "target"),
    Case(
        "mknod",
        lambda m, s: os.mknod(m / "new", stat.S_IFCHR | 0o600, os.makedev(300, 70000)),
        (ROOT, b"new", stat.S_IFCHR | 0o600, os.makedev(300, 70000)),
    ),
    Case("mkdir", lambda m, s: os.mkdir(m / "new", 0o750), (ROOT, b"new", 0o750)),
    Case("unlink", lambda m, s: os.unlink(m / "f"), (ROOT, b"f")),
    Case("rmdir", lambda m, s: os.rmdir(m / "d"), (ROOT, b"d")),
    Case("symlink", lambda m, s: os.symlink("to/it", m / "new"), (b"to/it", ROOT, b"new")),
    Case(
        "rename", lambda m, s: os.rename(m / "f", m / "d/g"), (ROOT, b"f", DIRECTORY, b"g", 0)
    ),
    Case("link", lambda m, s: os.link(m / "f", m / "d/g"), (FILE, DIRECTORY, b"g")),
    Case("open", with_file(lambda fd: None), (FILE, ANY)),
    Case("read", with_file(lambda fd: os.pread(fd, 3, 1)), (FILE, 3, 1, ANY), b"ell"),
    Case("write", with_file(lambda fd: os.pwrite(fd, b"abc", 7)), (FILE, ANY, 7, ANY), 3),
    Case("flush", with_file(lambda fd: None), (FILE, ANY)),
    Case("release", with_file(lambda fd: None), (FILE, ANY), loud=False),
    Case("fsync", with_file(os.fdatasync), (FILE, True, ANY)),
    Case("opendir", with_directory(lambda fd: None), (ROOT, ANY)),
    Case("readdir", scan, (ROOT, 0, ANY), ["d", "f", "l"], without=("readdirplus",)),
    Case("readdirplus", scan_and_stat, (ROOT, 0, ANY), [FILE, DIRECTORY, LINK]),
    Case("releasedir", with_directory(lambda fd: None), (ROOT, ANY), loud=False),
    Case("fsyncdir", with_directory(os.fsync), (ROOT, False, ANY)),
    Case("statfs", lambda m, s: os.statvfs(m)[2:8], (ROOT,), (1000, 300, 200, 50, 7, 7)),
    Case(
        "setxattr",
        lambda m, s: os.setxattr(m / "f", "user.a", b"v", os.XATTR_CREATE),
        (FILE, b"user.a", b"v", os.XATTR_CREATE),
    ),
    Case("getxattr", lambda m, s: os.getxattr(m / "f", "user.a"), (FILE, b"user.a"), b"value"),
    Case("listxattr", lambda m, s: os.listxattr(m / "f"), (FILE,), ["user.a", "user.b"]),
    Case("removexattr", lambda m, s: os.removexattr(m / "f", "user.a"), (FILE, b"user.a")),
    Case(
        "access",
        lambda m, s: libc_call("access", os.fsencode(m / "f"), os.R_OK),
        (FILE, os.R_OK),
        0,
    ),
    Case(
        "create",
        lambda m, s: os.close(os.open(m / "new", os.O_CREAT | os.O_RDWR, 0o640)),
        (ROOT, b"new", stat.S_IFREG | 0o640, ANY),
    ),
    Case("getlk", with_file(get_lock), (FILE, ANY, ANY), (fcntl.F_WRLCK, os.SEEK_SET, 2, 3)),
    Case(
        "setlk",
        with_file(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 3, 2)),
        (FILE, ANY, ANY, False),
    ),
    Case(
        "ioctl",
        with_file(lambda fd: fcntl.ioctl(fd, IOCTL, b"abcd")),
        (FILE, IOCTL, ANY, ANY, ANY, b"abcd", 4),
        b"dcba",
    ),
    Case(
        "poll",
        with_file(poll_once),
        (FILE, ANY, ANY),
        [select.POLLIN],
        failed=[select.POLLERR],
    ),
    Case("retrieve_reply", retrieve, (12345, FILE, 1, b"ello"), loud=False),
    Case("flock", with_file(lambda fd: fcntl.flock(fd, fcntl.LOCK_SH)), (FILE, ANY, fcntl.LOCK_SH)),
    Case(
        "fallocate",
        with_file(lambda fd: os.posix_fallocate(fd, 10, 20)),
        (FILE, 0, 10, 20, ANY),
    ),
    Case(
        "copy_file_range",
        with_file(lambda fd: os.copy_file_range(fd, fd, 2, 0, 3)),
        (FILE, 0, ANY, FILE, 3, ANY, 2, 0),
        2,
    ),
    Case(
        "lseek",
        with_file(lambda fd: os.lseek(fd, 1, os.SEEK_DATA)),
        (FILE, 1, os.SEEK_DATA, ANY),
        4,
    ),
    Case(
        "tmpfile",
        lambda m, s: os.close(os.open(m, os.O_TMPFILE | os.O_RDWR, 0o600)),
        (ROOT, stat.S_IFREG | 0o600, ANY),
    ),
    Case("statx", birth_time, (FILE, 0, ANY, None), FILE),
]

SINCE = {"tmpfile": (317, "3.17"), "statx": (318, "3.18")}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    number, name = SINCE.get(found.op, (0, ""))
    if libfuse_version() < number:
        pytest.skip(f"{found.op} came with libfuse {name}; this is {libfuse_version()}")
    return found


def without(ops: Everything, names: tuple[str, ...]) -> Everything:
    """*ops* without some operations, of which the kernel then hears nothing."""
    base = type(ops)
    less: type[Everything] = type("Less", (base,), {name: getattr(Operations, name) for name in names})
    return less()


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def alive(root: Path, ops: Everything) -> None:
    """The mount still answers, with its own handlers."""
    ops.raises.clear()
    ops.gives.clear()
    assert os.stat(root / "f").st_size == 5
    assert os.readlink(root / "l") == "target"


def test_each_operation_has_a_case() -> None:
    assert {case.op for case in CASES} | {"bmap"} == set(OPERATIONS)


def test_an_answer_reaches_the_caller(
    case: Case, ops: Everything, mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ops = without(ops, case.without)
    with Session(ops, mountpoint) as session:
        assert case.call(mountpoint, session) == case.gets
        assert ops.wait_for(case.op) == case.sees
    assert errors(caplog) == []


def test_an_error_raised_on_purpose_reaches_the_caller(
    case: Case, ops: Everything, mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ops = without(ops, case.without)
    ops.raises[case.op] = FuseError(errno.EBADMSG)
    with Session(ops, mountpoint) as session:
        check_failure(case, ops, mountpoint, session, errno.EBADMSG)
    assert errors(caplog) == []


def test_any_other_exception_is_logged_once(
    case: Case, ops: Everything, mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ops = without(ops, case.without)
    problem = RuntimeError("a mistake")
    ops.raises[case.op] = problem
    with Session(ops, mountpoint) as session:
        check_failure(case, ops, mountpoint, session, errno.EIO)
    own = [record for record in errors(caplog) if record.exc_info and record.exc_info[1] is problem]
    assert len(own) == 1 == len(errors(caplog))
    assert own[0].getMessage().startswith(f"{case.op}(")
    assert problem.__traceback__ is not None


# What these return is of no interest; those give nothing.
UNHEARD = {"forget", "retrieve_reply"}
GIVE_NOTHING = UNHEARD | {
    *("unlink", "rmdir", "rename", "flush", "release", "fsync", "releasedir", "fsyncdir", "setxattr"),
    *("removexattr", "access", "setlk", "flock", "fallocate", "open", "opendir"),
}


@pytest.mark.parametrize("case", [case for case in CASES if case.op not in UNHEARD], indirect=True, ids=str)
def test_an_answer_of_the_wrong_type_is_logged_once(
    case: Case, ops: Everything, mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_wrong_answer(case, ops, mountpoint, caplog, object())


@pytest.mark.parametrize("case", [case for case in CASES if case.op not in GIVE_NOTHING], indirect=True, ids=str)
def test_no_answer_where_one_is_due_is_logged_once(
    case: Case, ops: Everything, mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_wrong_answer(case, ops, mountpoint, caplog, None)


@pytest.fixture
def block_device(tmp_path: Path) -> Iterator[str]:
    """A loop device, on whose mounts alone the kernel asks bmap."""
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    try:
        made = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no losetup")
    if made.returncode:
        pytest.skip(f"no loop device is to be had: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True, timeout=30)


def test_bmap(ops: Everything, mountpoint: Path, block_device: str, caplog: pytest.LogCaptureFixture) -> None:
    fibmap = 1

    def block(index: int) -> int:
        with opened(mountpoint / "f", os.O_RDONLY) as fd:
            number: int = struct.unpack("i", fcntl.ioctl(fd, fibmap, struct.pack("i", index)))[0]
            return number

    with Session(ops, mountpoint, options=["blkdev", f"fsname={block_device}"]):
        assert block(5) == 1005
        assert ops.wait_for("bmap") == (FILE, 4096, 5)
        ops.raises["bmap"] = RuntimeError("a mistake")
        assert block(5) == 0  # the kernel's answer for whatever went wrong
        alive(mountpoint, ops)
    (record,) = errors(caplog)
    assert record.getMessage().startswith("bmap(")


def check_wrong_answer(
    case: Case, ops: Everything, mountpoint: Path, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    ops = without(ops, case.without)
    ops.gives[case.op] = answer
    with Session(ops, mountpoint) as session:
        check_failure(case, ops, mountpoint, session, errno.EIO)
    assert len(errors(caplog)) == 1
    assert case.op in errors(caplog)[0].getMessage()


def check_failure(
    case: Case, ops: Everything, root: Path, session: Session, expected: int
) -> None:
    if case.failed is not None:
        assert case.call(root, session) == case.failed
    elif case.loud:
        with pytest.raises(OSError) as raised:
            case.call(root, session)
        assert raised.value.errno == expected
    else:
        case.call(root, session)
    ops.wait_for(case.op)
    alive(root, ops)
