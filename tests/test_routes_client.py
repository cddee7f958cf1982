"""The client that asks a file system without a mount, and the pytest fixture that mounts one."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfuse import FileSystem, FuseError

ROOT = Path(__file__).parent.parent


def errno_of(call: Callable[..., Any], *args: Any) -> str | None:
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


class Notes:
    """A file system of notes, and how often each of its handlers was called."""

    def __init__(self, ttl: float = 0) -> None:
        self.notes: dict[str, bytes] = {"a": b"alpha", "b": b"beta"}
        self.calls = Counter[str]()
        self.fs = fs = FileSystem(ttl=ttl)

        @fs.list("/notes")
        async def names() -> list[str]:
            self.calls["list"] += 1
            await asyncio.sleep(0)
            return list(self.notes)

        @fs.stat("/notes/:name")
        def say(name: str) -> dict[str, int]:
            self.calls["stat"] += 1
            if name not in self.notes:
                raise FileNotFoundError(name)
            return {"st_size": len(self.notes[name])}

        @fs.read("/notes/:name")
        def read(name: str) -> bytes:
            self.calls["read"] += 1
            return self.notes[name]

        @fs.readlink("/first")
        def first() -> str:
            return "notes/a"

        @fs.read("/stream")
        async def stream() -> Any:
            for n in range(3):
                await asyncio.sleep(0)
                yield f"{n}\n"


def test_the_client_reads_what_a_mount_would_show() -> None:
    notes = Notes()
    notes.fs.publish("/published/x", "x")
    with notes.fs.test() as client:
        assert client.list() == ["first", "notes", "published", "stream"]
        assert client.list("/notes") == ["a", "b"]
        assert client.list("/published") == ["x"]
        assert client.read("/notes/a") == b"alpha"
        assert client.read("/first") == b"alpha"
        assert client.read_text("/published/x") == "x"
        assert client.read_text("/stream") == "0\n1\n2\n"
        assert client.readlink("/first") == "notes/a"
        assert client.stat("/notes/b").size == 4
        assert stat.S_ISLNK(client.stat("/first", follow_symlinks=False).mode)
        assert client.exists("/notes/a") and not client.exists("/notes/c")
        assert errno_of(client.read, "/notes/c") == "ENOENT"
        assert errno_of(client.read, "/notes") == "EISDIR"
        assert errno_of(client.list, "/notes/a") == "ENOTDIR"
        assert errno_of(client.read, "/notes/a/b") == "ENOTDIR"
        assert errno_of(client.readlink, "/notes") == "EINVAL"
        assert errno_of(client.write, "/notes/a", "") == "EROFS"
        assert errno_of(client.getxattr, "/notes/a", "user.x") == "EROFS"
        with pytest.raises(ValueError, match="absolute"):
            client.read("notes/a")


@pytest.mark.parametrize(("ttl", "calls"), [(0.0, 3), (60.0, 1)])
def test_the_client_asks_as_often_as_a_mount_would(ttl: float, calls: int) -> None:
    notes = Notes(ttl)
    with notes.fs.test() as client:
        for _ in range(3):
            client.list("/notes")
            client.read("/notes/a")
        assert notes.calls == {"list": calls, "stat": calls, "read": calls}
        notes.fs.invalidate("/notes/a")
        client.read("/notes/a")
        assert notes.calls["read"] == calls + 1


def test_loops_of_links_end() -> None:
    fs = FileSystem()
    fs.add("readlink", "/a", lambda: "b")
    fs.add("readlink", "/b", lambda: "/a")
    with fs.test() as client:
        assert errno_of(client.read, "/a") == "ELOOP"


def test_the_client_writes_as_programs_do() -> None:
    kept: dict[str, bytes] = {"old": b"old"}
    modes: dict[str, int] = {}
    labels: dict[str, bytes] = {}
    fs = FileSystem()

    @fs.list("/")
    def names() -> Iterator[str]:
        yield from kept

    @fs.read("/:name")
    def read(name: str) -> bytes:
        if name not in kept:
            raise FileNotFoundError
        return kept[name]

    @fs.write("/:name")
    async def write(name: str, data: bytes) -> None:
        await asyncio.sleep(0)
        if data == b"full":
            raise FuseError(errno.ENOSPC)
        kept[name] = data

    @fs.create("/:name")
    def create(name: str, mode: int) -> None:
        kept[name], modes[name] = b"", mode

    @fs.unlink("/:name")
    def unlink(name: str) -> None:
        del kept[name]

    @fs.rename("/:name")
    def rename(name: str, newpath: str) -> None:
        kept[newpath[1:]] = kept.pop(name)

    @fs.chmod("/:name")
    def chmod(name: str, mode: int) -> None:
        modes[name] = mode

    fs.add("xattr", "/:name", lambda name: labels)
    fs.add("setxattr", "/:path", lambda name, value: labels.update({name: value}))
    fs.add("removexattr", "/:path", lambda name: labels.pop(name))
    fs.add("statfs", "/", lambda: {"f_blocks": 7})
    with fs.test() as client:
        client.write("/new", "text")
        client.append("/new", b" more")
        assert kept["new"] == b"text more" == client.read("/new")
        client.truncate("/new", 2)
        client.rename("/new", "/newer")
        assert kept == {"old": b"old", "newer": b"te"}
        assert client.list() == ["newer", "old"]
        assert errno_of(client.write, "/old", "full") == "ENOSPC"
        with client.open("/old", os.O_RDWR) as file:
            file.seek(1)
            file.write(b"LD!")
            assert file.pread(10, 0) == b"oLD!"
            file.truncate(3)
            file.fsync()
            assert kept["old"] == b"oLD"
        client.chmod("/old", 0o600)
        client.unlink("/old")
        assert (list(kept), modes) == (["newer"], {"new": 0o644, "old": 0o600})
        assert errno_of(client.open, "/newer", os.O_CREAT | os.O_EXCL) == "EEXIST"
        assert errno_of(client.mkdir, "/d") == "EPERM"
        assert errno_of(client.unlink, "/gone") == "ENOENT"
        client.setxattr("/newer", "user.a", b"1")
        assert (client.listxattr("/newer"), client.getxattr("/newer", "user.a")) == (["user.a"], b"1")
        client.removexattr("/newer", "user.a")
        assert labels == {}
        assert client.statfs().f_blocks == 7


TEST_OF_A_USER = """
from fastfuse import FileSystem

def test_mine(fastfuse_mount):
    fs = FileSystem()
    fs.add("read", "/x", lambda: "mounted")
    root = fastfuse_mount(fs)
    print("at", root)
    assert (root / "x").read_text() == "mounted"
"""


@pytest.mark.mount
def test_the_fixture_mounts_and_unmounts(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TEST_OF_A_USER)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "fastfuse.pytest_plugin", "-c", "/dev/null", str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    where = next(line.split()[-1] for line in done.stdout.splitlines() if "at /" in line)
    assert where not in Path("/proc/mounts").read_text()
