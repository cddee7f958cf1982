#!/usr/bin/env python3
"""A directory, mounted once more: every operation is passed on to the file system that it is on.

    mirror.py SOURCE MOUNTPOINT -f

The kernel knows a file by an inode number, and this program by an O_PATH descriptor that it keeps until the kernel
forgets the inode: what happens to names meanwhile does not matter. Run by root, it serves all users, the kernel checks
their rights (default_permissions), and new files belong to whoever makes them.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import errno
import fcntl
import itertools
import os
import resource
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastfuse import Attr, Context, DirEntry, Entry, FileInfo, Flock, FuseError, Operations, command

ROOT = 1
TIMEOUT = 1.0  # seconds that the kernel may go without asking what has become of a file

# setattr's to_set: FUSE_SET_ATTR_* of fuse_lowlevel.h
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW = (
    1 << bit for bit in (0, 1, 2, 3, 4, 5, 7, 8)
)
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def check(result: int) -> None:
    """What a function of the C library returned, as an exception if it failed."""
    if result < 0:
        raise FuseError(ctypes.get_errno())


@dataclass
class Node:
    """A file that the kernel knows."""

    ino: int
    fd: int  # O_PATH
    key: tuple[int, int]  # device and inode number where it lives
    nlookup: int = 0

    @property
    def path(self) -> str:
        """A path that leads to the file itself, even if that is a symbolic link."""
        return f"/proc/self/fd/{self.fd}"


@dataclass
class Directory:
    """An open directory: what it listed when it was read from the start."""

    fd: int
    entries: list[DirEntry] = field(default_factory=list)


class Mirror(Operations):
    """The directory *source*."""

    def __init__(self, source: str | os.PathLike[str], *, writeback: bool = False) -> None:
        self.writeback = writeback
        fd = os.open(source, os.O_PATH | os.O_DIRECTORY)
        found = os.fstat(fd)
        self.device = found.st_dev
        root = Node(ROOT, fd, (found.st_dev, found.st_ino), nlookup=1)
        self.nodes = {ROOT: root}
        self.by_key = {root.key: root}
        self.elsewhere = itertools.count(1 << 62)  # inode numbers for other devices
        self.directories: dict[int, Directory] = {}
        self.locked: dict[tuple[int, int], int] = {}  # an fd for the POSIX locks of (ino, lock_owner)
        self.lock = threading.Lock()

    def destroy(self) -> None:
        for fd in [node.fd for node in self.nodes.values()] + list(self.locked.values()):
            os.close(fd)

    # ---- inodes

    def attr(self, node: Node) -> Attr:
        attr = Attr.from_stat(os.fstat(node.fd), attr_timeout=TIMEOUT)
        attr.ino = node.ino
        return attr

    def entry(self, parent: int, name: bytes) -> Entry:
        """What *name* is; one lookup."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.nodes[parent].fd)
        return self.entry_of(fd)

    def entry_of(self, fd: int) -> Entry:
        """The file behind an O_PATH descriptor, which is taken over; one lookup."""
        found = os.fstat(fd)
        key = (found.st_dev, found.st_ino)
        with self.lock:
            node = self.by_key.get(key)
            if node is None:
                ours = found.st_dev == self.device and found.st_ino > ROOT
                node = Node(found.st_ino if ours else next(self.elsewhere), fd, key)
                self.nodes[node.ino] = self.by_key[key] = node
            else:
                os.close(fd)
            node.nlookup += 1
        attr = Attr.from_stat(found, attr_timeout=TIMEOUT)
        attr.ino = node.ino
        return Entry(attr, entry_timeout=TIMEOUT)

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        return self.entry(parent, name)

    def forget(self, ino: int, nlookup: int) -> None:
        with self.lock:
            node = self.nodes[ino]
            node.nlookup -= nlookup
            if node.nlookup == 0:
                del self.nodes[ino], self.by_key[node.key]
                os.close(node.fd)

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        return self.attr(self.nodes[ino])

    def setattr(self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Attr:
        node = self.nodes[ino]
        # The owner first: changing it takes set-user-ID bits away.
        if to_set & (SET_UID | SET_GID):
            os.chown(node.path, attr.uid if to_set & SET_UID else -1, attr.gid if to_set & SET_GID else -1)
        if to_set & SET_MODE:
            os.chmod(node.path, stat.S_IMODE(attr.mode))
        if to_set & SET_SIZE:
            os.truncate(fi.fh if fi else node.path, attr.size)
        if to_set & (SET_ATIME | SET_MTIME):
            times = [
                (0, UTIME_NOW) if to_set & now else divmod(ns, 10**9) if to_set & given else (0, UTIME_OMIT)
                for given, now, ns in (
                    (SET_ATIME, SET_ATIME_NOW, attr.atime_ns),
                    (SET_MTIME, SET_MTIME_NOW, attr.mtime_ns),
                )
            ]
            check(libc.utimensat(AT_FDCWD, node.path.encode(), struct.pack("4q", *times[0], *times[1]), 0))
        return self.attr(node)

    def readlink(self, ctx: Context, ino: int) -> bytes:
        return os.readlink(b"", dir_fd=self.nodes[ino].fd)

    def statfs(self, ctx: Context, ino: int) -> os.statvfs_result:
        return os.statvfs(self.nodes[ino].path)

    # ---- names

    def own(self, ctx: Context, parent: int, fd: int, mode: int) -> None:
        """Give the new file behind *fd* to whoever asked for it, in a set-group-ID directory to its group."""
        made, folder = os.fstat(fd), os.fstat(self.nodes[parent].fd)
        gid = folder.st_gid if folder.st_mode & stat.S_ISGID else ctx.gid
        if (made.st_uid, made.st_gid) != (ctx.uid, gid):
            os.chown(f"/proc/self/fd/{fd}", ctx.uid, gid)
        if not stat.S_ISLNK(made.st_mode):
            mode = stat.S_IMODE(mode) | (made.st_mode & stat.S_ISGID if stat.S_ISDIR(made.st_mode) else 0)
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                os.chmod(f"/proc/self/fd/{fd}", mode)

    def made(self, ctx: Context, parent: int, name: bytes, mode: int) -> Entry:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.nodes[parent].fd)
        self.own(ctx, parent, fd, mode)
        return self.entry_of(fd)

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        os.mknod(name, mode, rdev, dir_fd=self.nodes[parent].fd)
        return self.made(ctx, parent, name, mode)

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Entry:
        os.mkdir(name, mode, dir_fd=self.nodes[parent].fd)
        return self.made(ctx, parent, name, mode)

    def symlink(self, ctx: Context, link: bytes, parent: int, name: bytes) -> Entry:
        os.symlink(link, name, dir_fd=self.nodes[parent].fd)
        return self.made(ctx, parent, name, 0)

    def link(self, ctx: Context, ino: int, newparent: int, newname: bytes) -> Entry:
        os.link(self.nodes[ino].path, newname, dst_dir_fd=self.nodes[newparent].fd, follow_symlinks=True)
        return self.entry(newparent, newname)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> None:
        os.unlink(name, dir_fd=self.nodes[parent].fd)

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> None:
        os.rmdir(name, dir_fd=self.nodes[parent].fd)

    def rename(self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        check(libc.renameat2(self.nodes[parent].fd, name, self.nodes[newparent].fd, newname, flags))

    # ---- files

    def open_flags(self, flags: int) -> int:
        """What the kernel leaves to us: it has seen to O_CREAT, to O_DIRECT, and with its own cache to O_APPEND."""
        flags &= ~(os.O_NOFOLLOW | os.O_DIRECT)
        if self.writeback:
            flags &= ~os.O_APPEND
            if flags & os.O_ACCMODE == os.O_WRONLY:  # it reads to fill pages
                flags = flags & ~os.O_ACCMODE | os.O_RDWR
        return flags

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.fh = os.open(self.nodes[ino].path, self.open_flags(fi.flags))

    def create(self, ctx: Context, parent: int, name: bytes, mode: int, fi: FileInfo) -> Entry:
        flags, folder = self.open_flags(fi.flags), self.nodes[parent].fd
        try:
            fi.fh = os.open(name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder)
            self.own(ctx, parent, fi.fh, mode)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            fi.fh = os.open(name, flags & ~os.O_CREAT | os.O_NOFOLLOW, dir_fd=folder)
        return self.entry_of(os.open(f"/proc/self/fd/{fi.fh}", os.O_PATH))

    def tmpfile(self, ctx: Context, parent: int, mode: int, fi: FileInfo) -> Entry:
        fi.fh = os.open(b".", self.open_flags(fi.flags) | os.O_TMPFILE, mode, dir_fd=self.nodes[parent].fd)
        self.own(ctx, parent, fi.fh, mode)
        return self.entry_of(os.open(f"/proc/self/fd/{fi.fh}", os.O_PATH))

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        return os.pread(fi.fh, size, off)

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        return os.pwrite(fi.fh, buf, off)

    def flush(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        with self.lock:
            fd = self.locked.pop((ino, fi.lock_owner), None)
        if fd is not None:
            os.close(fd)
        os.close(os.dup(fi.fh))

    def release(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        os.close(fi.fh)

    def fsync(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        (os.fdatasync if datasync else os.fsync)(fi.fh)

    def fallocate(self, ctx: Context, ino: int, mode: int, offset: int, length: int, fi: FileInfo) -> None:
        check(libc.fallocate(fi.fh, mode, offset, length))

    def copy_file_range(
        self,
        ctx: Context,
        ino_in: int,
        off_in: int,
        fi_in: FileInfo,
        ino_out: int,
        off_out: int,
        fi_out: FileInfo,
        len: int,
        flags: int,
    ) -> int:
        return os.copy_file_range(fi_in.fh, fi_out.fh, len, off_in, off_out)

    def lseek(self, ctx: Context, ino: int, off: int, whence: int, fi: FileInfo) -> int:
        return os.lseek(fi.fh, off, whence)

    # ---- directories

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.fh = os.open(self.nodes[ino].path, os.O_RDONLY | os.O_DIRECTORY)
        self.directories[fi.fh] = Directory(fi.fh)

    def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        directory = self.directories[fi.fh]
        if off == 0:
            found = [(b".", ino, stat.S_IFDIR), (b"..", 0, stat.S_IFDIR)]
            with os.scandir(directory.fd) as entries:
                found += [(os.fsencode(entry.name), entry.inode(), type_of(entry)) for entry in entries]
            directory.entries = [
                DirEntry(name, at, ino=number, mode=mode) for at, (name, number, mode) in enumerate(found, 1)
            ]
        return directory.entries[off:]

    def readdirplus(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        for listed in self.readdir(ctx, ino, off, fi):
            entry = None
            if listed.name not in (b".", b".."):
                try:
                    entry = self.entry(ino, listed.name)
                except FileNotFoundError:
                    continue
            yield DirEntry(listed.name, listed.off, ino=listed.ino, mode=listed.mode, entry=entry)

    def releasedir(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        del self.directories[fi.fh]
        os.close(fi.fh)

    def fsyncdir(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        (os.fdatasync if datasync else os.fsync)(fi.fh)

    # ---- extended attributes

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int) -> None:
        os.setxattr(self.nodes[ino].path, name, value, flags)

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> bytes:
        return os.getxattr(self.nodes[ino].path, name)

    def listxattr(self, ctx: Context, ino: int) -> Iterable[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self.nodes[ino].path)]

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> None:
        os.removexattr(self.nodes[ino].path, name)

    # ---- locks: each owner's are those of an open file of its own (F_OFD_SETLK of fcntl(2))

    def lock_fd(self, ino: int, owner: int) -> int:
        with self.lock:
            fd = self.locked.get((ino, owner))
            if fd is None:
                try:
                    fd = os.open(self.nodes[ino].path, os.O_RDWR)
                except OSError:
                    fd = os.open(self.nodes[ino].path, os.O_RDONLY)
                self.locked[ino, owner] = fd
            return fd

    def getlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock) -> Flock:
        answer = fcntl.fcntl(self.lock_fd(ino, fi.lock_owner), fcntl.F_OFD_GETLK, packed(lock))
        kind, _, start, length, _ = struct.unpack("hhqqi4x", answer)
        return Flock(l_type=kind, l_start=start, l_len=length)

    async def setlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock, sleep: bool) -> None:
        fd = self.lock_fd(ino, fi.lock_owner)
        await until_free(lambda: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, packed(lock)), sleep)

    async def flock(self, ctx: Context, ino: int, fi: FileInfo, op: int) -> None:
        await until_free(lambda: fcntl.flock(fi.fh, op | fcntl.LOCK_NB), not op & fcntl.LOCK_NB)


def packed(lock: Flock) -> bytes:
    """struct flock."""
    return struct.pack("hhqqi4x", lock.l_type, os.SEEK_SET, lock.l_start, lock.l_len, 0)


async def until_free(take: Callable[[], object], wait: bool) -> None:
    """Take a lock; if *wait*, try until it is free: a thread that waits inside the kernel could not be interrupted."""
    pause = 0.001
    while True:
        try:
            take()
            return
        except (BlockingIOError, PermissionError):
            if not wait:
                raise FuseError(errno.EAGAIN) from None
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)


def type_of(entry: os.DirEntry[str]) -> int:
    """The type bits of a listed file's mode, as far as they cost no system call."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def main() -> int:
    ours = argparse.ArgumentParser(add_help=False)
    ours.add_argument("source", help="the directory")
    ours.add_argument("--writeback", action="store_true", help="let the kernel gather writes")
    args = command.make_parser(parents=[ours], description="Mount a directory once more.").parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0)  # the kernel has applied the caller's
    options = ["default_permissions", "subtype=mirror", *["allow_other"] * (os.geteuid() == 0)]
    want = {"writeback_cache"} if args.writeback else set()
    return command.serve(Mirror(args.source, writeback=args.writeback), args, options=options, want=want)


if __name__ == "__main__":
    sys.exit(main())
