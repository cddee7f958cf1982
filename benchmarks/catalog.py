"""The servers that are measured, each in the rows' order of the report."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""Where the servers' modules, and fastfuse itself, are imported from."""


@dataclass(frozen=True)
class Server:
    """A file system to measure: *command* SOURCE MOUNTPOINT serves it; none is a plain directory.

    *busy* says which arguments make the server's own process busy in which way.  *without* are the
    metrics that make no sense for it.  *strict* servers have to give every other result; a peer
    that fails in one is shown with its failure.
    """

    name: str
    family: str
    command: tuple[str, ...] = ()
    busy: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    without: frozenset[str] = frozenset()
    privileged: bool = False
    strict: bool = True


def python_server(module: str, mode: str, name: str, family: str = "peer") -> Server:
    return Server(
        name,
        family,
        (sys.executable, "-m", f"benchmarks.servers.{module}", "--mode", mode),
        {"computing": ("--busy", "computing"), "gil": ("--busy", "gil"), "sleepers": ()},
        # fastfuse's immutable is what it says; the C server's is for reading only by habit.
        without=frozenset({"write 128K"} if (module, mode) == ("fastfuse", "immutable") else ()),
        privileged=mode == "passthrough",
        strict=family != "peer",
    )


def c_server(mode: str) -> Server:
    return Server(
        f"C {mode}",
        "C",
        ("{build}/cserver", "-m", mode),
        {"computing": ("-b",)},
        privileged=mode == "passthrough",
    )


TMPFS = Server("tmpfs", "native")
DISK = Server("disk", "native")
C = {mode: c_server(mode) for mode in ("keep_cache", "nocache", "immutable", "passthrough")}
FASTFUSE = {
    mode: python_server("fastfuse", mode, f"fastfuse {mode}", "fastfuse")
    for mode in ("keep_cache", "immutable", "passthrough", "handlers")
}
PEERS = (
    python_server("pyfuse3", "default", "pyfuse3"),
    python_server("mfusepy", "default", "mfusepy"),
    python_server("mfusepy", "kernel_cache", "mfusepy kernel_cache"),
    python_server("fusepy", "default", "fusepy"),
    python_server("mafs", "default", "mafs"),
)
XKCDFS = Server("xkcdfs", "fastfuse", (sys.executable, "-m", "benchmarks.servers.xkcdfs"))
SERVERS = (TMPFS, DISK, *C.values(), *FASTFUSE.values(), *PEERS)
"""Those that serve the common tree."""
ALL = (*SERVERS, XKCDFS)


@functools.cache
def probe(server: Server) -> tuple[str, str]:
    """(version, "") of a server that can run here, or ("", reason)."""
    if server.command and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "", "/dev/fuse cannot be opened"
    if server.privileged and os.geteuid() != 0:
        return "", "needs CAP_SYS_ADMIN"
    if server.command[:1] != (sys.executable,):
        return "-", ""
    result = subprocess.run([*server.command, "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if result.returncode:
        return "", (result.stderr.strip().splitlines() or ["no reason given"])[-1]
    return result.stdout.strip(), ""
