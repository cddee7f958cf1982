"""A session: its options, its ends, many of them; what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfuse import Attr, Context, Entry, FileInfo, FuseError, Operations, Session, Tree
from fastfuse.operations import Answer
from fastfuse.session import CAPABILITIES

pytestmark = pytest.mark.mount

ROOT, FILE = 1, 2


class Slow(Operations):
    """A file whose reads wait until they are let go, as `def`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.reading = threading.Semaphore(0)
        self.destroyed = 0

    def attr(self, ino: int) -> Attr:
        mode = stat.S_IFDIR | 0o755 if ino == ROOT else stat.S_IFREG | 0o644
        return Attr(ino=ino, mode=mode, size=100)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        if name != b"f":
            raise FuseError(errno.ENOENT)
        return Entry(self.attr(FILE))

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return self.attr(ino)

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.direct_io = True

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> Answer[bytes]:
        self.reading.release()
        self.go.wait(60)
        return b"x" * size

    def destroy(self) -> None:
        self.destroyed += 1


class SlowAsync(Slow):
    """The same as `async def`; a cancellation does not end it."""

    async def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        self.reading.release()
        while not self.go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return b"x" * size


@pytest.fixture(params=[Slow, SlowAsync])
def slow(request: pytest.FixtureRequest) -> Iterator[Slow]:
    ops: Slow = request.param()
    yield ops
    ops.go.set()


class Reader(threading.Thread):
    """Reads a file; `result` is the bytes or the errno."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.result: bytes | int | None = None
        self.start()

    def run(self) -> None:
        try:
            fd = os.open(self.path, os.O_RDONLY)
            self.result = os.read(fd, 10)
        except OSError as error:
            self.result = error.errno
        with contextlib.suppress(OSError):  # the mount may be gone by now
            os.close(fd)


def start_reader_process(path: Path) -> subprocess.Popen[bytes]:
    program = "import os, sys; os.read(os.open(sys.argv[1], os.O_RDONLY), 10)"
    return subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.PIPE)


def wait_for(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def descriptors() -> set[str]:
    gc.collect()  # a session and its engine know each other
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            continue  # the listing's own
    return found


@pytest.fixture
def leaves_nothing(slow: Slow) -> Iterator[None]:
    """After the test, and after handlers were let go, there are the threads and descriptors of before."""
    threads, fds = set(threading.enumerate()), descriptors()
    yield
    slow.go.set()
    wait_for(lambda: not set(threading.enumerate()) - threads, "a thread is left")
    wait_for(lambda: not descriptors() - fds, f"descriptors are left: {descriptors() - fds}")


# ---- options


def test_connection_settings_are_read_back_as_agreed(mountpoint: Path) -> None:
    asked: dict[str, Any] = {"max_write": 65536, "max_background": 7, "congestion_threshold": 5, "time_gran": 1000}
    with Session(
        Slow(), mountpoint, **asked, max_readahead=32768, want={"writeback_cache"}, unwanted={"async_read"}
    ) as session:
        agreed = session.stats()["connection"]
    assert {name: agreed[name] for name in asked} == asked
    assert agreed["max_readahead"] <= 32768
    assert agreed["want"] & CAPABILITIES["writeback_cache"]
    assert not agreed["want"] & CAPABILITIES["async_read"]
    assert agreed["protocol"][0] == 7


def test_max_write_bounds_writes(mountpoint: Path) -> None:
    sizes: list[int] = []

    class Written(Slow):
        def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
            sizes.append(len(buf))
            return len(buf)

    with Session(Written(), mountpoint, max_write=65536), open(mountpoint / "f", "r+b", buffering=0) as file:
        file.write(mmap.mmap(-1, 1 << 18))  # begins with a page, so that nothing is split
    assert sizes == [65536] * 4


def test_max_read_bounds_reads(mountpoint: Path) -> None:
    sizes: list[int] = []

    class Read(Slow):
        def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
            sizes.append(size)
            return bytes(size)

    with Session(Read(), mountpoint, options=["max_read=16384"]), open(mountpoint / "f", "rb", buffering=0) as file:
        file.read(1 << 16)
    assert sizes == [16384] * 4


@pytest.mark.parametrize(
    ("options", "named"),
    [(["nonsense"], "nonsense"), (["allow_other,typo=3"], "typo=3"), (["ro=1"], "ro=1"), (["fsname"], "fsname")],
)
def test_a_wrong_mount_option_is_named(mountpoint: Path, options: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Session(Slow(), mountpoint, options=options)


def test_a_wrong_capability_is_named(mountpoint: Path) -> None:
    with pytest.raises(ValueError, match="no_such"):
        Session(Slow(), mountpoint, want={"no_such"})


def test_mount_options_reach_the_mount(mountpoint: Path) -> None:
    options = ["ro", "fsname=a source", "subtype=kind", "default_permissions", "noexec"]
    if os.geteuid() == 0:
        options.append("allow_other")
    with Session(Slow(), mountpoint, options=options):
        (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(mountpoint) in line]
        with pytest.raises(OSError) as raised:
            os.mkdir(mountpoint / "d")
    assert raised.value.errno == errno.EROFS
    mounted, _, filesystem = line.partition(" - ")
    assert filesystem.split(" ")[:2] == ["fuse.kind", r"a\040source"]
    assert {"ro", "noexec"} <= set(mounted.split(" ")[5].split(","))
    assert "default_permissions" in filesystem


# ---- several


def test_several_sessions_in_one_process(tmp_path: Path) -> None:
    sessions = []
    for name in ("one", "two", "three"):
        tree = Tree()
        tree.publish("name", name.encode())
        ops = Slow()
        ops.tree = tree
        (tmp_path / name).mkdir()
        sessions.append(Session(ops, tmp_path / name))
    for session in sessions:
        session.mount()
        session.start()
    for name in ("one", "two", "three"):
        assert (tmp_path / name / "name").read_text() == name
    sessions[1].close()
    assert os.listdir(tmp_path / "two") == []
    assert (tmp_path / "three/name").read_text() == "three"
    sessions[0].close()
    sessions[2].close()


def test_several_sessions_on_one_event_loop(tmp_path: Path) -> None:
    async def serve_both() -> list[bytes | int | None]:
        all_ops, tasks = [SlowAsync(), SlowAsync()], []
        for number, ops in enumerate(all_ops):
            (tmp_path / f"m{number}").mkdir()
            tasks.append(asyncio.create_task(Session(ops, tmp_path / f"m{number}").serve()))
        await asyncio.to_thread(wait_for, lambda: all(map(os.path.ismount, tmp_path.iterdir())), "not mounted")
        readers = [Reader(tmp_path / f"m{number}/f") for number in range(2)]
        for ops in all_ops:
            assert await asyncio.to_thread(ops.reading.acquire, timeout=20)
            ops.go.set()
        for reader in readers:
            await asyncio.to_thread(reader.join, 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [reader.result for reader in readers]

    assert asyncio.run(serve_both()) == [b"x" * 10] * 2
    assert not any(map(os.path.ismount, tmp_path.iterdir()))


def test_a_session_is_used_once(mountpoint: Path) -> None:
    session = Session(Slow(), mountpoint)
    with session:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        session.mount()
    session.close()


# ---- counters


def test_stats_count_requests_errors_bytes_and_time(mountpoint: Path) -> None:
    class Counted(Slow):
        def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
            time.sleep(0.001)
            return bytes(size)

        def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Entry:
            raise FuseError(errno.EROFS)

        def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
            return len(buf)

    session = Session(Counted(), mountpoint)
    with session:
        with open(mountpoint / "f", "r+b", buffering=0) as file:
            for _ in range(3):
                os.pread(file.fileno(), 10, 0)
            os.pwrite(file.fileno(), b"12345", 0)
        with pytest.raises(OSError):
            os.mkdir(mountpoint / "d")
    stats = session.stats()
    operations = stats["operations"]
    assert (stats["bytes_read"], stats["bytes_written"]) == (30, 5)
    assert operations["read"]["requests"] == 3
    assert operations["read"]["hits"] == 0 == operations["read"]["errors"]
    assert operations["read"]["ns"] >= 3_000_000
    assert operations["mkdir"] | {"ns": 0} == {"requests": 1, "hits": 0, "errors": 1, "ns": 0}


# ---- ends


@pytest.mark.usefixtures("leaves_nothing")
def test_requests_in_flight_are_answered_at_the_end(slow: Slow, mountpoint: Path) -> None:
    with Session(slow, mountpoint):
        readers = [Reader(mountpoint / "f") for _ in range(5)]
        for _ in readers:
            assert slow.reading.acquire(timeout=20)
        threading.Timer(0.05, slow.go.set).start()
    for reader in readers:
        reader.join(20)
    # Those that the kernel had not handed over yet get an error as well, never nothing.
    assert {reader.result for reader in readers} == {b"x" * 10}
    assert slow.destroyed == 1


@pytest.mark.usefixtures("leaves_nothing")
def test_handlers_that_never_return_are_given_up(
    slow: Slow, mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Session(slow, mountpoint):
        readers = [Reader(mountpoint / "f") for _ in range(5)]
        for _ in readers:
            assert slow.reading.acquire(timeout=20)
    assert not os.path.ismount(mountpoint)
    for reader in readers:
        reader.join(20)
    assert {reader.result for reader in readers} == {errno.ENOTCONN}
    assert "5 requests were given up" in caplog.text


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_that_is_killed_in_mid_read_harms_nobody(
    slow: Slow, mountpoint: Path, number: signal.Signals
) -> None:
    with Session(slow, mountpoint):
        clients = []
        for _ in range(3):
            clients.append(start_reader_process(mountpoint / "f"))
            assert slow.reading.acquire(timeout=20)
            clients[-1].send_signal(number)
        slow.go.set()
        for client in clients:
            client.communicate(timeout=20)
            assert client.returncode == -number
        reader = Reader(mountpoint / "f")
        reader.join(20)
        assert reader.result == b"x" * 10


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    """The fuse control file system, mounted for this test; one directory for each connection."""
    path = tmp_path / "control"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "fusectl", "fusectl", path], capture_output=True, text=True, timeout=20)
    if made.returncode:
        pytest.skip(f"the fuse control file system cannot be mounted: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True, timeout=20)


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("how", ["fusermount3 -uz", "abort"])
def test_a_mount_that_is_forced_away(slow: Slow, mountpoint: Path, control: Path, how: str) -> None:
    session = Session(slow, mountpoint)
    session.mount()
    session.start()
    connection = os.minor(os.stat(mountpoint).st_dev)
    try:
        readers = [Reader(mountpoint / "f") for _ in range(3)]
        for _ in readers:
            assert slow.reading.acquire(timeout=20)
        if how == "abort":
            (control / str(connection) / "abort").write_text("1")
            assert session.wait(20)
        else:
            subprocess.run([*how.split(), "--", mountpoint], check=True, timeout=20)
            assert not os.path.ismount(mountpoint)
        threading.Timer(0.05, slow.go.set).start()
        for reader in readers:
            reader.join(20)
        expected = {errno.ECONNABORTED} if how == "abort" else {b"x" * 10}
        assert {reader.result for reader in readers} == expected
        assert session.wait(20)
    finally:
        session.close()


def test_unmounting_from_outside_ends_the_session(mountpoint: Path) -> None:
    session = Session(Slow(), mountpoint)
    thread = threading.Thread(target=session.run)
    thread.start()
    wait_for(lambda: os.path.ismount(mountpoint), "not mounted")
    subprocess.run(["fusermount3", "-u", "--", mountpoint], check=True, timeout=20)
    thread.join(20)
    assert not thread.is_alive()


def test_many_mounts_leave_nothing(mountpoint: Path) -> None:
    def once() -> None:
        ops = SlowAsync()
        ops.go.set()
        with Session(ops, mountpoint):
            assert (mountpoint / "f").open("rb", buffering=0).read(10) == b"x" * 10

    once()
    threads, fds = threading.active_count(), len(descriptors())
    for _ in range(20):
        once()
    wait_for(lambda: threading.active_count() <= threads, "threads are left")
    assert len(descriptors()) <= fds


# ---- interrupts by the thousand

INTERRUPTED = """
import os, signal, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
class Alarm(Exception):
    pass
def ring(number, frame):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Alarm
signal.signal(signal.SIGALRM, ring)
interrupted = 0
for _ in range(int(sys.argv[2])):
    try:
        # And again, should the first one ring when Python has looked for signals and is not in the kernel yet.
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.05)
        os.pread(fd, 10, 0)
    except Alarm:
        interrupted += 1
    except OSError:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
print(interrupted)
"""


class Patient(Slow):
    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        while not ctx.interrupted:
            time.sleep(0.0002)
        raise FuseError(errno.EINTR)


class PatientAsync(Slow):
    async def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        await asyncio.sleep(60)
        return b""


@pytest.mark.parametrize("kind", [Patient, PatientAsync])
def test_thousands_of_interrupted_requests(
    mountpoint: Path, kind: type[Slow], caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(kind(), mountpoint)
    with session:
        command = [sys.executable, "-c", INTERRUPTED, str(mountpoint / "f"), "2500"]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        counts = [int(client.communicate(timeout=100)[0]) for client in clients]
        assert sum(counts) >= 9800  # an alarm may ring before the request is made, or behind it
        assert os.stat(mountpoint / "f").st_size == 100
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
