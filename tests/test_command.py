"""The command line of a file system: foreground, background, signals, mount points that will not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import wait_until_gone

from fastfuse.mountpoint import MountError, check_options, prepare

PROGRAM = """
import sys
import fastfuse
from fastfuse import command

ops = fastfuse.Operations()
ops.tree = fastfuse.Tree()
ops.tree.publish("hello", b"Hello, World!")
sys.exit(command.run(ops))
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "hellofs.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


def wait_until_mounted(mountpoint: Path, process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 20
    while not os.path.ismount(mountpoint):
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, "not mounted"
        time.sleep(0.01)


@pytest.fixture
def foreground(program: list[str], mountpoint: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*program, str(mountpoint), "-f"], stderr=subprocess.PIPE, text=True) as process:
        wait_until_mounted(mountpoint, process)
        yield process
        process.kill()


@pytest.mark.mount
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unmounts_cleanly(foreground: subprocess.Popen[str], mountpoint: Path, number: int) -> None:
    assert (mountpoint / "hello").read_text() == "Hello, World!"
    foreground.send_signal(number)
    _, said = foreground.communicate(timeout=10)
    assert (foreground.returncode, said) == (0, "")
    assert not os.path.ismount(mountpoint)


@pytest.mark.mount
def test_unmounting_from_outside_ends_the_program(foreground: subprocess.Popen[str], mountpoint: Path) -> None:
    subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=10)
    _, said = foreground.communicate(timeout=10)
    assert (foreground.returncode, said) == (0, "")


@pytest.mark.mount
def test_the_background(program: list[str], mountpoint: Path) -> None:
    # Reading to the end of the output would hang if the background kept it open.
    done = subprocess.run([*program, str(mountpoint)], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (mountpoint / "hello").read_text() == "Hello, World!", "mounted when the command returns"
    subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=10)
    wait_until_gone(mountpoint)


@pytest.mark.mount
@pytest.mark.parametrize("options", [[], ["-f"]], ids=["background", "foreground"])
def test_a_mountpoint_that_will_not_do_is_named(program: list[str], tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for name, why in [
        ("missing", "No such file or directory"),
        ("file", "Not a directory"),
        ("full", "Directory not empty"),
    ]:
        done = subprocess.run([*program, str(tmp_path / name), *options], capture_output=True, text=True, timeout=20)
        assert done.returncode == 1
        assert done.stderr == f"hellofs.py: mountpoint {tmp_path / name}: {why}\n"


def test_a_wrong_mount_option_is_named(program: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*program, str(tmp_path), "-o", "ro,flubber"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.startswith("hellofs.py: unknown mount option 'flubber'; known are: allow_other")


@pytest.mark.parametrize("option", ["ro=1", "fsname", "subtype=", "fsname=a,b", ""])
def test_options_are_checked(option: str) -> None:
    with pytest.raises(ValueError, match="mount option"):
        check_options([option])


@pytest.mark.mount
def test_a_dead_mount_is_cleaned_up(program: list[str], mountpoint: Path) -> None:
    with subprocess.Popen([*program, str(mountpoint), "-f"]) as process:
        wait_until_mounted(mountpoint)
        process.kill()
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.statvfs(mountpoint)
    again = subprocess.run([*program, str(mountpoint)], capture_output=True, text=True, timeout=20)
    assert again.returncode == 0, again.stderr
    assert again.stderr == f"fastfuse: {mountpoint}: unmounting what a crashed file system left there\n"
    assert (mountpoint / "hello").read_text() == "Hello, World!"
    subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=10)
    wait_until_gone(mountpoint)


def test_the_mountpoint_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert prepare(str(tmp_path / "link")) == str(tmp_path / "real")
    with pytest.raises(MountError, match=r"mountpoint .*missing: No such file"):
        prepare(str(tmp_path / "missing"))


# Imports as root, which may be the only one to read this Python; mounts as somebody else.
AS_USER = """
import argparse, locale, os, shutil, sys
import fastfuse
from fastfuse import command
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
""" + PROGRAM


@pytest.mark.mount
def test_an_ordinary_user_mounts_through_fusermount3(fuse_for_everyone: None) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as an ordinary user every other test is this one")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        mountpoint = Path(home, "mnt")
        mountpoint.mkdir()
        os.chmod(home, 0o755)
        os.chown(mountpoint, 65534, 65534)
        program = [sys.executable, "-c", AS_USER, str(mountpoint)]
        try:
            done = subprocess.run(program, capture_output=True, text=True, timeout=20, cwd="/")
            assert (done.returncode, done.stderr) == (0, "")
            read = subprocess.run(
                ["cat", mountpoint / "hello"], capture_output=True, text=True, timeout=20, user=65534, group=65534
            )
            assert read.stdout == "Hello, World!"
            with pytest.raises(PermissionError):
                os.listdir(mountpoint)  # its own user's only, without allow_other
        finally:
            unmounted = subprocess.run(
                ["fusermount3", "-u", mountpoint], capture_output=True, user=65534, group=65534, timeout=20
            )
        assert unmounted.returncode == 0
        wait_until_gone(mountpoint)
