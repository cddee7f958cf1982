"""Who only looks at a file, and who is going to read it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import islice

__all__ = ["Lookers"]


class Lookers:
    """Tells programs that ask for one file's size, and believe it when they read, from those that
    go through a directory. Only the former are worth a request; of these too there are no more than
    *most* in *period* seconds. Thread-safe."""

    def __init__(self, most: int = 8, period: float = 10.0) -> None:
        self._period = period
        self._lock = threading.Lock()
        self._granted = deque([float("-inf")] * most, most)
        self._mounts: tuple[float, frozenset[str]] = (float("-inf"), frozenset())

    def only_wants(self, pid: int) -> bool:
        """Whether *pid* is to get an exact size, at the cost of a request."""
        if self._is_too_soon() or self._lists(pid):  # the second takes a while
            return False
        with self._lock:
            if self._is_too_soon():
                return False
            self._granted.append(time.monotonic())
            return True

    def _is_too_soon(self) -> bool:
        return time.monotonic() - self._granted[0] < self._period

    def _lists(self, pid: int) -> bool:
        """Whether the process has a directory of a FUSE mount open: ls, find, du, tree, tar, rsync
        and file managers have, while they ask for attributes. Source: proc_pid_fdinfo(5)."""
        mounts = self._fuse_mounts()
        with suppress(OSError):  # it has ended, or is another user's
            # In the order of their numbers: a large program must not cost us more than a small one.
            for entry in islice(os.scandir(f"/proc/{pid}/fdinfo"), 64):
                with suppress(OSError, ValueError, KeyError):
                    told = dict(line.split(":\t", 1) for line in _lines(entry.path))
                    if int(told["flags"], 8) & os.O_DIRECTORY and told["mnt_id"] in mounts:
                        return True
        return False

    def _fuse_mounts(self) -> frozenset[str]:
        at, mounts = self._mounts
        if time.monotonic() > at + 5:
            with suppress(OSError):
                lines = _lines("/proc/self/mountinfo")
                mounts = frozenset(line.split(" ")[0] for line in lines if " - fuse." in line)
            self._mounts = time.monotonic(), mounts
        return mounts


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()
