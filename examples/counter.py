#!/usr/bin/env python3
"""A live view: `count` holds a number that goes up by itself, and its readers see each change.

    counter.py MOUNTPOINT --period 0.5

The kernel may keep what it has read for good, so that reading the same value again costs no request. Each change is
told it by a notification, and who waits for one in poll(2), for POLLPRI as with the files of sysfs, is woken.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import select
import stat
import sys
import threading

from fastfuse import FOREVER, Attr, Context, DirEntry, Entry, FileInfo, FuseError, Operations, Session, command
from fastfuse.core.calls import PollHandle

ROOT, COUNT = 1, 2
NAME = b"count"


class Counter(Operations):
    """`tick` counts; the one who calls it then tells the kernel."""

    def __init__(self) -> None:
        self.value = 0
        self.lock = threading.Lock()  # over the two below, and a value's reading with them
        self.seen: dict[int, int] = {}  # by each open file
        self.waiting: dict[int, PollHandle] = {}
        self.opens = itertools.count(1)

    def content(self) -> bytes:
        return b"%d\n" % self.value

    def attr(self, ino: int) -> Attr:
        if ino == ROOT:
            return Attr(ino=ROOT, mode=stat.S_IFDIR | 0o755, attr_timeout=FOREVER)
        return Attr(ino=COUNT, mode=stat.S_IFREG | 0o444, size=len(self.content()), attr_timeout=FOREVER)

    def tick(self) -> list[PollHandle]:
        """Count; who waits for that is returned, and is to be woken when the kernel knows."""
        with self.lock:
            self.value += 1
            woken, self.waiting = list(self.waiting.values()), {}
        return woken

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        if name != NAME:
            raise FuseError(errno.ENOENT)
        return Entry(self.attr(COUNT), entry_timeout=FOREVER)

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return self.attr(ino)

    def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> list[DirEntry]:
        return [DirEntry(NAME, 1, ino=COUNT, mode=stat.S_IFREG)][off:]

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.keep_cache = True
        fi.fh = next(self.opens)
        self.seen[fi.fh] = self.value

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        with self.lock:
            self.seen[fi.fh] = self.value
            return self.content()[off : off + size]

    def poll(self, ctx: Context, ino: int, fi: FileInfo, ph: PollHandle | None) -> int:
        with self.lock:
            if ph is not None:
                self.waiting[fi.fh] = ph
            return select.POLLIN | (select.POLLPRI if self.seen[fi.fh] != self.value else 0)

    def release(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        with self.lock:
            self.seen.pop(fi.fh, None)
            self.waiting.pop(fi.fh, None)


def count(session: Session, counter: Counter, period: float) -> None:
    """Count every *period* seconds, until the session ends."""
    while not session.wait(period):
        woken = counter.tick()
        try:
            session.inval_inode(COUNT)
        except FuseError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTCONN):  # nobody has looked at it, or it is over
                raise
        for handle in woken:
            handle.notify()


def main() -> int:
    ours = argparse.ArgumentParser(add_help=False)
    ours.add_argument("--period", type=float, default=1.0, metavar="SECONDS")
    args = command.make_parser(parents=[ours], description="Mount a counter.").parse_args()
    command.log_to_stderr()
    counter = Counter()
    session = Session(counter, args.mountpoint, options=args.options, debug=args.debug)
    with command.until_signalled(session), session:
        threading.Thread(target=count, args=(session, counter, args.period), daemon=True).start()
        session.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
