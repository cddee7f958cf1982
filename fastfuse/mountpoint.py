"""The mount point: what it must be, a dead mount cleaned up, the kernel's read-ahead for it."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess

from fastfuse.errors import FuseError

log = logging.getLogger("fastfuse")

OPTIONS = frozenset(
    [
        *("allow_other", "allow_root", "auto_unmount", "blkdev", "default_permissions"),
        *("ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "async", "sync", "dirsync"),
        *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"),
    ]
)
OPTIONS_WITH_VALUE = frozenset(["fsname", "subtype", "max_read"])


class MountError(FuseError):
    """A mount that cannot be: says where and why."""


def check_options(options: list[str]) -> None:
    """Every option must be one that libfuse or mount(2) takes. Raises ValueError naming it."""
    for option in options:
        name, equals, value = option.partition("=")
        if name in OPTIONS and not equals:
            continue
        if name in OPTIONS_WITH_VALUE and value:
            if "," in value:
                raise ValueError(f"mount option {option!r}: a value cannot contain a comma")
            continue
        if name in OPTIONS | OPTIONS_WITH_VALUE:
            raise ValueError(f"mount option {option!r}: {'takes no value' if name in OPTIONS else 'needs a value'}")
        known = " ".join(sorted(OPTIONS | {f"{name}=" for name in OPTIONS_WITH_VALUE}))
        raise ValueError(f"unknown mount option {option!r}; known are: {known}")


def prepare(mountpoint: str) -> str:
    """The real path of an empty directory to mount on; a dead mount there is unmounted first. Raises MountError."""
    try:
        os.statvfs(mountpoint)  # never answered from a cache, so it finds a dead mount out
        names = os.listdir(mountpoint)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise MountError(error.errno or errno.EIO, f"mountpoint {mountpoint}: {error.strerror}") from None
        log.warning("%s: unmounting what a crashed file system left there", mountpoint)
        unmount(mountpoint)
        return prepare(mountpoint)
    if names:
        raise MountError(errno.ENOTEMPTY, f"mountpoint {mountpoint}: Directory not empty")
    return os.path.realpath(mountpoint)


def unmount(mountpoint: str) -> None:
    """Detach a mount from outside, with fusermount3 -u -z. Raises MountError."""
    try:
        done = subprocess.run(
            ["fusermount3", "-u", "-z", "--", mountpoint], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountError(errno.EIO, f"cannot unmount {mountpoint}: {error}") from None
    if done.returncode:
        raise MountError(errno.EIO, f"cannot unmount {mountpoint}: {done.stderr.strip()}")


def device(mountpoint: str) -> str | None:
    """major:minor of what is mounted there, from proc_pid_mountinfo(5), without a request to it."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            words = line.split(" ")
            where = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4])
            if where == mountpoint:
                found = words[2]
    return found


def set_read_ahead(mountpoint: str, size: int) -> bool:
    """Let the kernel read ahead *size* bytes: it caps what INIT may ask at 128 KiB, but not what root writes."""
    number = device(mountpoint)
    try:
        with open(f"/sys/class/bdi/{number}/read_ahead_kb", "w", encoding="ascii") as setting:
            setting.write(str(size // 1024))
    except OSError:
        return False
    return True
