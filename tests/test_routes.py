"""Routes on a mount: what handlers may give, and what programs see of it."""

from __future__ import annotations

import array
import asyncio
import errno
import gzip
import io
import logging
import mmap
import os
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import errno_of, shell

from fastfuse import FOREVER, Attr, FileSystem, FuseError, Routes, StatVFS
from fastfuse.routes.patterns import RouteError

pytestmark = pytest.mark.mount


DATA = bytes(range(256)) * 40


class Trickle(io.RawIOBase):
    """A binary file that can neither seek nor tell its size."""

    def __init__(self, data: bytes) -> None:
        self.left = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.left.readinto(buffer)


def unaligned_parts() -> Iterator[bytes]:
    for start in range(0, len(DATA), 1000):
        yield DATA[start : start + 1000]


async def async_parts() -> Any:
    for part in unaligned_parts():
        await asyncio.sleep(0)
        yield part


def pipe_with_data() -> int:
    reading, writing = os.pipe()
    os.write(writing, DATA)
    os.close(writing)
    return reading


# What gives DATA, and whether its size is known before it has been read.
KNOWN: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda file: DATA,
    "bytearray": lambda file: bytearray(DATA),
    "memoryview": lambda file: memoryview(DATA),
    "array": lambda file: array.array("B", DATA),
    "numpy": lambda file: np.frombuffer(DATA, dtype="<u4").copy(),
    "strided numpy": lambda file: np.frombuffer(DATA, dtype="u1").repeat(2)[::2],
    "mmap": lambda file: mmap.mmap(os.open(file, os.O_RDONLY), 0, prot=mmap.PROT_READ),
    "path": lambda file: file,
    "fd": lambda file: os.open(file, os.O_RDONLY),
    "file": lambda file: file.open("rb"),
    "unbuffered file": lambda file: file.open("rb", buffering=0),
    "file to read and write": lambda file: file.open("r+b"),
    "BytesIO": lambda file: io.BytesIO(DATA),
    "gzip": lambda file: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(DATA))),
    "list of parts": lambda file: [DATA[:100], DATA[100:]],
    "text": lambda file: DATA.decode("latin-1"),
    "text file": lambda file: file.open("r", encoding="latin-1", newline=""),
    "StringIO": lambda file: io.StringIO(DATA.decode("latin-1"), newline=""),
}
STREAMS: dict[str, Callable[[Path], Any]] = {
    "generator": lambda file: unaligned_parts(),
    "async generator": lambda file: async_parts(),
    "iterator of text": lambda file: iter(DATA.decode("latin-1")),
    "file that cannot seek": lambda file: Trickle(DATA),
    "pipe": lambda file: pipe_with_data(),
    "function": lambda file: lambda size, off: DATA[off : off + size],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def one_file(give: Callable[[], Any], **settings: Any) -> FileSystem:
    fs = FileSystem()
    fs.add("read", "/x", give, encoding="latin-1", **settings)
    return fs


@pytest.mark.parametrize("ttl", [60, 0])
@pytest.mark.parametrize("name", KNOWN)
def test_what_read_gives_at_once_has_its_size(mount: Callable[..., Path], file: Path, name: str, ttl: float) -> None:
    path = mount(one_file(lambda: KNOWN[name](file), ttl=ttl)) / "x"
    if ttl:
        assert path.stat().st_size == len(DATA)
    with path.open("rb") as opened:
        assert os.fstat(opened.fileno()).st_size == len(DATA)
        assert opened.read() == DATA
        with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[5000:5010] == DATA[5000:5010]
    assert shell(path.parent, "wc -c < x; tail -c 3 x | wc -c").split() == [str(len(DATA)), "3"]


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_read_by_programs(mount: Callable[..., Path], file: Path, tmp_path: Path, name: str) -> None:
    path = mount(one_file(lambda: STREAMS[name](file), ttl=0)) / "x"
    assert path.read_bytes() == DATA
    copied = tmp_path / "copied"
    assert shell(path.parent, f"wc -c x; cp x {copied}; cat x | wc -c; tail -c 5 x | wc -c").split() == [
        str(len(DATA)),
        "x",
        str(len(DATA)),
        "5",
    ]
    assert copied.read_bytes() == DATA


@pytest.mark.parametrize("name", STREAMS)
def test_streams_can_be_sought_back(mount: Callable[..., Path], file: Path, name: str) -> None:
    path = mount(one_file(lambda: STREAMS[name](file))) / "x"
    with path.open("rb", buffering=0) as opened:
        fd = opened.fileno()
        assert os.pread(fd, 10, 5000) == DATA[5000:5010]
        assert os.pread(fd, 10, 3) == DATA[3:13]
        assert os.pread(fd, 10, len(DATA) - 4) == DATA[-4:]
        assert os.pread(fd, 10, len(DATA) + 4) == b""


def test_nothing_is_an_empty_file(mount: Callable[..., Path]) -> None:
    root = mount(one_file(lambda: None))
    assert (root / "x").read_bytes() == b""


def test_a_stream_that_was_read_to_its_end_is_known(mount: Callable[..., Path]) -> None:
    calls = Counter[str]()

    def give() -> Iterator[bytes]:
        calls["give"] += 1
        yield from unaligned_parts()

    root = mount(one_file(give, ttl=FOREVER))
    assert (root / "x").read_bytes() == DATA
    assert (root / "x").read_bytes() == DATA
    assert (root / "x").stat().st_size == len(DATA)
    assert calls == {"give": 1}


def test_an_endless_stream_is_readable_as_far_as_one_likes(mount: Callable[..., Path]) -> None:
    closed = threading.Event()

    def give() -> Iterator[str]:
        try:
            while True:
                yield "yes\n"
        finally:
            closed.set()

    root = mount(one_file(give))
    assert shell(root, "head -n 3 x") == "yes\n" * 3
    assert closed.wait(10)


def test_a_slow_stream_shows_what_there_is(mount: Callable[..., Path]) -> None:
    go_on = threading.Event()

    def give() -> Iterator[str]:
        yield "first"
        go_on.wait(0.3)
        yield "second"
        assert go_on.wait(30)
        yield "third"

    root = mount(one_file(give))
    fd = os.open(root / "x", os.O_RDONLY)
    try:
        got = os.read(fd, 4096)
        assert got == b"firstsecond"
        go_on.set()
        assert os.read(fd, 4096) == b"third"
    finally:
        os.close(fd)


def test_text_of_an_encoding_with_a_mark_has_one(mount: Callable[..., Path]) -> None:
    fs = FileSystem()

    @fs.read("/x", encoding="utf-16")
    def parts() -> Iterator[str]:
        yield "a"
        yield "b"

    assert (mount(fs) / "x").read_text("utf-16") == "ab"


def test_files_of_proc_are_read_though_their_size_is_zero(mount: Callable[..., Path]) -> None:
    root = mount(one_file(lambda: Path("/proc/self/status")))
    text = (root / "x").read_text()
    assert f"Pid:\t{os.getpid()}\n" in text
    assert (root / "x").stat().st_size == len(text)


def test_descriptors_are_taken_over(mount: Callable[..., Path], file: Path) -> None:
    root = mount(one_file(lambda: os.open(file, os.O_RDONLY), ttl=0))
    (root / "x").read_bytes()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        (root / "x").read_bytes()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


# ---- errors


class Strange(OSError):
    """As the exceptions of requests: an OSError without an errno."""


@pytest.mark.parametrize(
    ("error", "expected", "logged"),
    [
        (FuseError(errno.ENODATA), "ENODATA", False),
        (OSError(errno.ENOLINK, "gone"), "ENOLINK", False),
        (FileNotFoundError("no such comic"), "ENOENT", False),
        (PermissionError(), "EACCES", False),
        (TimeoutError("slow"), "ETIMEDOUT", False),
        (Strange("no route to host"), "EIO", True),
        (KeyError("x"), "EIO", True),
        (StopIteration(), "EIO", True),
        (OSError(70000, "no errno"), "EIO", True),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_errors_of_handlers_reach_programs(
    mount: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    expected: str,
    logged: bool,
    kind: str,
) -> None:
    fs = FileSystem()

    def fail() -> None:
        raise error

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise error

    fs.add("read", "/x", fail if kind == "def" else fail_later, ttl=0)
    if isinstance(error, StopIteration) and kind == "async def":
        pytest.skip("Python turns a coroutine's StopIteration into RuntimeError itself")
    with caplog.at_level(logging.ERROR, "fastfuse"):
        root = mount(fs)
        assert errno_of((root / "x").read_bytes) == expected
    records = [record for record in caplog.records if record.name == "fastfuse"]
    assert len(records) == logged
    if logged:
        assert "'/x' (read)" in records[0].getMessage()
        assert records[0].exc_info and records[0].exc_info[1] is error


def test_an_error_in_a_stream_is_that_reads(mount: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    def give() -> Iterator[str]:
        yield "a" * 200_000
        raise FuseError(errno.ENOSPC)

    path = mount(one_file(give)) / "x"
    with path.open("rb", buffering=0) as opened:
        assert len(os.pread(opened.fileno(), 4096, 0)) == 4096
        assert errno_of(os.pread, opened.fileno(), 4096, 300_000) == "ENOSPC"


@pytest.mark.parametrize(
    "given", [3.5, object(), {1, 2}, [1, 2], lambda size, off: 7, lambda size, off: b"x" * (size + 1)]
)
def test_what_is_no_content_is_an_error(
    mount: Callable[..., Path], caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    root = mount(one_file(lambda: given, ttl=0))
    assert errno_of((root / "x").read_bytes) == "EIO"
    assert "'/x' (read)" in caplog.text


def test_text_needs_an_encoding(mount: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    fs = FileSystem()
    fs.add("read", "/x", lambda: "text", encoding=None)
    assert errno_of((mount(fs) / "x").read_bytes) == "EIO"
    assert "encoding=None" in caplog.text


# ---- names and types


def test_directories_are_there_by_themselves(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    fs.add("read", "/a/read/:x", lambda: "")
    fs.add("write", "/a/write", lambda: None)
    fs.add("readlink", "/a/link", lambda: "read")
    fs.add("list", "/a/list", lambda: ["one"])
    fs.add("read", "/a/list/:x", lambda x: x)
    fs.add("list", "/a", lambda: ["said", "read"])
    fs.add("read", "/a/said", lambda: "said")
    fs.publish("/a/published/file", b"published")
    root = mount(fs)
    assert sorted(os.listdir(root)) == ["a"]
    # Not DirEntry.stat: until Python 3.10 that kept the GIL, which the handlers need.
    types = {name: stat.filemode(os.lstat(root / "a" / name).st_mode) for name in os.listdir(root / "a")}
    assert types == {
        "read": "drwxr-xr-x",
        "write": "--w-------",
        "link": "lrwxrwxrwx",
        "list": "drwxr-xr-x",
        "said": "-r--r--r--",
        "published": "dr-xr-xr-x",
    }
    assert os.listdir(root / "a/read") == []
    assert os.listdir(root / "a/list") == ["one"]
    assert (root / "a/published/file").read_bytes() == b"published"
    assert os.listdir(root / "a/published") == ["file"]


def test_names_are_those_that_handlers_accept(mount: Callable[..., Path]) -> None:
    fs = FileSystem()

    @fs.read("/:n<int>.txt")
    def read(n: int) -> str:
        if n > 5:
            raise FileNotFoundError
        return str(n * 2)

    @fs.list("/users/:user/files")
    def files(user: str) -> list[str]:
        if user != "ann":
            raise FileNotFoundError(user)
        return ["f"]

    root = mount(fs)
    assert (root / "3.txt").read_text() == "6"
    for name in ("7.txt", "03.txt", "x.txt", "3", ".txt", "users/bob/files"):
        assert errno_of((root / name).stat) == "ENOENT", name
    assert os.listdir(root / "users/ann/files") == ["f"]


def test_stat_decides_type_mode_owner_size_and_times(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    given: dict[str, Any] = {
        "dict": {"st_size": 5, "st_mtime": 1.5, "st_mode": 0o400, "st_uid": 7, "st_gid": 8},
        "ns": {"st_mtime_ns": 12345, "st_nlink": 3},
        "dir": {"st_mode": stat.S_IFDIR | 0o700},
        "attr": Attr(mode=stat.S_IFREG | 0o640, size=9, uid=1, mtime_ns=10**9),
        "stat": os.stat("/proc/self/exe"),
        "none": None,
    }

    @fs.stat("/:name")
    def say(name: str) -> Any:
        if name not in given:
            raise FileNotFoundError(name)
        return given[name]

    fs.add("read", "/:name", lambda name: "x" * 5)
    fs.add("list", "/:name", lambda name: [])
    root = mount(fs)
    said = {name: (root / name).stat() for name in given}
    assert (said["dict"].st_size, said["dict"].st_mtime, said["dict"].st_mode) == (5, 1.5, stat.S_IFREG | 0o400)
    assert (said["dict"].st_uid, said["dict"].st_gid) == (7, 8)
    assert (said["ns"].st_mtime_ns, said["ns"].st_nlink) == (12345, 3)
    assert stat.filemode(said["dir"].st_mode) == "drwx------"
    assert (said["attr"].st_mode, said["attr"].st_size, said["attr"].st_uid) == (stat.S_IFREG | 0o640, 9, 1)
    assert said["stat"].st_size == given["stat"].st_size
    assert (said["none"].st_mode, said["none"].st_uid) == (stat.S_IFREG | 0o444, os.geteuid())
    assert errno_of((root / "other").stat) == "ENOENT"


def test_a_list_handler_tells_files_from_directories(mount: Callable[..., Path]) -> None:
    document = {"a": {"b": "text"}, "c": "more"}
    fs = FileSystem()

    def dig(keys: list[str]) -> Any:
        found: Any = document
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                raise FileNotFoundError(key)
            found = found[key]
        return found

    @fs.list("/**keys")
    def names(keys: list[str]) -> Any:
        found = dig(keys)
        if not isinstance(found, dict):
            raise NotADirectoryError
        return found

    @fs.read("/**keys")
    def text(keys: list[str]) -> Any:
        return dig(keys)

    root = mount(fs)
    assert shell(root, "find . -type f | sort; cat a/b c") == "./a/b\n./c\ntextmore"
    assert errno_of((root / "a/x").stat) == "ENOENT"
    assert errno_of((root / "c/x").stat) == "ENOTDIR"


def test_names_with_attributes_cost_no_call_each(mount: Callable[..., Path]) -> None:
    calls = Counter[str]()
    fs = FileSystem(ttl=60)

    @fs.list("/", complete=True)
    def names() -> Iterator[tuple[str, dict[str, int]]]:
        calls["list"] += 1
        for number in range(300):
            yield f"{number}.txt", {"st_size": number}

    @fs.read("/:n<int>.txt")
    def read(n: int) -> bytes:
        calls["read"] += 1
        return b"x" * n

    @fs.stat("/:n<int>.txt")
    def say(n: int) -> None:
        calls["stat"] += 1

    root = mount(fs)
    sizes = [int(line.split()[4]) for line in shell(root, "ls -lv").splitlines()[1:]]
    assert sizes == list(range(300))
    assert errno_of((root / "300.txt").stat) == "ENOENT"
    assert calls == {"list": 1}


def test_what_is_not_in_a_complete_list_does_not_exist(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    fs.add("list", "/", lambda: ["a", "b"], complete=True)
    fs.add("read", "/:name", lambda name: name)
    root = mount(fs)
    assert (root / "a").read_text() == "a"
    assert errno_of((root / "c").stat) == "ENOENT"


def test_a_complete_list_ends_with_what_it_said(mount: Callable[..., Path]) -> None:
    names = ["a"]
    fs = FileSystem(ttl=FOREVER, negative_ttl=0)
    fs.add("list", "/", lambda: list(names), complete=True)
    fs.add("read", "/:name", lambda name: name)
    root = mount(fs)
    assert errno_of((root / "b").stat) == "ENOENT"
    names.append("b")
    assert errno_of((root / "b").stat) == "ENOENT"
    fs.invalidate("/")
    assert (root / "b").read_text() == "b"


def test_a_guessed_size_is_corrected_at_open(mount: Callable[..., Path]) -> None:
    calls = Counter[str]()
    fs = FileSystem(ttl=60)
    fs.add("list", "/", lambda: [("x", {"st_size_guess": 100})])

    @fs.read("/:name")
    def read(name: str) -> bytes:
        calls["read"] += 1
        return b"four"

    root = mount(fs)
    assert [entry.stat().st_size for entry in os.scandir(root)] == [100]
    assert not calls
    with (root / "x").open("rb") as opened:
        assert os.fstat(opened.fileno()).st_size == 4
        assert opened.read() == b"four"
    assert (root / "x").stat().st_size == 4


def test_names_that_are_none_are_left_out_and_logged(
    mount: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    fs = FileSystem()
    bad = ["", ".", "..", "a/b", "nul\0", "\ud800", 7, "x" * 256]
    fs.add("list", "/", lambda: ["good", b"bytes", *bad, Path("some/where"), ("odd", {})])
    fs.add("read", "/:name", lambda name: name)
    assert sorted(os.listdir(mount(fs))) == ["bytes", "good", "odd", "where"]
    assert caplog.text.count("not a name") == len(bad)


@pytest.mark.parametrize("given", ["names", 7, [("a", 1.5)], [("a", {"st_color": 1})]])
def test_what_is_no_listing_is_an_error(
    mount: Callable[..., Path], caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    fs = FileSystem()
    fs.add("list", "/", lambda: given)
    assert errno_of(os.listdir, mount(fs)) == "EIO"
    assert "'/' (list)" in caplog.text


def test_names_need_not_be_text(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    fs.add("list", "/", lambda: [b"\xff\xfe", "ünï"])
    fs.add("read", "/:name", lambda name: os.fsencode(name))
    root = mount(fs)
    for name in os.listdir(os.fsencode(root)):
        with open(os.path.join(os.fsencode(root), name), "rb") as file:
            assert file.read() == name


def test_handlers_may_be_coroutines(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    together = asyncio.Event()
    waiting = 0

    @fs.list("/")
    async def names() -> Any:
        await asyncio.sleep(0)
        return (str(n) async for n in numbers())

    async def numbers() -> Any:
        for n in range(3):
            yield n

    @fs.stat("/:n<int>")
    async def say(n: int) -> None:
        await asyncio.sleep(0)

    @fs.read("/:n<int>")
    async def read(n: int) -> str:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            together.set()
        await asyncio.wait_for(together.wait(), 20)
        return str(n)

    @fs.read("/sync/:n<int>")
    def beside(n: int) -> str:
        return str(-n)

    @fs.stat("/sync/:n<int>")
    async def mixed(n: int) -> None:
        await asyncio.sleep(0)

    @fs.readlink("/link")
    async def link() -> str:
        return "1"

    root = mount(fs)
    assert sorted(os.listdir(root)) == ["0", "1", "2", "link", "sync"]
    # All three must be open at once.
    assert sorted(shell(root, "for n in 0 1 2; do cat $n & done; wait")) == ["0", "1", "2"]
    assert (root / "sync/4").read_text() == "-4"
    assert os.readlink(root / "link") == "1"


def test_links(mount: Callable[..., Path]) -> None:
    calls = Counter[str]()
    fs = FileSystem()

    @fs.readlink("/:name", ttl=60)
    def kept(name: str) -> Path:
        calls["kept"] += 1
        if name != "kept":
            raise FileNotFoundError
        return Path("target")

    @fs.readlink("/random", ttl=0)
    def random() -> bytes:
        calls["random"] += 1
        return b"%d" % calls["random"]

    root = mount(fs)
    assert [os.readlink(root / "kept") for _ in range(3)] == ["target"] * 3
    assert (root / "kept").lstat().st_size == len("target")
    assert [os.readlink(root / "random") for _ in range(3)] == ["1", "2", "3"]
    assert errno_of(os.lstat, root / "other") == "ENOENT"
    assert calls == {"kept": 2, "random": 3}


# ---- lifetimes


def test_ttl_is_how_long_a_handler_is_believed(mount: Callable[..., Path]) -> None:
    calls = Counter[str]()
    fs = FileSystem(ttl=60)

    def counted(kind: str, ttl: float | None, give: Callable[[], Any]) -> None:
        def handler() -> Any:
            calls[f"{kind} {ttl}"] += 1
            return give()

        fs.add(kind, "/kept" if ttl is None else "/asked", handler, ttl=ttl)

    for ttl in (None, 0.0):
        counted("list", ttl, lambda: ["f"])
    fs.add("read", "/:dir/f", lambda dir: dir)
    root = mount(fs)
    for _ in range(3):
        assert os.listdir(root / "kept") == ["f"]
        assert os.listdir(root / "asked") == ["f"]
    assert calls == {"list None": 1, "list 0.0": 3}


def test_a_listing_that_was_said_anew_is_what_programs_see(mount: Callable[..., Path]) -> None:
    names = ["a"]
    fs = FileSystem(ttl=0)
    fs.add("list", "/", lambda: list(names))
    root = mount(fs)
    assert os.listdir(root) == ["a"]
    names.append("b")
    assert sorted(os.listdir(root)) == ["a", "b"]
    del names[0]
    assert os.listdir(root) == ["b"]


@pytest.mark.parametrize("size", [False, True])
def test_without_ttl_each_open_asks(mount: Callable[..., Path], size: bool) -> None:
    content = [b"one"]
    fs = FileSystem(ttl=0)
    fs.add("read", "/x", lambda: content[0])
    if size:
        fs.add("stat", "/x", lambda: {"st_size": len(content[0])})
    root = mount(fs)
    with (root / "x").open("rb") as opened:
        assert opened.read() == b"one"
        content[0] = b"another"
        assert (root / "x").read_bytes() == b"another"
        opened.seek(0)
        assert opened.read() == b"one"
    assert (root / "x").read_bytes() == b"another"


def test_invalidate_ends_what_was_said(mount: Callable[..., Path]) -> None:
    state = {"a": b"old", "b": b"old"}
    fs = FileSystem(ttl=FOREVER, negative_ttl=FOREVER)
    fs.add("list", "/", lambda: list(state))

    @fs.read("/:name")
    def read(name: str) -> bytes:
        if name not in state:
            raise FileNotFoundError
        return state[name]

    root = mount(fs)

    def seen() -> dict[str, bytes]:
        return {name: (root / name).read_bytes() for name in os.listdir(root)}

    def is_seen(expected: dict[str, bytes]) -> bool:
        try:
            return seen() == expected and all((root / n).stat().st_size == len(b) for n, b in expected.items())
        except FileNotFoundError:
            return False  # listed again, but still believed to be missing

    def eventually(expected: dict[str, bytes]) -> None:
        # The kernel is told by a thread of its own.
        for _ in range(1000):
            if is_seen(expected):
                return
            threading.Event().wait(0.01)
        assert seen() == expected

    old = dict(state)
    assert seen() == old
    assert errno_of((root / "c").stat) == "ENOENT"
    state.update(a=b"new", b=b"newer", c=b"newest")
    assert seen() == old
    fs.invalidate("/a")
    eventually({"a": b"new", "b": b"old"})
    fs.invalidate("/:name")
    eventually({"a": b"new", "b": b"newer"})
    fs.invalidate("/")
    fs.invalidate(path="/c")
    eventually(state)


def test_what_is_open_stays_as_it_was_opened(mount: Callable[..., Path]) -> None:
    content = [b"old"]
    fs = FileSystem(ttl=60)
    fs.add("read", "/x", lambda: content[0])
    root = mount(fs)
    with (root / "x").open("rb") as opened:
        content[0] = b"newer"
        fs.invalidate("/x")
        for _ in range(1000):
            if (root / "x").read_bytes() == b"newer":
                break
            threading.Event().wait(0.01)
        assert (root / "x").read_bytes() == b"newer"
        assert os.pread(opened.fileno(), 10, 0) == b"old"


def test_many_who_ask_at_once_share_a_call(mount: Callable[..., Path]) -> None:
    calls = Counter[str]()
    go_on = threading.Event()
    fs = FileSystem(ttl=60)

    @fs.read("/x")
    def read() -> str:
        calls["read"] += 1
        assert go_on.wait(30)
        return "shared"

    root = mount(fs)
    readers = [subprocess.Popen(["cat", "x"], cwd=root, stdout=subprocess.PIPE) for _ in range(5)]
    while not calls:
        threading.Event().wait(0.01)
    go_on.set()
    assert [reader.communicate(timeout=30)[0] for reader in readers] == [b"shared"] * 5
    assert calls == {"read": 1}


def test_what_is_published_wins_and_is_seen_at_once(mount: Callable[..., Path]) -> None:
    fs = FileSystem(negative_ttl=FOREVER)
    fs.add("read", "/a/:name", lambda name: "route")
    fs.publish("/a/b", "published")
    root = mount(fs)
    assert (root / "a/b").read_text() == "published"
    assert (root / "a/c").read_text() == "route"
    assert errno_of((root / "x/y").stat) == "ENOENT"
    fs.publish("/x/y", [b"par", "ts"])
    for _ in range(1000):
        if (root / "x/y").exists():
            break
        threading.Event().wait(0.01)
    assert (root / "x/y").read_text() == "parts"
    with pytest.raises(TypeError, match="not known"):
        fs.publish("/stream", unaligned_parts())


# ---- what else a file system has


def test_hooks_of_open_and_release(mount: Callable[..., Path]) -> None:
    seen: list[tuple[str, str]] = []
    released = threading.Event()
    fs = FileSystem(ttl=60)
    fs.add("read", "/:name", lambda name: name)

    @fs.open("/:name")
    def opened(name: str, flags: int) -> None:
        if name == "secret":
            raise PermissionError
        seen.append(("open", name))

    @fs.release("/:name")
    async def closed(path: str) -> None:
        seen.append(("release", path))
        released.set()

    root = mount(fs)
    for _ in range(2):
        with (root / "x").open() as file:
            assert file.read() == "x"
            assert os.fstat(file.fileno()).st_size == 1
        assert released.wait(10)
        released.clear()
    assert errno_of((root / "secret").read_text) == "EACCES"
    assert seen == [("open", "x"), ("release", "/x")] * 2


def test_extended_attributes(mount: Callable[..., Path]) -> None:
    values = {"user.title": "T\u00efle", "user.raw": b"\0\1"}
    fs = FileSystem()
    fs.add("read", "/:name", lambda name: "")
    fs.add("xattr", "/x", lambda: values)

    @fs.setxattr("/x")
    def change(name: str, value: bytes, flags: int) -> None:
        if flags == os.XATTR_CREATE and name in values:
            raise FileExistsError
        values[name] = value

    @fs.removexattr("/x")
    async def drop(name: str) -> None:
        if values.pop(name, None) is None:
            raise FuseError(errno.ENODATA)

    root = mount(fs)
    path = root / "x"
    assert sorted(os.listxattr(path)) == sorted(values)
    assert os.getxattr(path, "user.title") == "T\u00efle".encode()
    assert os.getxattr(path, "user.raw") == b"\0\1"
    assert errno_of(os.getxattr, path, "user.none") == "ENODATA"
    os.setxattr(path, "user.new", b"v")
    assert os.getxattr(path, "user.new") == b"v"
    assert errno_of(os.setxattr, path, "user.new", b"", os.XATTR_CREATE) == "EEXIST"
    os.removexattr(path, "user.new")
    assert errno_of(os.removexattr, path, "user.new") == "ENODATA"
    assert os.listxattr(root / "y") == []
    assert errno_of(os.setxattr, root / "y", "user.a", b"") == "ENOTSUP"


@pytest.mark.parametrize("given", [{"f_blocks": 100, "f_bfree": 40}, StatVFS(f_blocks=100, f_bfree=40), "real"])
def test_statfs(mount: Callable[..., Path], given: Any) -> None:
    real = os.statvfs("/")
    fs = FileSystem()
    fs.add("statfs", "/", lambda: real if given == "real" else given)
    seen = os.statvfs(mount(fs))
    expected = (real.f_blocks, real.f_bfree) if given == "real" else (100, 40)
    assert (seen.f_blocks, seen.f_bfree) == expected


def test_without_a_route_statfs_tells_of_what_is_known(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    fs.publish("/a", b"x" * 10_000)
    assert os.statvfs(mount(fs)).f_blocks == 3


def test_routers_are_mounted_below_a_prefix(mount: Callable[..., Path]) -> None:
    archive = Routes(ttl=60)

    @archive.read("/:year<int>/:name")
    def read(path: str, ps: Any, name: str) -> str:
        return f"{path} {ps.shelf} {ps.year + 1} {name}"

    @archive.list("/")
    def years() -> list[str]:
        return ["2020"]

    fs = FileSystem()
    fs.include("/shelves/:shelf", archive)
    root = mount(fs)
    assert os.listdir(root / "shelves/a") == ["2020"]
    assert (root / "shelves/a/2020/x").read_text() == "/shelves/a/2020/x a 2021 x"


def test_a_class_for_a_file(mount: Callable[..., Path]) -> None:
    fs = FileSystem()

    @fs.file("/counter/:name", ttl=0)
    class Counting:
        def __init__(self) -> None:
            self.counts = Counter[str]()

        def read(self, name: str) -> str:
            return f"{self.counts[name]}\n"

        def write(self, name: str, text: str) -> None:
            self.counts[name] += int(text)

    root = mount(fs)
    assert shell(root, "echo 2 > counter/a; echo 3 > counter/a; cat counter/a counter/b") == "5\n0\n"
    assert Counting().counts == Counter()


def test_handlers_take_what_they_name(mount: Callable[..., Path]) -> None:
    fs = FileSystem()

    @fs.read("/:a/*rest/end")
    def read(ctx: Any, rest: list[str], *, path: str, ps: Any) -> str:
        return f"{ctx.uid} {rest} {path} {ps.a}"

    assert (mount(fs) / "x/y/z/end").read_text() == f"{os.getuid()} ['y', 'z'] /x/y/z/end x"


def test_mount_options_come_from_what_there_is(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    fs.add("read", "/x", lambda: "")
    root = mount(fs)
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if f" {root} " in line)
    assert "ro," in line and "default_permissions" in line and not line.startswith("fastfuse ")
    assert errno_of((root / "x").write_text, "a") == "EROFS"


def test_an_immutable_file_system_has_no_routes(mount: Callable[..., Path]) -> None:
    fs = FileSystem(immutable=True)
    fs.publish("/a/b", b"bytes")
    root = mount(fs)
    assert (root / "a/b").read_bytes() == b"bytes"
    with_routes = FileSystem(immutable=True)
    with_routes.add("read", "/x", lambda: "")
    with pytest.raises(ValueError, match="'/x' \\(read\\)"):
        with_routes.session("/nowhere")


def test_routes_are_fixed_once_in_use(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    mount(fs)
    with pytest.raises(RuntimeError, match="'/x'"):
        fs.add("read", "/x", lambda: "")
    with pytest.raises(RuntimeError, match="'/x'"):
        fs.include("/x", Routes())


def test_init_and_destroy(mountpoint: Path) -> None:
    fs = FileSystem()
    seen: list[str] = []
    fs.init(lambda: seen.append("init"))
    fs.destroy(lambda: seen.append("destroy"))
    with fs.mounted(mountpoint):
        assert seen == ["init"]
    assert seen == ["init", "destroy"]


def test_wrong_routes_are_errors_where_they_are_registered() -> None:
    fs = FileSystem()
    fs.add("read", "/:a", lambda a: a)
    wrong: list[tuple[str, str, Callable[..., Any], str]] = [
        ("read", "/:b", lambda b: b, "'/:a'"),
        ("read", "/x/:n<nope>", lambda n: n, "nope"),
        ("read", "/x/:n", lambda other: other, "other"),
        ("readd", "/x", lambda: "", "readd"),
        ("read", "x", lambda: "", "does not begin"),
        ("write", "/x/:data", lambda data: None, "data"),
    ]
    for kind, pattern, handler, said in wrong:
        with pytest.raises(RouteError, match=said):
            fs.add(kind, pattern, handler)
    with pytest.raises(ValueError, match="ttl"):
        fs.add("read", "/y", lambda: "", ttl=-1)
    with pytest.raises(RouteError, match="no method"):
        fs.file("/y")(type("Empty", (), {}))
