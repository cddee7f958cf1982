"""What tests ask of programs that use a mount, and of the library below it."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def shell(root: Path, line: str) -> str:
    """What a shell prints, its directory the mount."""
    done = subprocess.run(line, shell=True, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


def errno_of(call: Callable[..., Any], *args: Any) -> str | None:
    """The name of the errno that a call fails with."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def libfuse_version() -> int:
    """As fuse_version(3): 314 is 3.14."""
    for name in ("libfuse3.so.3", "libfuse3.so.4"):
        try:
            version: int = ctypes.CDLL(name).fuse_version()
            return version
        except OSError:
            continue
    raise RuntimeError("no libfuse3")


def wait_until_gone(mountpoint: Path) -> None:
    """Until nothing is mounted there any more."""
    deadline = time.monotonic() + 20
    while os.path.ismount(mountpoint):
        assert time.monotonic() < deadline, "still mounted"
        time.sleep(0.01)
