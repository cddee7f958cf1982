"""Writing through routes: what handlers get, and that programs find a file as it is on a disk."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import errno_of, shell

from fastfuse import FileSystem, FuseError

pytestmark = pytest.mark.mount


# ---- what handlers get


class Recorder:
    """One file whose write handler works in one of the ways that there are."""

    def __init__(self, way: str) -> None:
        self.content = b"old"
        self.stored: list[Any] = []
        self.fs = FileSystem(ttl=60)
        self.fs.add("read", "/x", lambda: self.content)
        getattr(self, way)()

    def keep(self, content: bytes | str) -> None:
        self.stored.append(content)
        self.content = content.encode() if isinstance(content, str) else content

    def data(self) -> None:
        @self.fs.write("/x")
        def write(data: bytes) -> None:
            self.keep(data)

    def text(self) -> None:
        @self.fs.write("/x")
        async def write(text: str) -> None:
            self.keep(text)

    def text_function(self) -> None:
        self.fs.add("write", "/x", lambda: self.keep)

    def data_function(self) -> None:
        self.fs.add("write", "/x", lambda: self.keep, encoding=None)

    def text_file(self) -> None:
        recorder = self

        class Text(io.StringIO):
            def flush(self) -> None:
                recorder.keep(self.getvalue())

        self.fs.add("write", "/x", Text)

    def put(self, data: bytes, offset: int) -> None:
        self.stored.append((data, offset))
        old = self.content.ljust(offset, b"\0")
        self.content = old[:offset] + data + old[offset + len(data) :]

    def pieces(self) -> None:
        @self.fs.write("/x")
        def write(data: bytes, offset: int) -> None:
            self.put(data, offset)

        @self.fs.truncate("/x")
        def truncate(size: int) -> None:
            self.stored.append(size)
            self.content = self.content[:size].ljust(size, b"\0")

    def pieces_function(self) -> None:
        self.fs.add("write", "/x", lambda: self.put)
        self.fs.add("truncate", "/x", lambda size: self.keep(self.content[:size].ljust(size, b"\0")))

    def file(self) -> None:
        recorder = self

        class Kept(io.BytesIO):
            def flush(self) -> None:
                recorder.content = self.getvalue()

        self.fs.add("write", "/x", lambda: Kept(self.content))


WHOLE = ["data", "text", "text_function", "data_function", "text_file"]
WAYS = [*WHOLE, "pieces", "pieces_function", "file"]


@pytest.mark.parametrize("way", WAYS)
def test_shells_write(mount: Callable[..., Path], way: str) -> None:
    recorder = Recorder(way)
    root = mount(recorder.fs)
    for line, expected in [
        ("cat x", "old"),
        ("printf new > x; cat x", "new"),
        ("printf er >> x; cat x; wc -c < x", "newer5\n"),
        ("printf W | dd of=x bs=1 seek=2 conv=notrunc 2>&1 | tail -n 0; cat x", "neWer"),
        ("truncate -s 2 x; cat x; stat -c %s x", "ne2\n"),
        ("truncate -s 4 x; od -An -c x", "   n   e  \\0  \\0\n"),
        (
            "printf Z | dd of=x bs=1 seek=6 conv=notrunc 2>&1 | tail -n 0; od -An -c x",
            "   n   e  \\0  \\0  \\0  \\0   Z\n",
        ),
        ("(printf a; printf b) > x; cat x", "ab"),
        ("cp /dev/null x; stat -c %s x", "0\n"),
        ("cat x", ""),
    ]:
        assert shell(root, line) == expected, line
    assert recorder.content == b""


@pytest.mark.parametrize("way", WHOLE)
def test_the_whole_is_stored_when_a_program_closes_or_syncs(mount: Callable[..., Path], way: str) -> None:
    recorder = Recorder(way)
    root = mount(recorder.fs)
    kind: Any = bytes if way.startswith("data") else str

    def of(text: str) -> Any:
        return text.encode() if kind is bytes else text

    (root / "x").write_text("abc")
    assert recorder.stored == [of("abc")]
    with (root / "x").open("r+") as file:
        assert file.read() == "abc"
        file.write("d")
        file.flush()
        assert recorder.stored == [of("abc")]
        os.fsync(file.fileno())
        assert recorder.stored == [of("abc"), of("abcd")]
    assert recorder.stored == [of("abc"), of("abcd")]
    with (root / "x").open("r+"):
        pass
    assert recorder.stored == [of("abc"), of("abcd")]


def test_who_only_writes_does_not_read(mount: Callable[..., Path]) -> None:
    calls: list[str] = []
    fs = FileSystem()

    @fs.read("/x", ttl=0)
    def read() -> str:
        calls.append("read")
        return "old"

    @fs.write("/x")
    def write(text: str) -> None:
        calls.append(text)

    root = mount(fs)
    (root / "x").write_text("new")
    with (root / "x").open("r+b", buffering=0):
        pass
    assert calls == ["new"]


def test_a_file_that_is_only_written(mount: Callable[..., Path]) -> None:
    stored: list[str] = []
    fs = FileSystem()
    fs.add("write", "/w", lambda text: stored.append(text))
    fs.add("write", "/null", lambda: None)
    root = mount(fs)
    assert stat.filemode((root / "w").stat().st_mode) == "--w-------"
    assert errno_of((root / "w").read_text) == "EACCES"
    shell(root, "printf a >> w; echo lost > null")
    assert stored == ["a"]
    with (root / "w").open("wb", buffering=0) as file:
        os.pwrite(file.fileno(), b"end", 3)
    assert stored == ["a", "\0\0\0end"]


@pytest.mark.parametrize("way", ["text", "function", "pieces", "file"])
@pytest.mark.parametrize("error", [FuseError(errno.EDQUOT), ValueError("not a number")])
def test_an_error_reaches_the_program_that_closes(
    mount: Callable[..., Path], caplog: pytest.LogCaptureFixture, way: str, error: Exception
) -> None:
    fs = FileSystem()

    def fail(*args: object) -> None:
        raise error

    class Failing(io.BytesIO):
        def flush(self) -> None:
            fail()

    def at_close(text: str) -> None:
        fail()

    def at_write(data: bytes, offset: int) -> None:
        fail()

    if way == "text":
        fs.add("write", "/x", at_close)
    elif way == "function":
        fs.add("write", "/x", lambda: lambda text: fail(text))
    elif way == "pieces":
        fs.add("write", "/x", at_write)
    else:
        fs.add("write", "/x", Failing)
    root = mount(fs)
    expected = "EIO" if isinstance(error, ValueError) else "EDQUOT"
    assert errno_of((root / "x").write_text, "a") == expected
    assert ("'/x' (write)" in caplog.text) == isinstance(error, ValueError)


def test_text_that_cannot_be_decoded_is_refused(mount: Callable[..., Path]) -> None:
    recorder = Recorder("text")
    root = mount(recorder.fs)
    assert errno_of((root / "x").write_bytes, b"\xff") == "EILSEQ"
    assert recorder.stored == []


def test_a_file_has_a_largest_size(mount: Callable[..., Path]) -> None:
    root = mount(Recorder("data").fs)
    assert errno_of(os.truncate, root / "x", 1 << 40) == "EFBIG"


@pytest.mark.parametrize("given", [7, "text", object()])
def test_what_is_no_writer_is_an_error(
    mount: Callable[..., Path], caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    fs = FileSystem()
    fs.add("write", "/x", lambda: given)
    root = mount(fs)
    assert errno_of((root / "x").write_text, "a") == "EIO"
    assert "'/x' (write)" in caplog.text


def test_who_reads_a_file_that_is_written_sees_what_is_written(mount: Callable[..., Path]) -> None:
    recorder = Recorder("data")
    root = mount(recorder.fs)
    assert (root / "x").read_bytes() == b"old"
    with (root / "x").open("wb", buffering=0) as one, (root / "x").open("ab", buffering=0) as two:
        one.write(b"12")
        two.write(b"34")
        assert (root / "x").read_bytes() == b"1234"
        assert (root / "x").stat().st_size == 4
        one.write(b"xx")
        assert (root / "x").read_bytes() == b"12xx"
        assert recorder.content == b"old"
    assert recorder.content == b"12xx"
    assert (root / "x").stat().st_size == 4


def test_programs_that_append_at_the_same_time_lose_nothing(mount: Callable[..., Path]) -> None:
    recorder = Recorder("data")
    root = mount(recorder.fs)
    lines = "for n in 1 2 3 4 5 6 7 8 9 10; do echo $0 $n; done >> x"
    writers = [subprocess.Popen(["sh", "-c", lines, str(n)], cwd=root) for n in range(8)]
    assert [writer.wait(timeout=30) for writer in writers] == [0] * 8
    expected = {f"{writer} {n}".encode() for writer in range(8) for n in range(1, 11)}
    assert set(recorder.content.removeprefix(b"old").splitlines()) == expected
    assert recorder.content == (root / "x").read_bytes()


@pytest.mark.parametrize("mode", ["wb", "r+b", "w", "r+"])
def test_files_on_disk_are_written_to(mount: Callable[..., Path], tmp_path: Path, mode: str) -> None:
    disk = tmp_path / "disk"
    disk.write_text("old text")
    fs = FileSystem()
    fs.add("read", "/x", lambda: disk)
    fs.add("write", "/x", lambda: disk.open(mode))
    root = mount(fs)
    assert shell(root, "printf new > x; cat x") == "new"
    with (root / "x").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"12345", 0)
        assert os.pread(file.fileno(), 3, 1) == b"234"
    assert disk.read_text() == "12345"
    assert (root / "x").stat().st_size == 5


def test_what_cannot_be_changed_says_so(mount: Callable[..., Path]) -> None:
    fs = FileSystem()
    fs.add("write", "/w", lambda: None)
    fs.add("read", "/r", lambda: "")
    root = mount(fs)
    path = root / "r"
    assert errno_of(path.write_text, "") in ("EACCES", "EPERM")
    assert errno_of((root / "new").write_text, "") in ("ENOENT", "EPERM")
    assert errno_of((root / "new").mkdir) == "EPERM"
    assert errno_of(os.symlink, "a", root / "new") == "EPERM"
    assert errno_of(os.link, path, root / "new") == "EPERM"
    assert errno_of(os.mknod, root / "new", stat.S_IFIFO) == "EPERM"
    assert errno_of(path.unlink) == "EPERM"
    assert errno_of(path.rename, root / "new") == "EPERM"
    assert errno_of(path.chmod, 0o600) == "EPERM"
    assert errno_of(os.chown, path, 5, 5) == "EPERM"
    assert errno_of(os.utime, path, (1, 1)) == "EPERM"
    # What changes nothing is allowed, and so is touching what can be written.
    path.chmod(stat.S_IMODE(path.stat().st_mode))
    os.chown(path, os.getuid(), os.getgid())
    os.utime(root / "w")


# ---- a whole file system of routes


class Memory:
    """A file system in a dictionary, by all the routes that there are."""

    def __init__(self, way: str) -> None:
        self.tree: dict[str, Any] = {"/": {}}  # a directory is a dict
        self.modes: dict[str, int] = {}
        self.times: dict[str, int] = {}
        self.fs = fs = FileSystem(ttl=60)

        @fs.stat("/**at")
        def say(path: str) -> dict[str, int]:
            found = self.find(path)
            kind = stat.S_IFDIR if isinstance(found, dict) else stat.S_IFREG
            said = {"st_mode": kind | self.modes.get(path, 0o755)}
            if path in self.times:
                said["st_mtime_ns"] = self.times[path]
            if isinstance(found, bytes):
                said["st_size"] = len(found)
            return said

        @fs.list("/**at")
        def names(path: str) -> Any:
            return [p.rpartition("/")[2] for p in self.tree if p != "/" and p.rpartition("/")[0] == path.rstrip("/")]

        @fs.read("/**at")
        def read(path: str) -> Any:
            return self.find(path)

        if way == "whole":

            @fs.write("/**at")
            def write(path: str, data: bytes) -> None:
                self.tree[path] = data

        elif way == "async whole":

            @fs.write("/**at")
            async def write_later(path: str, data: bytes) -> None:
                self.tree[path] = data

        elif way == "pieces":

            @fs.write("/**at")
            def write_piece(path: str, data: bytes, offset: int) -> None:
                old = self.tree[path].ljust(offset, b"\0")
                self.tree[path] = old[:offset] + data + old[offset + len(data) :]

            @fs.truncate("/**at")
            async def truncate(path: str, size: int) -> None:
                self.tree[path] = self.tree[path][:size].ljust(size, b"\0")

        @fs.create("/**at")
        def create(path: str, mode: int) -> None:
            self.tree[path] = b""
            self.modes[path] = mode

        @fs.mkdir("/**at")
        def mkdir(path: str, mode: int) -> None:
            self.tree[path] = {}
            self.modes[path] = mode

        @fs.unlink("/**at")
        @fs.rmdir("/**at")
        def remove(path: str) -> None:
            if names(path):
                raise FuseError(errno.ENOTEMPTY)
            del self.tree[path]

        @fs.rename("/**at")
        def rename(path: str, newpath: str, flags: int) -> None:
            moved = {p: c for p, c in self.tree.items() if p == path or p.startswith(f"{path}/")}
            if flags & 2:
                back = {p: c for p, c in self.tree.items() if p == newpath or p.startswith(f"{newpath}/")}
            else:
                back = {}
                if names(newpath):
                    raise FuseError(errno.ENOTEMPTY)
            for old in (*moved, *back):
                del self.tree[old]
            for old, content in moved.items():
                self.tree[newpath + old[len(path) :]] = content
            for old, content in back.items():
                self.tree[path + old[len(newpath) :]] = content

        @fs.chmod("/**at")
        def chmod(path: str, mode: int) -> None:
            self.modes[path] = mode

        @fs.utime("/**at")
        def utime(path: str, mtime_ns: int | None) -> None:
            if mtime_ns is not None:
                self.times[path] = mtime_ns

    def find(self, path: str) -> Any:
        if path not in self.tree:
            raise FileNotFoundError(path)
        return self.tree[path]


@pytest.fixture(params=["whole", "async whole", "pieces"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def memory(way: str, mountpoint: Path) -> Iterator[Path]:
    with Memory(way).fs.mounted(mountpoint):
        yield mountpoint


def test_names_change(memory: Path, require: Callable[[str], str]) -> None:
    shell(memory, "mkdir -p a/b; echo one > a/b/one; mv a c; echo two >> c/b/one; mv c/b/one c/two; rmdir c/b")
    assert shell(memory, "find . | sort; cat c/two") == ".\n./c\n./c/two\none\ntwo\n"
    shell(memory, "chmod 600 c/two; touch -d @5 c/two; cp -p c/two copy; ln -s x y 2> /dev/null; rm -r c")
    assert shell(memory, "stat -c '%a %Y %s %n' copy; ls") == "600 5 8 copy\ncopy\n"
    shell(memory, "sed -i s/one/1/ copy; mkdir d; echo x > d/x; mv -T d e; mkdir f; mv -T e f")
    assert shell(memory, "cat copy f/x; find . | sort") == "1\ntwo\nx\n.\n./copy\n./f\n./f/x\n"
    assert errno_of(os.rmdir, memory / "f") == "ENOTEMPTY"
    with pytest.raises(FileExistsError):
        os.mkdir(memory / "f")


def test_directories_keep_their_inodes_and_whoever_is_in_them(memory: Path) -> None:
    line = "mkdir d; cd d; touch a b; rm a; mkdir e; mv b e; pwd -P; ls"
    assert shell(memory, line) == f"{memory}/d\ne\n"


def test_programs_pack_and_unpack(memory: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(30):
        path = source / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 1000))
    shell(tmp_path, f"tar -C source -c . | tar -C {memory} -x --no-same-owner")
    assert shell(tmp_path, f"diff -r source {memory} && echo same") == "same\n"


FLAGS = [0, os.O_APPEND, os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC]
SIZES = st.integers(0, 40)
NAMES = st.sampled_from("ab")
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("open"), NAMES, st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]), st.sampled_from(FLAGS)
        ),
        st.tuples(st.just("write"), SIZES, st.binary(max_size=30)),
        st.tuples(st.just("pwrite"), SIZES, st.binary(max_size=30), SIZES),
        st.tuples(st.just("read"), SIZES, SIZES),
        st.tuples(st.just("pread"), SIZES, SIZES, SIZES),
        st.tuples(st.just("seek"), SIZES, SIZES, st.sampled_from([os.SEEK_SET, os.SEEK_END])),
        st.tuples(st.just("ftruncate"), SIZES, SIZES),
        st.tuples(st.just("fsync"), SIZES),
        st.tuples(st.just("fstat"), SIZES),
        st.tuples(st.just("dup"), SIZES),
        st.tuples(st.just("close"), SIZES),
        st.tuples(st.just("truncate"), NAMES, SIZES),
        st.tuples(st.just("stat"), NAMES),
        st.tuples(st.just("look"), NAMES),
        st.tuples(st.just("list")),
        st.tuples(st.just("unlink"), NAMES),
        st.tuples(st.just("rename"), NAMES, NAMES),
    ),
    max_size=40,
)


class World:
    """A directory, and the files that are open in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fds: list[int] = []

    def do(self, step: tuple[Any, ...]) -> Any:
        """The step's result, or the name of its error."""
        name, *args = step
        if name in ("write", "pwrite", "read", "pread", "seek", "ftruncate", "fsync", "fstat", "dup", "close"):
            if not self.fds:
                return None
            args[0] = args[0] % len(self.fds)
        try:
            return getattr(self, name)(*args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def open(self, name: str, access: int, flags: int) -> None:
        self.fds.append(os.open(self.root / name, access | flags, 0o644))

    def write(self, index: int, data: bytes) -> int:
        return os.write(self.fds[index], data)

    def pwrite(self, index: int, data: bytes, off: int) -> int:
        return os.pwrite(self.fds[index], data, off)

    def read(self, index: int, size: int) -> bytes:
        return os.read(self.fds[index], size)

    def pread(self, index: int, size: int, off: int) -> bytes:
        return os.pread(self.fds[index], size, off)

    def seek(self, index: int, off: int, whence: int) -> int:
        return os.lseek(self.fds[index], off, whence)

    def ftruncate(self, index: int, size: int) -> None:
        os.ftruncate(self.fds[index], size)

    def fsync(self, index: int) -> None:
        os.fsync(self.fds[index])

    def fstat(self, index: int) -> int:
        return os.fstat(self.fds[index]).st_size

    def dup(self, index: int) -> None:
        self.fds.append(os.dup(self.fds[index]))

    def close(self, index: int) -> None:
        os.close(self.fds.pop(index))

    def truncate(self, name: str, size: int) -> None:
        os.truncate(self.root / name, size)

    def stat(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def look(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def list(self) -> Any:
        return sorted(os.listdir(self.root))

    def unlink(self, name: str) -> None:
        (self.root / name).unlink()

    def rename(self, old: str, new: str) -> None:
        (self.root / old).rename(self.root / new)

    def close_all(self) -> dict[str, bytes]:
        while self.fds:
            os.close(self.fds.pop())
        return {path.name: path.read_bytes() for path in self.root.iterdir()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_files_are_written_as_on_a_disk(memory: Path, way: str, tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    name = str(len(os.listdir(tmp_path)))
    worlds = [World(tmp_path / f"disk{name}"), World(memory / f"routes{name}")]
    for world in worlds:
        world.root.mkdir()
    try:
        done: list[Any] = []
        for step in steps:
            if way == "pieces" and step[0] in ("unlink", "rename") and worlds[0].fds:
                continue  # pieces go to a path, which an open file has no more
            results = [world.do(step) for world in worlds]
            done.append(step)
            assert results[0] == results[1], done
    finally:
        left = [world.close_all() for world in worlds]
    assert left[0] == left[1]
