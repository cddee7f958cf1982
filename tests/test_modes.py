"""How an open is served: by the kernel itself, from its page cache, without being asked, from C memory."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from pathlib import Path

import pytest

from fastfuse import Attr, Context, FileInfo, Operations, Session, Tree

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
        assert session.stats()["passthrough"] == {"negotiated": True, "opened": 2, "refused": 0}
        assert (mountpoint / "memory").read_bytes() == DATA
        assert requests(session, "read") > 0


def test_two_who_have_one_file_open_share_its_backing(mountpoint: Path) -> None:
    with Session(published(memfd=DATA), mountpoint) as session:
        needs_passthrough(session)
        with open(mountpoint / "memfd", "rb") as one, open(mountpoint / "memfd", "rb") as other:
            assert one.read() == other.read() == DATA
        assert session.stats()["passthrough"]["opened"] == 1


def test_without_passthrough_the_next_best_way_is_taken_and_said_once(
    mountpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastfuse")
    with Session(published(memfd1=DATA, memfd2=DATA), mountpoint, passthrough=False) as session:
        for name in ("memfd1", "memfd2", "memfd1"):
            assert (mountpoint / name).read_bytes() == DATA
        assert session.stats()["passthrough"] == {"negotiated": False, "opened": 0, "refused": 2}
    said = [record.getMessage() for record in caplog.records if "passthrough" in record.getMessage()]
    assert said == ["files are read through this process, not by the kernel itself (passthrough: not agreed)"]


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
        assert (mountpoint / "file").read_bytes() == DATA
        assert requests(session, "read") == once, "keep_cache"


def test_names_that_do_not_exist_are_asked_for_once(mountpoint: Path) -> None:
    ops = published(file=b"")
    assert ops.tree
    ops.tree.set_negative_timeout(60)
    with Session(ops, mountpoint) as session:
        for _ in range(5):
            assert not (mountpoint / "missing").exists()
        assert requests(session, "lookup") == 1
        ops.tree.publish("missing", b"now it does")
        for _ in range(1000):
            if (mountpoint / "missing").exists():
                break
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
