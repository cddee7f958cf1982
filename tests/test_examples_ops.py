"""The examples that are written with Operations, each run as a program."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import select
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.mount

EXAMPLES = Path(__file__).parent.parent / "examples"
Run = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def running(mountpoint: Path, name: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """The example, mounted; it ends well on SIGINT, and has nothing to complain about."""
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(mountpoint):
            assert program.poll() is None, program.communicate()[1]
            assert time.monotonic() < deadline, f"{name} did not mount"
            time.sleep(0.01)
        yield program
        program.send_signal(signal.SIGINT)
        complaints = program.communicate(timeout=20)[1]
        assert not os.path.ismount(mountpoint)
        if name != "hello_async.py":  # asyncio.run says KeyboardInterrupt
            assert (program.returncode, complaints) == (0, "")
    finally:
        program.kill()
        program.wait()
        assert program.stderr is not None
        program.stderr.close()


@pytest.mark.parametrize("name", ["hello_operations.py", "hello_async.py"])
def test_hello(mountpoint: Path, name: str) -> None:
    with running(mountpoint, name, mountpoint, *["-f"] * (name != "hello_async.py")):
        assert os.listdir(mountpoint) == ["hello"]
        assert (mountpoint / "hello").read_text() == "Hello, world!\n"
        assert not (mountpoint / "goodbye").exists()


# ---- the two that can be written to


@pytest.fixture(params=["memory", "memory --writeback", "mirror", "mirror --writeback"])
def writable(request: pytest.FixtureRequest, mountpoint: Path, tmp_path: Path) -> Iterator[Path]:
    name, *flags = request.param.split()
    source = tmp_path / "source"
    source.mkdir()
    args = [source] if name == "mirror" else []
    with running(mountpoint, f"{name}.py", *args, mountpoint, "-f", *flags):
        yield mountpoint
        left = [path.name for path in source.iterdir()] if args else []
        assert sorted(left) == sorted(os.listdir(mountpoint)) or not args


def test_files(writable: Path) -> None:
    path = writable / "file"
    data = os.urandom(3 << 20)
    path.write_bytes(data)
    assert path.read_bytes() == data
    with open(path, "r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")
        file.truncate(2 << 20)
    assert path.read_bytes() == data[: 1 << 20] + b"changed" + data[(1 << 20) + 7 : 2 << 20]
    with open(path, "ab") as file:
        file.write(b"end")
    assert path.stat().st_size == (2 << 20) + 3
    path.write_bytes(b"short")
    assert path.read_bytes() == b"short"


def test_names(writable: Path) -> None:
    (writable / "a/b/c").mkdir(parents=True)
    (writable / "a/f").write_text("f")
    os.link(writable / "a/f", writable / "a/b/g")
    os.symlink("../f", writable / "a/b/l")
    os.mkfifo(writable / "a/p", 0o600)
    assert (writable / "a/b/l").read_text() == "f"
    assert (writable / "a/f").stat().st_nlink == 2
    assert (writable / "a/f").stat().st_ino == (writable / "a/b/g").stat().st_ino
    assert stat.S_ISFIFO((writable / "a/p").stat().st_mode)
    os.rename(writable / "a/b", writable / "d")
    assert sorted(os.listdir(writable / "d")) == ["c", "g", "l"]
    assert writable.stat().st_nlink == 4
    with pytest.raises(OSError) as raised:
        os.rmdir(writable / "d")
    assert raised.value.errno == errno.ENOTEMPTY
    os.unlink(writable / "a/f")
    assert (writable / "d/g").read_text() == "f"
    assert (writable / "d/g").stat().st_nlink == 1
    assert os.readlink(writable / "d/l") == "../f"


def test_rename_flags(writable: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    (writable / "f").write_text("f")
    (writable / "d").mkdir()
    one, two = os.fsencode(writable / "f"), os.fsencode(writable / "d")
    assert libc.renameat2(-100, one, -100, two, 1) == -1
    assert ctypes.get_errno() == errno.EEXIST
    assert libc.renameat2(-100, one, -100, two, 2) == 0
    assert (writable / "d").read_text() == "f"
    assert (writable / "f").is_dir()


def test_an_unlinked_file_lives_until_it_is_closed(writable: Path) -> None:
    with open(writable / "f", "w+b") as file:
        os.unlink(writable / "f")
        file.write(b"still here")
        file.flush()
        assert os.pread(file.fileno(), 100, 0) == b"still here"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert os.listdir(writable) == []


def test_modes_and_times(writable: Path) -> None:
    path = writable / "f"
    path.touch()
    os.chmod(path, 0o640)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    os.utime(path, ns=(123456789012345678, -5))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (123456789012345678, -5)
    before = path.stat().st_ctime_ns
    os.utime(path)
    assert path.stat().st_mtime_ns >= before
    if os.geteuid() == 0:
        os.chown(path, 1234, 5678)
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


def test_extended_attributes(writable: Path) -> None:
    path = writable / "f"
    path.touch()
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"2")
    assert os.getxattr(path, "user.a") == b"2"
    assert "user.a" in os.listxattr(path)
    os.removexattr(path, "user.a")
    with pytest.raises(OSError) as raised:
        os.getxattr(path, "user.a")
    assert raised.value.errno == errno.ENODATA


def test_holes(writable: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    step = 1 << 18
    with open(writable / "f", "w+b", buffering=0) as file:
        fd = file.fileno()
        os.pwrite(fd, b"x" * step, step)
        os.ftruncate(fd, 4 * step)
        os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_DATA) == step
        assert os.lseek(fd, step, os.SEEK_HOLE) == 2 * step
        os.posix_fallocate(fd, 0, 5 * step)
        assert os.fstat(fd).st_size == 5 * step
        assert libc.fallocate(fd, 3, ctypes.c_long(step), ctypes.c_long(step // 2)) == 0  # PUNCH_HOLE | KEEP_SIZE
        assert os.pread(fd, step, step) == bytes(step // 2) + b"x" * (step // 2)
        assert os.copy_file_range(fd, fd, 1000, step, 4 * step) == 1000
        assert os.pread(fd, 1000, 4 * step) == bytes(1000)


def test_locks(writable: Path) -> None:
    with open(writable / "f", "w+b") as one, open(writable / "f", "w+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX, 10, 5)
        program = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 14)"
        command = [sys.executable, "-c", program, str(writable / "f")]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert "BlockingIOError" in refused.stderr
        fcntl.lockf(one, fcntl.LOCK_UN, 10, 5)
        subprocess.run(command, check=True, timeout=20)


def test_a_file_without_a_name(writable: Path) -> None:
    try:
        fd = os.open(writable, os.O_TMPFILE | os.O_RDWR)
    except OSError as error:
        pytest.skip(f"O_TMPFILE needs libfuse 3.17: {error}")
    with open(fd, "w+b") as file:
        file.write(b"nameless")
        file.flush()
        libc = ctypes.CDLL(None, use_errno=True)
        at_symlink_follow = 0x400
        path = os.fsencode(writable / "named")
        assert libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, path, at_symlink_follow) == 0
    assert (writable / "named").read_bytes() == b"nameless"


def test_a_full_memory_says_so(mountpoint: Path) -> None:
    with running(mountpoint, "memory.py", mountpoint, "-f", "--size", 1 << 20):
        with pytest.raises(OSError) as raised:
            (mountpoint / "f").write_bytes(bytes(2 << 20))
        assert raised.value.errno == errno.ENOSPC
        os.unlink(mountpoint / "f")
        (mountpoint / "g").write_bytes(bytes(1 << 20))
        assert os.statvfs(mountpoint).f_bfree == 0


def test_programs_work_in_it(writable: Path, require: Callable[[str], str]) -> None:
    git = require("git")
    (writable / "repository").mkdir()

    def run(*words: str) -> str:
        command = [git, "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
        where = writable / "repository"
        return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True, timeout=60).stdout

    run("init", "-q")
    for number in range(20):
        (writable / f"repository/{number}").write_text(f"{number}\n" * 100)
    run("add", "-A")
    run("commit", "-q", "-m", "all")
    run("clone", "-q", ".", "../clone")
    assert run("-C", "../clone", "status", "--porcelain") == ""
    run("fsck", "--strict")


# ---- views


def test_counter_readers_see_each_change(mountpoint: Path) -> None:
    with running(mountpoint, "counter.py", mountpoint, "-f", "--period", 0.05):
        with open(mountpoint / "count", "rb", buffering=0) as file:
            waiter, seen = select.poll(), []
            waiter.register(file, select.POLLPRI)
            for _ in range(4):
                seen.append(int(os.pread(file.fileno(), 20, 0)))
                assert waiter.poll(20000), "nobody woke us"
            assert seen == sorted(set(seen))
        # A new reader, of what the kernel was allowed to keep for good.
        assert int((mountpoint / "count").read_text()) >= seen[-1]


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("read me", "text")
        archive.writestr("deep/er/file", b"\0" * 300000)
        archive.writestr("../outside", "no")
        link = zipfile.ZipInfo("deep/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "er/file")


def make_tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in (("read me", b"text"), ("deep/er/file", b"\0" * 300000), ("../outside", b"no")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o644
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("deep/link")
        link.type, link.linkname = tarfile.SYMTYPE, "er/file"
        archive.addfile(link)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archive(mountpoint: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "archive"
    make(path)
    with running(mountpoint, "archive.py", path, mountpoint, "-f", "--cache", 1000):
        assert sorted(os.listdir(mountpoint)) == ["deep", "read me"]
        assert (mountpoint / "read me").read_text() == "text"
        for _ in range(2):
            assert (mountpoint / "deep/er/file").read_bytes() == b"\0" * 300000
        assert os.readlink(mountpoint / "deep/link") == "er/file"
        assert (mountpoint / "deep/link").stat().st_size == 300000
        assert not (mountpoint / "deep/none").exists()
        with pytest.raises(OSError) as raised:
            (mountpoint / "read me").write_text("new")
        assert raised.value.errno == errno.EROFS


def test_no_archive_is_one_line(tmp_path: Path, mountpoint: Path) -> None:
    path = tmp_path / "none"
    path.write_text("not an archive")
    command = [sys.executable, str(EXAMPLES / "archive.py"), str(path), str(mountpoint), "-f"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
