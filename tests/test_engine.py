"""The engine on a real mount: hits go on whatever Python does, one call per fact, contents never tear."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfuse import FOREVER, PUBLISHED, Attr, Content, Context, FileInfo, FuseError, Operations, Session, Tree
from fastfuse.errors import Published

pytestmark = pytest.mark.mount

FILE = stat.S_IFREG | 0o444


class Facts(Operations):
    """Names that begin with "f" exist; their content is their name, said when they are opened."""

    coalesce = frozenset({"lookup", "open"})

    def __init__(self, cache_size: int = 1 << 20, ttl: float = FOREVER) -> None:
        self.tree: Tree = Tree(cache_size=cache_size)
        self.ttl = ttl
        self.calls: list[tuple[str, bytes]] = []
        self.gate = threading.Event()
        self.gate.set()

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Published:
        self.calls.append(("lookup", name))
        if not name.startswith(b"f"):
            raise FuseError(errno.ENOENT)
        self.tree.set_entry(parent, name, Attr(mode=FILE, attr_timeout=FOREVER), FOREVER, sized=False)
        return PUBLISHED

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> Published:
        name = self.tree.path(ino)[1:]
        self.calls.append(("open", name))
        self.gate.wait(20)
        if name.startswith(b"fail"):
            raise RuntimeError("a bug")
        self.tree.set_content(ino, self.content(name), self.ttl)
        return PUBLISHED

    def content(self, name: bytes) -> bytes:
        return name * 100


@pytest.fixture
def facts(mountpoint: Path) -> Iterator[tuple[Facts, Path, Session]]:
    ops = Facts()
    with Session(ops, mountpoint) as session:
        yield ops, mountpoint, session
        ops.gate.set()


def wait_for(condition: Callable[[], bool]) -> None:
    """For what the kernel does in its own time (a release comes after close(2) has returned)."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.01)


def client(source: str, *args: object) -> subprocess.Popen[str]:
    """A Python program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", source, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


# Reads, stats and lists files that nobody has touched before, and says when (CLOCK_MONOTONIC) each pass was done.
TOUCH = """
import os, sys, time
mount, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(first, first + count):
    path = f"{mount}/d/{i}"
    assert os.stat(path).st_size == 5000 + i
    with open(path, "rb") as file:
        assert file.read() == b"x" * (5000 + i)
    names = os.listdir(f"{mount}/l/{i}")
    assert names == ["only"], names
    try:
        os.stat(f"{mount}/l/{i}/missing")
    except FileNotFoundError:
        pass
    print(time.monotonic_ns(), flush=True)
"""


def many_files(count: int) -> Operations:
    ops = Operations()
    ops.tree = Tree()
    for i in range(count):
        ops.tree.publish(f"d/{i}", b"x" * (5000 + i))
        ops.tree.publish(f"l/{i}/only", b"")
    return ops


def test_hits_go_on_while_a_thread_sleeps_with_the_gil(mountpoint: Path) -> None:
    with Session(many_files(200), mountpoint):
        reader = client(TOUCH, mountpoint, 0, 200)
        assert reader.stdout and reader.stdin
        reader.stdout.readline()
        reader.stdin.write("go\n")
        reader.stdin.flush()
        began = time.monotonic_ns()
        ctypes.PyDLL(None).usleep(2_000_000)
        ended = time.monotonic_ns()
        done, _ = reader.communicate(timeout=30)
    assert reader.returncode == 0
    during = [int(when) for when in done.split() if began < int(when) < ended]
    assert len(during) == 200, f"only {len(during)} of 200 passes while the GIL was held"


def test_hits_go_on_while_every_handler_waits(mountpoint: Path) -> None:
    ops = Facts()
    ops.gate.clear()
    for i in range(100):
        ops.tree.publish(f"d/{i}", b"x" * (5000 + i))
        ops.tree.publish(f"l/{i}/only", b"")
    # In d and l nobody need be asked: their listings say all.
    with Session(ops, mountpoint, threads=8):
        for i in range(100):
            ino = ops.tree.find(f"l/{i}")
            assert ino is not None
            ops.tree.set_listing(ino, [], FOREVER, complete=True)
        waiting = [subprocess.Popen(["cat", mountpoint / f"f{i}"], stdout=subprocess.PIPE) for i in range(12)]
        wait_for(lambda: len([call for call in ops.calls if call[0] == "open"]) == 8)
        reader = client(TOUCH, mountpoint, 0, 100)
        done, _ = reader.communicate("go\n", timeout=30)
        assert reader.returncode == 0 and len(done.split()) == 101
        assert all(process.poll() is None for process in waiting), "the handlers still wait"
        ops.gate.set()
        for i, process in enumerate(waiting):
            assert process.communicate(timeout=20)[0] == ops.content(b"f%d" % i)


def test_many_readers_of_one_fact_cause_one_call(facts: tuple[Facts, Path, Session]) -> None:
    ops, mount, _ = facts
    ops.gate.clear()
    readers = [subprocess.Popen(["cat", mount / "f"], stdout=subprocess.PIPE) for _ in range(64)]
    wait_for(lambda: ("open", b"f") in ops.calls)
    time.sleep(0.3)
    ops.gate.set()
    assert {reader.communicate(timeout=30)[0] for reader in readers} == {ops.content(b"f")}
    assert ops.calls.count(("open", b"f")) == 1
    assert ops.calls.count(("lookup", b"f")) == 1


def test_a_reader_that_gets_a_signal_need_not_wait(facts: tuple[Facts, Path, Session]) -> None:
    ops, mount, _ = facts
    ops.gate.clear()
    reader = subprocess.Popen(["cat", mount / "f"])
    wait_for(lambda: ("open", b"f") in ops.calls)
    reader.send_signal(signal.SIGINT)
    assert reader.wait(timeout=10) == -signal.SIGINT
    ops.gate.set()
    assert (mount / "f").read_bytes() == ops.content(b"f")
    assert ops.calls.count(("open", b"f")) == 1, "what the handler said was kept"


def test_a_bug_costs_one_request(facts: tuple[Facts, Path, Session], caplog: pytest.LogCaptureFixture) -> None:
    ops, mount, _ = facts
    with pytest.raises(OSError) as caught:
        (mount / "fail").read_bytes()
    assert caught.value.errno == errno.EIO
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1 and errors[0].exc_info and "open" in errors[0].getMessage()
    assert (mount / "f").read_bytes() == ops.content(b"f")


def test_sizes_are_exact_once_a_content_is_known(facts: tuple[Facts, Path, Session]) -> None:
    ops, mount, _ = facts
    path = mount / "f1"
    assert path.stat().st_size == 0, "nobody knows yet"
    with open(path, "rb") as file:
        assert os.fstat(file.fileno()).st_size == len(ops.content(b"f1"))
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == ops.content(b"f1")
    assert path.stat().st_size == len(ops.content(b"f1"))


def test_the_cache_is_bounded_and_what_is_open_stays(mountpoint: Path) -> None:
    class Large(Facts):
        def content(self, name: bytes) -> bytes:
            return name[-1:] * 300_000

    ops = Large(cache_size=1_000_000)
    with Session(ops, mountpoint) as session:
        held = open(mountpoint / "f0", "rb")  # noqa: SIM115
        for i in range(1, 10):
            assert (mountpoint / f"f{i}").read_bytes() == b"%d" % i * 300_000
        tree = session.stats()["tree"]
        assert 0 < tree["cached"] <= 1_000_000 and tree["evictions"] >= 6
        with held:
            os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert held.read() == b"0" * 300_000
        assert ops.calls.count(("open", b"f0")) == 1
        before = len(ops.calls)
        assert (mountpoint / "f1").read_bytes() == b"1" * 300_000
        assert ops.calls[before:].count(("open", b"f1")) == 1, "what was evicted is asked for again"


def test_a_content_that_is_open_never_tears(mountpoint: Path) -> None:
    ops = Operations()
    ops.tree = Tree()
    old, new = b"old" * 100_000, b"new!" * 100_000
    ops.tree.publish("file", old)
    with Session(ops, mountpoint), open(mountpoint / "file", "rb") as held:
        assert held.read(3) == b"old"
        ops.tree.publish("file", new)
        deadline = time.monotonic() + 10
        while (mountpoint / "file").read_bytes() != new:
            assert time.monotonic() < deadline, "the new content never appeared"
        os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        held.seek(0)
        assert held.read() == old
        assert os.fstat(held.fileno()).st_size == len(old)


def test_what_is_said_for_no_time_is_asked_each_time(mountpoint: Path) -> None:
    class Counter(Facts):
        def content(self, name: bytes) -> bytes:
            return b"%d\n" % len(self.calls)

    ops = Counter(ttl=0)
    with Session(ops, mountpoint) as session:
        seen = [(mountpoint / "f").read_bytes() for _ in range(5)]
        assert len(set(seen)) == 5
        wait_for(lambda: session.stats()["tree"]["bytes"] == 0)  # nothing is kept that nobody may have again


@pytest.mark.parametrize(
    "content",
    [
        b"bytes",
        memoryview(b"a memoryview")[2:],
        bytearray(b"a bytearray"),
        array("I", range(1000)),
        Content.in_memfd(b"in a memfd" * 1000),
        b"",
    ],
    ids=["bytes", "memoryview", "bytearray", "array", "memfd", "empty"],
)
def test_contents_of_every_kind(mountpoint: Path, content: Any) -> None:
    ops = Operations()
    ops.tree = Tree()
    ops.tree.publish("file", content)
    with Session(ops, mountpoint, passthrough=False):
        assert (mountpoint / "file").read_bytes() == bytes(content)
        assert (mountpoint / "file").stat().st_size == len(bytes(content))


def test_a_numpy_array_and_a_file(mountpoint: Path, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numbers = numpy.arange(100_000, dtype="<f8")
    (tmp_path / "source").write_bytes(b"on disk" * 1000)
    ops = Operations()
    ops.tree = Tree()
    ops.tree.publish("numbers", numbers)
    ops.tree.publish("disk", tmp_path / "source")
    with pytest.raises(ValueError, match="C-contiguous"):
        ops.tree.publish("strided", numbers[::2])
    with Session(ops, mountpoint):
        assert (mountpoint / "numbers").read_bytes() == numbers.tobytes()
        assert (mountpoint / "disk").read_bytes() == b"on disk" * 1000


@pytest.mark.parametrize("source", ["file", "mmap"])
def test_a_file_that_was_truncated_is_an_error_not_a_short_file(
    mountpoint: Path, tmp_path: Path, source: str
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    ops = Operations()
    ops.tree = Tree()
    with open(tmp_path / "source", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        ops.tree.publish("file", mapped if source == "mmap" else tmp_path / "source")
        with Session(ops, mountpoint, passthrough=False):
            os.truncate(tmp_path / "source", 0)
            with pytest.raises(OSError) as caught:
                (mountpoint / "file").read_bytes()
            assert caught.value.errno == errno.EIO
            assert (mountpoint / "file").stat().st_size == 100_000
        del ops.tree
        ops = Operations()
        gc.collect()
        mapped.close()


def drop_kernel_caches() -> None:
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError as error:
        pytest.skip(f"the kernel's caches cannot be dropped: {error.strerror}")


def test_what_the_kernel_forgets_is_forgotten(facts: tuple[Facts, Path, Session]) -> None:
    ops, mount, session = facts
    ops.tree.publish("kept", b"published")
    before = session.stats()["tree"]
    for i in range(2000):
        os.stat(mount / f"f{i}")
    os.stat(mount / "kept")
    during = session.stats()["tree"]
    assert during["known"] >= 2001 and during["nodes"] >= 2001
    deadline = time.monotonic() + 20
    while session.stats()["tree"]["known"] > before["known"]:
        drop_kernel_caches()
        assert time.monotonic() < deadline, session.stats()["tree"]
        time.sleep(0.05)
    assert session.stats()["tree"]["nodes"] == before["nodes"], "published nodes stay, the others go"
    assert (mount / "kept").read_bytes() == b"published"


CYCLES = """
import os, sys
mount, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(count):
    name = f"{mount}/f{first + i}"
    with open(name, "rb") as file:
        assert file.read(1) == b"f"
    os.listdir(f"{mount}/d")
    if i % 500 == 0:
        try:
            open("/proc/sys/vm/drop_caches", "w").write("2")
        except OSError:
            pass
"""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_memory_stays_flat(mountpoint: Path) -> None:
    ops = Facts(cache_size=200_000)
    ops.tree.publish("d/a", b"")
    with Session(ops, mountpoint):
        d = ops.tree.find("d")
        assert d is not None
        ops.tree.set_listing(d, [], FOREVER, complete=True)
        used = []
        for batch in range(4):
            workers = [client(CYCLES, mountpoint, (batch * 3 + i) * 1000, 1000) for i in range(3)]
            assert [worker.wait(60) for worker in workers] == [0, 0, 0]
            for worker in workers:
                worker.communicate()
            ops.calls.clear()
            gc.collect()
            used.append(resident())
    # The first batches fill the cache and the allocator's arenas; 6000 opens later little may have come.
    assert used[3] - used[1] < 4 << 20, used


def test_several_sessions_in_one_process(tmp_path: Path) -> None:
    sessions = []
    for i in range(3):
        ops = Operations()
        ops.tree = Tree()
        ops.tree.publish("which", b"%d" % i)
        (tmp_path / str(i)).mkdir()
        sessions.append(Session(ops, tmp_path / str(i)))
    with sessions[0], sessions[1], sessions[2]:
        assert [(tmp_path / str(i) / "which").read_bytes() for i in range(3)] == [b"0", b"1", b"2"]


def test_unmounted_from_outside(mountpoint: Path) -> None:
    ops = Operations()
    ops.tree = Tree()
    session = Session(ops, mountpoint)
    session.mount()
    session.start()
    subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=10)
    assert session.wait(10)
    session.close()
    assert not os.path.ismount(mountpoint)


def test_no_thread_and_no_descriptor_is_left(mountpoint: Path) -> None:
    def run() -> None:
        ops = Facts()
        with Session(ops, mountpoint):
            assert (mountpoint / "f").read_bytes() == ops.content(b"f")

    run()
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fastfuse")])
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run()
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fastfuse")])
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
