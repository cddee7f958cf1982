"""Shared by the tests: a place to mount, what skips them, the check that nothing stays mounted."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@functools.cache
def why_no_mount(directory: Path) -> str | None:
    """The reason why no FUSE file system can be mounted on *directory*, found by trying."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user"
    if not shutil.which("fusermount3"):
        return "there is no fusermount3 (Debian package fuse3)"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        mount = subprocess.run(
            ["fusermount3", "--", str(directory)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
        )
        if mount.returncode:
            return f"mounting is not possible: {mount.stderr.strip()}"
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        for fd in fds:
            os.close(fd)
    subprocess.run(["fusermount3", "-uz", "--", str(directory)], check=True, timeout=30)
    return None


@pytest.fixture(scope="session")
def mount_trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(autouse=True)
def _mount_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("mount"):
        reason = why_no_mount(request.getfixturevalue("mount_trial"))
        if reason:
            pytest.skip(reason)


def unmount_below(directory: Path) -> list[str]:
    """Detach every FUSE mount below *directory*, the last one first, and name them."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        escaped, fstype = line.split(" ")[4], line.partition(" - ")[2].split(" ")[0]
        where = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)
        if fstype.startswith("fuse") and where.startswith(f"{directory}/"):
            found.append(where)
    for where in reversed(found):
        subprocess.run(["fusermount3", "-uz", "--", where], check=True, timeout=30)
    return found


@pytest.fixture(autouse=True)
def _nothing_stays_mounted(request: pytest.FixtureRequest) -> Iterator[None]:
    # Asked for first, and so checked last: after the test's own fixtures have unmounted.
    directory = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    left = unmount_below(directory) if directory else []
    assert not left, f"still mounted after the test: {left}"


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """An empty directory to mount on; what is still mounted there after the test fails it."""
    path = tmp_path / "mnt"
    path.mkdir()
    return path


@pytest.fixture
def mount(mountpoint: Path) -> Iterator[Callable[..., Path]]:
    """``mount(fs, **settings)`` mounts a `FileSystem` for the rest of the test, and is where."""
    with ExitStack() as stack:
        yield lambda fs, **settings: stack.enter_context(fs.mounted(mountpoint, **settings))


@pytest.fixture
def require() -> Callable[[str], str]:
    """``require("rsync")`` is the path of that program; the test is skipped where it is missing."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"the program {program} is not installed")
        return path

    return find


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_python(source, *args, timeout=30)`` runs *source* in a process of its own.

    Its directory is tmp_path. stdout and stderr are collected; a process that is still running
    after *timeout* seconds is killed, with its children, and the test fails with what they printed.
    """

    def run(source: str, *args: object, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", source, *map(str, args)]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                pytest.fail(f"still running after {timeout} s\nstdout: {out}\nstderr: {err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run


@pytest.fixture
def fuse_for_everyone() -> Iterator[None]:
    """udev makes /dev/fuse 0666 on most machines; where nothing did, do it for the test."""
    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", mode)
