"""Who only looks at a file, and who is going to read it."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import islice

__all__ = ["Lookers"]

#: Programs that look into each file that they come across, for an icon, a thumbnail or an index: by
#: what proc_pid_comm(5) has of their names.
BROWSERS = re.compile(
    r"nautilus|nemo|caja|thunar|tumblerd|pcmanfm|dolphin|konqueror|kio_?(slave|worker|thumbnail)|spacefm|pantheon-files"
    r"|io\.elementary|cosmic-files|gdk-pixbuf-thum|glycin|ffmpegthumbnai|totem-video-th|evince-thumbnai"
    r"|tracker-|localsearch|baloo_file|recollindex",
    re.IGNORECASE,
)


PICTURES = 32


class Budget:
    """At most *most* in *period* seconds. Thread-safe."""

    def __init__(self, most: int, period: float) -> None:
        self._period = period
        self._lock = threading.Lock()
        self._granted = deque([float("-inf")] * most, most)

    def is_spent(self) -> bool:
        """Whether there is none left just now."""
        return time.monotonic() - self._granted[0] < self._period

    def take(self) -> bool:
        """Take one, if there is one left."""
        with self._lock:
            if self.is_spent():
                return False
            self._granted.append(time.monotonic())
            return True


class Lookers:
    """Tells programs that want one file, and believe its size when they read, from those that go
    through a directory, and those that read it from those that look into everything. Only the former
    are worth requests without end. Thread-safe."""

    def __init__(self) -> None:
        self._sizes = Budget(8, 10.0)
        self._pictures = Budget(PICTURES, 60.0)
        self._looked_into: deque[int] = deque(maxlen=PICTURES)  # by more than one thread at a time
        self._mounts: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._lister: tuple[int, float] = (0, 0.0)

    def only_wants(self, pid: int) -> bool:
        """Whether *pid* is to get an exact size, at the cost of a request."""
        known, until = self._lister
        if self._sizes.is_spent() or (pid == known and time.monotonic() < until):
            return False
        if self._browses(pid) or self._lists(pid):  # which takes a while, and who does asks often
            self._lister = pid, time.monotonic() + 0.1
            return False
        return self._sizes.take()

    def only_looks(self, pid: int, number: int) -> bool:
        """Whether *pid* is a file manager or the like, which has looked into enough for now and is
        to do without picture *number*."""
        if number in self._looked_into or not self._browses(pid):
            return False
        if not self._pictures.take():
            return True
        self._looked_into.append(number)
        return False

    def _browses(self, pid: int) -> bool:
        with suppress(OSError, KeyError, ValueError):  # it has ended
            # What asks is a thread, which may have a name of its own.
            status = dict(line.split(":\t", 1) for line in _lines(f"/proc/{pid}/status") if ":\t" in line)
            return BROWSERS.match(_lines(f"/proc/{int(status['Tgid'])}/comm")[0]) is not None
        return False

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
