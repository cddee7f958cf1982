"""The command line, as its own process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfuse.mountpoint import device
from xkcdfs.__main__ import _parser, main
from xkcdfs.demo import Site, faults

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "xkcdfs", *map(str, args)], cwd=tmp_path, text=True,
            env=environment(tmp_path), capture_output=True, timeout=timeout,
        )  # fmt: skip

    return call


@pytest.fixture
def foreground(tmp_path: Path, mountpoint: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    with contextlib.ExitStack() as ending:

        def start(*args: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "xkcdfs", *map(str, args), "-f"], cwd=tmp_path, text=True,
                env=environment(tmp_path), stderr=subprocess.PIPE,
            )  # fmt: skip
            ending.enter_context(process)
            ending.callback(process.kill)
            deadline = time.monotonic() + 30
            while not is_alive(mountpoint):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            return process

        yield start


def is_alive(mountpoint: Path) -> bool:
    # What a dead mount said last may still be in the kernel: only statvfs(3) asks it.
    try:
        os.statvfs(mountpoint)
    except OSError:
        return False
    return os.path.ismount(mountpoint)


def test_the_help_fits_a_screen(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 40
    assert max(map(len, done.stdout.splitlines())) <= 90


def test_the_manual_has_every_option() -> None:
    manual = (ROOT / "docs" / "xkcdfs.1").read_text().replace("\\-", "-")
    options = [name for action in _parser()._actions for name in action.option_strings]
    assert "--sync" in options
    own = set(options) - {"-h", "--help", "--version"}
    assert [name for name in sorted(own) if name not in manual] == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([], "give one mountpoint"),
        (["a", "b"], "'a' is no http or https URL"),
        (["a", "b", "c"], "no http or https URL"),
        (["mnt", "--url", "ftp://x"], "--url 'ftp://x' is no http or https URL"),
        (["mnt", "--cache-size", "lots"], "'lots' is no size"),
        (["mnt", "--cache-size", "1k"], "'1k' is no size of 1M or more"),
        (["--sync", "9-7"], "'9-7' is no range"),
        (["--sync", "0"], "'0' is no range"),
        (["--sync", "1-2", "mnt"], "takes no mountpoint"),
        (["--sync", "--offline"], "needs the network"),
        (["mnt", "--log", "/none/such/file"], "--log /none/such/file: No such file"),
        (["mnt", "-o", "cache-size=x"], "'x' is no size"),
        (["--frobnicate", "mnt"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_wrong_arguments_are_named(
    capsys: pytest.CaptureFixture[str], args: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.mount
def test_a_mount_that_fails_says_why(run: Run, tmp_path: Path) -> None:
    for args, complaint in (
        (("none",), "none: No such file or directory"),
        ((".",), "Directory not empty"),
        (("mnt", "-o", "frobnicate"), "unknown mount option 'frobnicate'"),
    ):
        (tmp_path / "mnt").mkdir(exist_ok=True)
        (tmp_path / "something").touch()
        for more in ((), ("-f",)):
            done = run(*args, *more)
            assert done.returncode == 1
            assert complaint in done.stderr
            assert len(done.stderr.splitlines()) == 1


@pytest.mark.mount
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_runs_until_a_signal(
    foreground: Callable[..., subprocess.Popen[str]], mountpoint: Path, tmp_path: Path, number: int
) -> None:
    process = foreground("mnt", "--demo")
    assert (mountpoint / "353").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("xkcdfs-demo-*"))
    process.send_signal(number)
    assert process.wait(15) == 0
    assert not os.path.ismount(mountpoint)
    assert not list(tmp_path.glob("xkcdfs-demo-*"))
    assert process.stderr is not None
    assert re.fullmatch(r"xkcdfs: http://\S+ is at mnt; Ctrl-C unmounts\n", process.stderr.read())


@pytest.mark.mount
def test_in_the_background_with_a_log_file(
    run: Run, site: Site, mountpoint: Path, tmp_path: Path
) -> None:
    done = run("--url", site.url, "mnt", "--log", "log.txt", "-o", "cache-dir=kept,noatime")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    try:
        assert (mountpoint / "353").read_bytes() == site.image(353)
        site.fail("/354/info.0.json", lambda wire, reply: wire.write(b"nonsense\r\n\r\n"))
        with pytest.raises(OSError) as caught:
            (mountpoint / "354").read_bytes()
        assert caught.value.errno == errno.EIO
    finally:
        subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=30)
    log = (tmp_path / "log.txt").read_text().splitlines()
    assert len(log) == 1
    assert re.match(rf"20\S+ \S+ WARNING {site.url}/354/info.0.json: ", log[0])
    assert list((tmp_path / "kept").rglob("*.png"))


@pytest.mark.mount
def test_the_cache_survives_kill_and_the_dead_mount_is_recovered(
    foreground: Callable[..., subprocess.Popen[str]], run: Run, site: Site, mountpoint: Path
) -> None:
    process = foreground("mnt", "--url", site.url)
    assert (mountpoint / "353").read_bytes() == site.image(353)
    process.kill()
    process.wait()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(mountpoint)
    site.forget()
    process = foreground("mnt", "--url", site.url, "--offline")
    assert (mountpoint / "353").read_bytes() == site.image(353)
    assert site.requests.total() == 0
    process.send_signal(signal.SIGINT)
    process.wait(15)


@pytest.mark.mount
def test_mounting_with_a_warm_cache_makes_no_request(
    foreground: Callable[..., subprocess.Popen[str]], run: Run, small_site: Site, mountpoint: Path
) -> None:
    assert run("--sync", "1-20", "--url", small_site.url).returncode == 0
    small_site.forget()
    process = foreground("mnt", "--url", small_site.url)
    for number in range(1, 21):
        assert (mountpoint / str(number)).read_bytes() == small_site.image(number)
        (folder,) = (mountpoint / "comics").glob(f"{number:04d}-*")
        assert (folder / "alt.txt").read_text() == small_site.comic(number).alt + "\n"
    assert small_site.requests.total() == 0
    process.send_signal(signal.SIGINT)
    process.wait(15)


def test_sync_resumes_and_repairs(run: Run, small_site: Site, tmp_path: Path) -> None:
    small_site.forget()
    done = run("--sync", "1-10", "--url", small_site.url)
    assert done.returncode == 0
    assert "10 of 10 comics are in the cache" in done.stdout
    assert "100%" in done.stderr
    first = small_site.requests.total()
    assert first == 2 + 10 + 10
    small_site.forget()
    done = run("--sync", "1-20", "--url", small_site.url)
    assert small_site.requests.total() == 20  # the new ones
    file = next((tmp_path / "cache").rglob("*.jpg"))
    file.write_bytes(file.read_bytes()[:-20])
    small_site.forget()
    done = run("--sync", "1-20", "--url", small_site.url)
    assert done.returncode == 0
    assert "is damaged" in done.stderr
    assert small_site.requests.total() == 1
    done = run("--sync", "900-", "--url", small_site.url)
    assert done.returncode == 1
    assert "no comic has such a number" in done.stderr


def test_sync_says_what_failed(run: Run, own_site: Site) -> None:
    own_site.stop()
    done = run("--sync", "1", "--url", own_site.url)
    assert done.returncode == 1
    assert own_site.url in done.stderr
    assert "refused" in done.stderr


def test_sync_can_be_interrupted(site: Site, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "xkcdfs", "--sync", "--url", site.url], cwd=tmp_path, text=True,
        env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 30
        while site.requests.total() < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the next --sync goes on from here" in err
    assert "Traceback" not in err


@pytest.mark.mount
def test_fstab(site: Site, mountpoint: Path, tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("mount.fuse3"):
        pytest.skip("mount -t fuse.xkcdfs needs root and mount.fuse3")
    # mount(8) starts the program by its name, with a PATH of its own.
    program = Path("/usr/local/bin/xkcdfs-of-a-test")
    program.write_text(
        f"#!/bin/sh\ncd {ROOT} && XDG_CACHE_HOME={tmp_path}/cache"
        f' NO_PROXY=127.0.0.1 exec {sys.executable} -m xkcdfs "$@"\n'
    )
    program.chmod(0o755)
    try:
        done = subprocess.run(
            ["mount", "-t", f"fuse.{program.name}", site.url, mountpoint, "-o",
             f"ro,nosuid,nodev,allow_other,_netdev,cache-dir={tmp_path}/kept"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert (mountpoint / "353").read_bytes() == site.image(353)
        assert list((tmp_path / "kept").rglob("*.png"))
        subprocess.run(["umount", mountpoint], check=True, timeout=30)
    finally:
        program.unlink()


@pytest.mark.mount
def test_syslog(site: Site, mountpoint: Path, run: Run) -> None:
    if os.geteuid() or os.path.exists("/dev/log"):
        pytest.skip("to listen on /dev/log takes root, and nobody else who does")
    site.fail("/353/info.0.json", faults.status(403))
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as log:
        log.settimeout(20)
        log.bind("/dev/log")
        try:
            assert run(mountpoint, "--url", site.url).returncode == 0
            with pytest.raises(PermissionError):
                (mountpoint / "353").read_bytes()
            told = log.recv(4096).decode()
        finally:
            subprocess.run(["fusermount3", "-u", mountpoint], check=True, timeout=20)
            os.unlink("/dev/log")
    assert re.match(r"<\d+>xkcdfs\[\d+\]: ", told)
    assert f"{site.url}/353/info.0.json: 403" in told


# Imports as root, which may be the only one to read this Python; the rest as somebody else.
AS_USER = """
import encodings.idna, os, sys
from xkcdfs.__main__ import main
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.mount
def test_an_ordinary_user(site: Site, fuse_for_everyone: None) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as an ordinary user every other test is this one")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        for name in (home, f"{home}/mnt", f"{home}/cache"):
            os.makedirs(name, exist_ok=True)
            os.chmod(name, 0o755)
            os.chown(name, 65534, 65534)
        user: dict[str, Any] = {"user": 65534, "group": 65534, "timeout": 30, "capture_output": True}
        program = [sys.executable, "-c", AS_USER, f"{home}/mnt", "-f"]
        program += ["--url", site.url, "--cache-dir", f"{home}/cache"]
        env = {**environment(Path(home)), "HOME": home}
        for turn in ("fetched", "cached"):
            with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, cwd="/", env=env) as process:
                while device(f"{home}/mnt") is None:
                    assert process.poll() is None, process.communicate()
                    time.sleep(0.02)
                try:
                    assert subprocess.run(["cat", f"{home}/mnt/353"], **user).stdout == site.image(353)
                    folder = f"{home}/mnt/comics/0353-my-approximate-ladder"
                    copied = subprocess.run(["cp", "-r", folder, f"{home}/{turn}"], **user)
                    assert (copied.returncode, copied.stderr) == (0, b"")
                finally:
                    subprocess.run(["fusermount3", "-u", f"{home}/mnt"], check=True, **user)
                assert process.wait(30) == 0
        assert site.requests["/353/info.0.json"] == 1
