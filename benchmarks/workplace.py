"""Where the measuring happens: the compiled C programs, the trees, the mounts, and their end."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .catalog import DISK, ROOT, TMPFS, Server

HERE = Path(__file__).parent
START_SECONDS = 60.0
LOAD_SECONDS = 100.0
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Settings:
    """How much is measured: *big_mib* MiB in one file, *files* in each directory, *nodes* in the
    large tree, *seconds* for each rate over time, *rounds* of every server in turn."""

    big_mib: int = 256
    files: int = 3000
    nodes: int = 1_000_000
    seconds: float = 0.3
    rounds: int = 5


QUICK = Settings(big_mib=32, files=300, nodes=30_000, seconds=0.1, rounds=1)


@dataclass
class Running:
    """A server that serves: its mount (or plain directory), process and facts about its tree."""

    path: Path
    process: subprocess.Popen[str] | None = None
    facts: dict[str, float] | None = None

    def resident(self) -> int:
        """Bytes of memory that the server holds, those of its memfds included."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = {name: int(n) for name, n in re.findall(r"^Rss(\w+):\s+(\d+) kB", status, re.M)}
        memfds = {}
        for fd in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed just now
                if os.readlink(fd).startswith("/memfd:"):
                    st = fd.stat()
                    memfds[st.st_ino] = st.st_blocks * 512
        # A memfd's pages count as shared memory too, as far as the process has mapped them.
        return 1024 * (kib["Anon"] + kib["File"]) + max(1024 * kib["Shmem"], sum(memfds.values()))


class Workplace:
    """Made once; close() ends every server, unmounts and removes everything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        shm = "/dev/shm" if os.path.ismount("/dev/shm") else None
        self.build = Path(tempfile.mkdtemp(prefix="fastfuse-bench-"))
        self._tmpfs = Path(tempfile.mkdtemp(prefix="fastfuse-bench-", dir=shm))
        self.disk = self.build / "disk"
        self.tree = self._tmpfs / "tree"
        self._count = 0
        self._live: list[tuple[Path, subprocess.Popen[str]]] = []
        try:
            self._compile("load")
            self._compile("cserver", "fuse3")
            for tree in (self.tree, self.disk):
                tree.mkdir()
                subprocess.run([*self._load_command(), "make", tree], check=True)
            os.sync()
        except BaseException:
            self.close()
            raise

    def _compile(self, name: str, *packages: str) -> None:
        flags = []
        if packages:
            command = ["pkg-config", "--cflags", "--libs", *packages]
            flags = subprocess.check_output(command, text=True).split()
        source, target = HERE / f"{name}.c", self.build / name
        warnings = ["-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", "-O2", *warnings, "-o", target, source, *flags, "-pthread"], check=True)

    def close(self) -> None:
        for mountpoint, process in list(self._live):
            self._stop(mountpoint, process)
        left = [path for path in _mountpoints() if path.startswith(f"{self.build}/")]
        if left:  # what is mounted must not be removed as files
            raise RuntimeError(f"still mounted: {left}")
        shutil.rmtree(self._tmpfs)
        shutil.rmtree(self.build)

    @contextmanager
    def running(self, server: Server, source: str = "", busy: str = "") -> Iterator[Running]:
        """Start *server* over *source* (the common tree unless named), mounted; stop it at the end.

        Raises RuntimeError with what the server wrote when it does not come up.
        """
        if not server.command:
            if server is DISK and may_drop_caches():
                DROP_CACHES.write_text("3")
            yield Running({TMPFS: self.tree, DISK: self.disk}[server])
            return
        self._count += 1
        mountpoint = self.build / f"mount{self._count}"
        mountpoint.mkdir()
        command = [part.format(build=self.build) for part in server.command]
        with open(self.build / f"log{self._count}", "w+") as log:
            process = subprocess.Popen(
                [*command, *server.busy.get(busy, ()), source or str(self.tree), str(mountpoint)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            self._live.append((mountpoint, process))
            try:
                facts = self._wait_ready(process, mountpoint)
                if facts is None:
                    process.kill()
                    process.wait()
                    log.seek(0)
                    raise RuntimeError(f"{server.name} did not come up: {log.read()[-2000:]}")
                yield Running(mountpoint, process, facts)
            finally:
                self._stop(mountpoint, process)

    def _wait_ready(self, process: subprocess.Popen[str], mountpoint: Path) -> dict[str, float] | None:
        """The facts that the server printed, once it is mounted; None if it ended or hangs."""
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(START_SECONDS) else ""
        end = time.monotonic() + START_SECONDS
        while line and process.poll() is None and time.monotonic() < end:
            # Not os.path.ismount: a stat of a mount that does not answer never returns.
            if str(mountpoint) in _mountpoints():
                facts: dict[str, float] = json.loads(line)
                return facts
            time.sleep(0.01)
        return None

    def _stop(self, mountpoint: Path, process: subprocess.Popen[str]) -> None:
        if str(mountpoint) in _mountpoints():
            subprocess.run(["fusermount3", "-uz", mountpoint])
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        self._live.remove((mountpoint, process))

    def load(self, running: Running, metrics: tuple[str, ...], *, nodes: int = 0, sleepers: int = 0) -> dict[str, Any]:
        """What load.c prints about each of *metrics*, measured through *running*."""
        command = [*self._load_command(nodes), "-w", str(sleepers), "run", running.path, *metrics]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            output = process.communicate(timeout=LOAD_SECONDS)[0]
        except BaseException:
            # A request that nobody answers cannot be killed before its server has been.
            if running.process:
                running.process.kill()
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise RuntimeError(f"load ended with {process.returncode}")
        results: dict[str, Any] = json.loads(output)
        return results

    def _load_command(self, nodes: int = 0) -> list[str | Path]:
        s = self.settings
        options = {"-b": s.big_mib, "-f": s.files, "-t": s.seconds, "-n": nodes}
        return [self.build / "load", *(str(x) for pair in options.items() for x in pair)]


def may_drop_caches() -> bool:
    """Whether the disk can be made cold.  The other servers need no such thing: each mount is new."""
    return os.access(DROP_CACHES, os.W_OK)


def _mountpoints() -> set[str]:
    with open("/proc/self/mountinfo") as file:
        return {line.split()[4] for line in file}
