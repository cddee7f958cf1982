"""How an open is served: by the kernel itself, from its page cache, without being asked, from C memory."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastfuse import FOREVER, Attr, Content, Context, FileInfo, FileSystem, Operations, Session, Tree

pytestmark = pytest.mark.mount

DATA = os.urandom(300_000)


def published(**files: object) -> Operations:
    ops = Operations()
    ops.tree = Tree()
    for name, content in files.items():
        ops.tree.publish(name, content, memfd=name.startswith("memfd"))  # type: ignore[arg-type]
    return ops


def requests(session: Session, operation: str) -> int:
    return int(session.stats()["operations"].get(operation, {"requests": 0})["requests"])


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether *condition* is met within a few seconds: what the kernel is told reaches it a little later."""
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def needs_passthrough(session: Session) -> None:
    if not session.stats()["passthrough"]["negotiated"]:
        pytest.skip("this kernel does not offer passthrough (Linux 6.9)")
    if os.geteuid() != 0:
        pytest.skip("passthrough takes CAP_SYS_ADMIN")


def test_files_and_memfds_are_read_by_the_kernel_itself(mountpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(DATA)
    ops = published(disk=tmp_path / "source", memfd=DATA, memory=DATA)
    with Session(ops, mountpoint) as session:
        needs_passthrough(session)
        for name in ("disk", "memfd"):
            assert (mountpoint / name).read_bytes() == DATA
            assert (mountpoint / name).read_bytes() == DATA
        assert requests(session, "read") == 0
        assert session.stats()["passthrough"] == {"negotiated": True, "opened": 4, "refused": 0, "why": ""}
        assert (mountpoint / "memory").read_bytes() == DATA
        assert requests(session, "read") > 0


def test_two_who_have_one_file_open_share_its_backing(mountpoint: Path) -> None:
    with Session(published(memfd=DATA), mountpoint) as session:
        needs_passthrough(session)
        with open(mountpoint / "memfd", "rb") as one, open(mountpoint / "memfd", "rb") as other:
            assert one.read() == other.read() == DATA, "the kernel answers EIO to a second backing"
        assert session.stats()["passthrough"]["opened"] == 2
        assert requests(session, "read") == 0


def test_a_backing_is_of_one_mount(mountpoint: Path, tmp_path: Path) -> None:
    """Its number means something else, or nothing, to another one."""
    contents = {name: Content.in_memfd(name.encode() * 1000) for name in ("one", "two", "three")}
    ops = published(**contents)
    for names in (["one", "two", "three"], ["three", "one"]):
        with Session(ops, mountpoint) as session:
            needs_passthrough(session)
            for name in names:
                assert (mountpoint / name).read_text() == name * 1000
            assert requests(session, "read") == 0
    (other := tmp_path / "other").mkdir()
    with Session(published(**contents), mountpoint) as session, Session(published(**contents), other) as beside:
        for name, number in (("one", 0), ("two", 0), ("three", 0), ("two", 1), ("one", 1)):
            assert ((mountpoint, other)[number] / name).read_text() == name * 1000
        assert requests(session, "read") == requests(beside, "read") == 0


def test_a_file_that_nobody_has_open_is_free(mountpoint: Path, tmp_path: Path) -> None:
    """The kernel holds a file that it reads by itself no longer than anybody has it open."""
    (memory := tmp_path / "tmpfs").mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", memory], capture_output=True, text=True, timeout=20)
    if made.returncode:
        pytest.skip(f"a file system whose free blocks are only ours takes root: {made.stderr.strip()}")
    try:
        ops = published()
        assert ops.tree
        free = os.statvfs(memory).f_bfree
        with Session(ops, mountpoint) as session:
            needs_passthrough(session)
            (memory / "disk").write_bytes(DATA)
            ops.tree.publish("file", memory / "disk")
            with open(mountpoint / "file", "rb") as held:
                ops.tree.remove("file")
                (memory / "disk").unlink()
                assert held.read() == DATA
                assert requests(session, "read") == 0
                assert os.statvfs(memory).f_bfree < free
            assert eventually(lambda: os.statvfs(memory).f_bfree == free), "close(2) does not wait for the release"
    finally:
        subprocess.run(["umount", memory], check=True, timeout=20)


def test_a_file_that_is_written_to_is_asked_for_again(mountpoint: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"first")
    calls = []
    fs = FileSystem(ttl=FOREVER)

    @fs.read("/file")
    def read() -> Path:
        calls.append(disk.stat().st_size)
        return disk

    with fs.mounted(mountpoint) as root:
        for _ in range(3):
            assert (root / "file").read_bytes() == b"first"
        assert calls == [5]
        disk.write_bytes(b"second, and longer")
        with open(root / "file", "rb") as held:
            assert os.fstat(held.fileno()).st_size == 18
            assert held.read() == b"second, and longer"
            assert (root / "file").read_bytes() == b"second, and longer"
        assert calls == [5, 18]


def test_without_passthrough_the_next_best_way_is_taken_and_said_once(
    mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastfuse")
    with Session(published(memfd1=DATA, memfd2=DATA), mountpoint, passthrough=False) as session:
        for name in ("memfd1", "memfd2", "memfd1"):
            assert (mountpoint / name).read_bytes() == DATA
        told = {"negotiated": False, "opened": 0, "refused": 3, "why": "switched off"}
        assert session.stats()["passthrough"] == told
    said = [record.getMessage() for record in caplog.records if "passthrough" in record.getMessage()]
    assert said == ["files are read through this process, not by the kernel itself (passthrough: switched off)"]


def test_an_immutable_mount_is_asked_once(mountpoint: Path) -> None:
    ops = published(**{f"f{i}": b"%d" % i * 1000 for i in range(50)})
    with Session(ops, mountpoint, immutable=True) as session:
        for _ in range(3):
            for i in range(50):
                assert (mountpoint / f"f{i}").read_bytes() == b"%d" % i * 1000
        assert len(os.listdir(mountpoint)) == 50
        assert requests(session, "open") == 1, "the kernel asked, heard ENOSYS, and asked no more"
        assert requests(session, "release") == 0
        assert requests(session, "read") == 50, "what was read once is not asked for again"


def test_what_may_change_is_not_immutable(mountpoint: Path) -> None:
    class Asked(Operations):
        def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
            return Attr()

    asked = Asked()
    asked.tree = Tree()
    with pytest.raises(ValueError, match="immutable: getattr of Asked may say something else"):
        Session(asked, mountpoint, immutable=True)
    with pytest.raises(ValueError, match="immutable: there is no tree"):
        Session(Operations(), mountpoint, immutable=True)
    ops = published(known=b"x")
    ops.tree.set_entry(1, b"unknown", Attr(mode=0o100444), 60, sized=False)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="immutable: /unknown is not published with its content"):
        Session(ops, mountpoint, immutable=True)


def test_a_second_open_reads_nothing(mountpoint: Path) -> None:
    with Session(published(file=DATA), mountpoint) as session:
        assert (mountpoint / "file").read_bytes() == DATA
        once = requests(session, "read")
        assert once > 0
        assert (mountpoint / "file").read_bytes() == DATA
        assert requests(session, "read") == once, "keep_cache"


def test_a_small_file_comes_with_its_first_open(mountpoint: Path) -> None:
    sizes = (0, 1, 4096, 4097, 16 << 10)
    ops = published(**{f"f{size}": DATA[:size] for size in sizes}, large=DATA[: (16 << 10) + 1])
    with Session(ops, mountpoint) as session:
        for size in sizes:
            for _ in range(2):
                assert (mountpoint / f"f{size}").read_bytes() == DATA[:size]
        assert requests(session, "read") == 0
        assert session.stats()["prefilled"] == len(sizes) - 1, "all but the empty one, once each"
        assert (mountpoint / "large").read_bytes() == DATA[: (16 << 10) + 1]
        assert requests(session, "read") > 0


def test_a_small_file_that_is_replaced_comes_anew(mountpoint: Path) -> None:
    ops = published(file=b"old and longer")
    assert ops.tree
    with Session(ops, mountpoint) as session, open(mountpoint / "file", "rb") as held:
        ops.tree.publish("file", b"new")
        assert eventually(lambda: (mountpoint / "file").read_bytes() == b"new")
        assert held.read() == b"old and longer"
        assert session.stats()["prefilled"] == 2


def test_no_page_cache_is_filled_while_a_handler_has_a_file_open(mountpoint: Path) -> None:
    """A read of it may wait for Python with its pages locked, for which the filling would wait."""

    class Both(Operations):
        tree = Tree()

        def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
            pass

        def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
            return len(buf)

    ops = Both()
    later = [f"later{i}" for i in range(200)]
    for name in ("a", "b", *later):
        ops.tree.publish(name, DATA[:5000], mode=0o644)
    with Session(ops, mountpoint) as session:
        with open(mountpoint / "a", "r+b"):
            for name in ("a", "b"):
                assert (mountpoint / name).read_bytes() == DATA[:5000]
            assert session.stats()["prefilled"] == 0
        assert requests(session, "read") == 2
        for name in later:  # close(2) does not wait for the release
            assert (mountpoint / name).read_bytes() == DATA[:5000]
            if session.stats()["prefilled"]:
                break
            time.sleep(0.01)
        assert session.stats()["prefilled"] == 1


def test_links_that_only_the_tree_knows_are_kept_by_the_kernel(mountpoint: Path) -> None:
    ops = published()
    assert ops.tree
    ops.tree.symlink("link", "one")
    ino = ops.tree.find("link")
    assert ino
    with Session(ops, mountpoint) as session:
        assert [os.readlink(mountpoint / "link") for _ in range(5)] == ["one"] * 5
        assert requests(session, "readlink") == 1
        ops.tree.set_link(ino, "another", 3600)
        assert eventually(lambda: os.readlink(mountpoint / "link") == "another")


def test_links_that_a_handler_may_change_are_asked_for(mountpoint: Path) -> None:
    fs = FileSystem()
    targets = iter("abc")
    fs.add("readlink", "/link", lambda: next(targets), ttl=0)
    with fs.mounted(mountpoint) as root:
        assert [os.readlink(root / "link") for _ in range(3)] == ["a", "b", "c"]


def test_links_that_a_handler_says_for_good_are_kept_by_the_kernel(mountpoint: Path) -> None:
    fs = FileSystem()
    fs.add("readlink", "/:name", lambda name: name * 2, ttl=FOREVER)
    with fs.session(mountpoint) as session:
        assert [os.readlink(mountpoint / "ab") for _ in range(3)] == ["abab"] * 3
        assert requests(session, "readlink") <= 1


def test_names_that_do_not_exist_are_asked_for_once(mountpoint: Path) -> None:
    ops = published(file=b"")
    assert ops.tree
    ops.tree.set_negative_timeout(60)
    with Session(ops, mountpoint) as session:
        for _ in range(5):
            assert not (mountpoint / "missing").exists()
        assert requests(session, "lookup") == 1
        ops.tree.publish("missing", b"now it does")
        assert eventually((mountpoint / "missing").exists)
        assert (mountpoint / "missing").read_bytes() == b"now it does"



def test_allow_root_lets_root_in_and_nobody_else(mountpoint: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for directory in (mountpoint, *mountpoint.parents[:3]):
        os.chmod(directory, 0o755)
    with Session(published(file=b"x"), mountpoint, options=["allow_root"]):
        assert (mountpoint / "file").read_text() == "x"
        denied = subprocess.run(["cat", mountpoint / "file"], user=65534, capture_output=True, text=True, timeout=20)
        assert os.strerror(errno.EACCES) in denied.stderr
    with Session(published(file=b"x"), mountpoint, options=["allow_other"]):
        allowed = subprocess.run(["cat", mountpoint / "file"], user=65534, capture_output=True, text=True, timeout=20)
        assert allowed.stdout == "x"
