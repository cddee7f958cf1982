#!/usr/bin/env python3
"""Live statistics as files, as in /proc: proc_stats.py MOUNTPOINT -f

MOUNTPOINT/load, uptime, memory.json      read anew each time
MOUNTPOINT/clock                          a line a second, for as long as somebody reads
MOUNTPOINT/users/NAME/PID/command         the processes of each user
MOUNTPOINT/interval                       seconds between two lines of clock, also to write
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fastfuse import FileSystem

PROC = Path("/proc")

fs = FileSystem(ttl=0)


@fs.read("/load")
def load() -> str:
    return "{:.2f} {:.2f} {:.2f}\n".format(*os.getloadavg())


@fs.read("/uptime")
def uptime() -> str:
    return f"{time.clock_gettime(time.CLOCK_BOOTTIME):.0f}\n"


@fs.read("/memory.json")
def memory() -> str:
    lines = (line.split() for line in (PROC / "meminfo").read_text().splitlines())
    return json.dumps({name.rstrip(":"): int(value) * 1024 for name, value, *_ in lines}, indent=2) + "\n"


@fs.file("/interval")
class Interval:
    seconds = 1.0

    def read(self) -> str:
        return f"{Interval.seconds:g}\n"

    def write(self, text: str) -> None:
        Interval.seconds = max(0.01, float(text))


@fs.read("/clock")
async def clock() -> AsyncIterator[str]:
    while True:
        yield time.strftime("%H:%M:%S\n")
        await asyncio.sleep(Interval.seconds)


def processes(user: str) -> Iterator[str]:
    uid = pwd.getpwnam(user).pw_uid
    for entry in os.scandir(PROC):
        try:
            if entry.name.isdecimal() and entry.stat().st_uid == uid:
                yield entry.name
        except FileNotFoundError:
            pass  # it has just ended


def check(user: str, pid: int | None = None) -> None:
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        raise FileNotFoundError(user) from None
    if pid is not None and (PROC / str(pid)).stat().st_uid != uid:
        raise FileNotFoundError(pid)


@fs.list("/users", ttl=1)
def users() -> set[str]:
    found = set()
    for entry in os.scandir(PROC):
        try:
            if entry.name.isdecimal():
                found.add(pwd.getpwuid(entry.stat().st_uid).pw_name)
        except (FileNotFoundError, KeyError):
            pass
    return found


@fs.list("/users/:user", ttl=1)
def pids(user: str) -> list[str]:
    check(user)
    return list(processes(user))


@fs.stat("/users/:user/:pid<int>", ttl=1)
def process(user: str, pid: int) -> None:
    check(user, pid)


@fs.read("/users/:user/:pid<int>/command")
def command(user: str, pid: int) -> bytes:
    check(user, pid)
    return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").strip() + b"\n"


if __name__ == "__main__":
    fs.run()
