#!/usr/bin/env python3
"""A file system in memory: everything that POSIX asks of one, gone when it is unmounted.

    memory.py MOUNTPOINT -f

Only the kernel changes it, so the kernel may believe what it knows for good. Rights are the kernel's to check
(default_permissions), and so are locks, which it keeps itself where no handler does.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fastfuse import FOREVER, Attr, Context, DirEntry, Entry, FileInfo, FuseError, Operations, StatVFS, command

ROOT = 1
BLOCK = 1 << 16  # bytes; a hole is as many of these as nobody has written to
NAME_MAX = 255

# setattr's to_set: FUSE_SET_ATTR_* of fuse_lowlevel.h
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_ATIME_NOW, SET_MTIME_NOW, SET_CTIME = (
    1 << bit for bit in (0, 1, 2, 3, 4, 5, 7, 8, 10)
)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
XATTR_CREATE, XATTR_REPLACE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16  # fallocate(2)


@dataclass
class Room:
    """The blocks that are left."""

    free: int

    def take(self, blocks: int) -> None:
        if blocks > self.free:
            raise FuseError(errno.ENOSPC)
        self.free -= blocks


class Data:
    """The bytes of a file, with holes."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.size = 0
        self.blocks: dict[int, bytearray] = {}

    @staticmethod
    def spans(off: int, length: int) -> Iterator[tuple[int, int, int]]:
        """(block, start, stop) for each block that the range touches."""
        end = off + length
        while off < end:
            block, start = divmod(off, BLOCK)
            stop = min(BLOCK, start + end - off)
            yield block, start, stop
            off += stop - start

    def read(self, off: int, size: int) -> bytes:
        size = min(size, self.size - off)
        return b"".join(
            self.blocks[block][start:stop] if block in self.blocks else bytes(stop - start)
            for block, start, stop in self.spans(off, size)
        )

    def write(self, off: int, buf: memoryview) -> None:
        self.allocate(off, len(buf))
        done = 0
        for block, start, stop in self.spans(off, len(buf)):
            self.blocks[block][start:stop] = buf[done : done + stop - start]
            done += stop - start
        self.size = max(self.size, off + len(buf))

    def allocate(self, off: int, length: int) -> None:
        missing = [block for block, _, _ in self.spans(off, length) if block not in self.blocks]
        self.room.take(len(missing))
        self.blocks.update((block, bytearray(BLOCK)) for block in missing)

    def drop(self, block: int) -> None:
        if self.blocks.pop(block, None) is not None:
            self.room.free += 1

    def zero(self, off: int, length: int) -> None:
        for block, start, stop in self.spans(off, length):
            if stop - start == BLOCK:
                self.drop(block)
            elif block in self.blocks:
                self.blocks[block][start:stop] = bytes(stop - start)

    def truncate(self, size: int) -> None:
        if size < self.size:
            for block in [block for block in self.blocks if block * BLOCK >= size]:
                self.drop(block)
            self.zero(size, -size % BLOCK)
        self.size = size

    def seek(self, off: int, whence: int) -> int:
        """The first byte from *off* on that is data (SEEK_DATA) or in a hole (SEEK_HOLE); the end is a hole."""
        if not 0 <= off < self.size:
            raise FuseError(errno.ENXIO)
        for block in range(off // BLOCK, (self.size + BLOCK - 1) // BLOCK):
            if (block in self.blocks) == (whence == os.SEEK_DATA):
                return max(off, block * BLOCK)
        if whence == os.SEEK_DATA:
            raise FuseError(errno.ENXIO)
        return self.size


@dataclass
class Node:
    """A file of any type."""

    ino: int
    mode: int
    uid: int
    gid: int
    data: Data
    rdev: int = 0
    nlink: int = 1
    nlookup: int = 0
    parent: int = 0  # of a directory
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    target: bytes = b""
    children: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # name: (cookie, ino), cookies ascending
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    def attr(self) -> Attr:
        size = len(self.target) if stat.S_ISLNK(self.mode) else self.data.size
        return Attr(
            ino=self.ino,
            mode=self.mode,
            nlink=self.nlink,
            size=size,
            blocks=len(self.data.blocks) * BLOCK // 512,
            uid=self.uid,
            gid=self.gid,
            rdev=self.rdev,
            atime_ns=self.atime_ns,
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
            attr_timeout=FOREVER,
        )

    def changed(self, *, content: bool = False) -> None:
        self.ctime_ns = time.time_ns()
        if content:
            self.mtime_ns = self.ctime_ns


class Memory(Operations):
    """An empty file system that holds *size* bytes of file contents."""

    def __init__(self, size: int = 1 << 30) -> None:
        self.blocks = size // BLOCK
        self.room = Room(self.blocks)
        self.inos = itertools.count(ROOT)
        self.cookies = itertools.count(3)  # 1 and 2 are "." and ".."
        self.nodes: dict[int, Node] = {}
        self.lock = threading.RLock()  # over every handler: each takes microseconds
        root = self.new(stat.S_IFDIR | 0o755, os.getuid(), os.getgid())
        root.parent, root.nlink, root.nlookup = root.ino, 2, 1

    # ---- inodes

    def new(self, mode: int, uid: int, gid: int) -> Node:
        node = Node(next(self.inos), mode, uid, gid, Data(self.room))
        node.atime_ns = node.mtime_ns = node.ctime_ns = time.time_ns()
        self.nodes[node.ino] = node
        return node

    def looked_up(self, node: Node) -> Entry:
        node.nlookup += 1
        return Entry(node.attr(), entry_timeout=FOREVER)

    def child(self, parent: int, name: bytes) -> Node:
        try:
            return self.nodes[self.nodes[parent].children[name][1]]
        except KeyError:
            raise FuseError(errno.ENAMETOOLONG if len(name) > NAME_MAX else errno.ENOENT) from None

    def add(self, parent: Node, name: bytes, node: Node) -> None:
        """Put *node* there under a name that is free."""
        parent.children[name] = (next(self.cookies), node.ino)
        if stat.S_ISDIR(node.mode):
            node.parent = parent.ino
            parent.nlink += 1
        parent.changed(content=True)

    def remove(self, parent: Node, name: bytes) -> Node:
        """Take the name away; what it named has as many links as before."""
        node = self.nodes[parent.children.pop(name)[1]]
        if stat.S_ISDIR(node.mode):
            parent.nlink -= 1
        parent.changed(content=True)
        return node

    def unlinked(self, node: Node) -> None:
        """One link less: the file goes when the kernel forgets it."""
        node.nlink = 0 if stat.S_ISDIR(node.mode) else node.nlink - 1
        node.changed()

    def make(self, ctx: Context, parent: int, name: bytes, mode: int) -> Node:
        if len(name) > NAME_MAX:
            raise FuseError(errno.ENAMETOOLONG)
        folder = self.nodes[parent]
        if folder.nlink == 0:
            raise FuseError(errno.ENOENT)
        if name in folder.children:
            raise FuseError(errno.EEXIST)
        node = self.new(mode, ctx.uid, ctx.gid)
        if folder.mode & stat.S_ISGID:
            node.gid = folder.gid
            if stat.S_ISDIR(mode):
                node.mode |= stat.S_ISGID
        if stat.S_ISDIR(mode):
            node.nlink = 2
        self.add(folder, name, node)
        return node

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Entry:
        with self.lock:
            return self.looked_up(self.child(parent, name))

    def forget(self, ino: int, nlookup: int) -> None:
        with self.lock:
            node = self.nodes[ino]
            node.nlookup -= nlookup
            if node.nlookup == 0 and node.nlink == 0:
                node.data.truncate(0)
                del self.nodes[ino]

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Attr:
        with self.lock:
            return self.nodes[ino].attr()

    def setattr(self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Attr:
        with self.lock:
            node = self.nodes[ino]
            node.changed(content=bool(to_set & SET_SIZE))
            if to_set & SET_MODE:
                node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(attr.mode)
            if to_set & SET_UID:
                node.uid = attr.uid
            if to_set & SET_GID:
                node.gid = attr.gid
            if to_set & SET_SIZE:
                node.data.truncate(attr.size)
            if to_set & SET_ATIME:
                node.atime_ns = node.ctime_ns if to_set & SET_ATIME_NOW else attr.atime_ns
            if to_set & SET_MTIME:
                node.mtime_ns = node.ctime_ns if to_set & SET_MTIME_NOW else attr.mtime_ns
            if to_set & SET_CTIME:
                node.ctime_ns = attr.ctime_ns
            return node.attr()

    def readlink(self, ctx: Context, ino: int) -> bytes:
        return self.nodes[ino].target

    def statfs(self, ctx: Context, ino: int) -> StatVFS:
        free = self.room.free
        return StatVFS(
            f_bsize=BLOCK,
            f_frsize=BLOCK,
            f_blocks=self.blocks,
            f_bfree=free,
            f_bavail=free,
            f_files=len(self.nodes),
            f_namemax=NAME_MAX,
        )

    # ---- names

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        with self.lock:
            node = self.make(ctx, parent, name, mode)
            node.rdev = rdev
            return self.looked_up(node)

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Entry:
        with self.lock:
            return self.looked_up(self.make(ctx, parent, name, stat.S_IFDIR | mode))

    def symlink(self, ctx: Context, link: bytes, parent: int, name: bytes) -> Entry:
        with self.lock:
            node = self.make(ctx, parent, name, stat.S_IFLNK | 0o777)
            node.target = link
            return self.looked_up(node)

    def link(self, ctx: Context, ino: int, newparent: int, newname: bytes) -> Entry:
        with self.lock:
            if len(newname) > NAME_MAX:
                raise FuseError(errno.ENAMETOOLONG)
            node = self.nodes[ino]
            self.add(self.nodes[newparent], newname, node)
            node.nlink += 1
            node.changed()
            return self.looked_up(node)

    def unlink(self, ctx: Context, parent: int, name: bytes) -> None:
        with self.lock:
            self.child(parent, name)
            self.unlinked(self.remove(self.nodes[parent], name))

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> None:
        with self.lock:
            if self.child(parent, name).children:
                raise FuseError(errno.ENOTEMPTY)
            self.unlinked(self.remove(self.nodes[parent], name))

    def rename(self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int) -> None:
        with self.lock:
            source, target = self.nodes[parent], self.nodes[newparent]
            moved = self.child(parent, name)
            there = self.nodes[target.children[newname][1]] if newname in target.children else None
            if len(newname) > NAME_MAX:
                raise FuseError(errno.ENAMETOOLONG)
            if flags & RENAME_NOREPLACE and there:
                raise FuseError(errno.EEXIST)
            if flags & RENAME_EXCHANGE and not there:
                raise FuseError(errno.ENOENT)
            if there and there.children and not flags & RENAME_EXCHANGE:
                raise FuseError(errno.ENOTEMPTY)
            self.remove(source, name)
            if there:
                self.remove(target, newname)
                if flags & RENAME_EXCHANGE:
                    self.add(source, name, there)
                    there.changed()
                else:
                    self.unlinked(there)
            self.add(target, newname, moved)
            moved.changed()

    # ---- files

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        if fi.flags & os.O_TRUNC:
            with self.lock:
                self.nodes[ino].data.truncate(0)
                self.nodes[ino].changed(content=True)
        fi.keep_cache = True

    def create(self, ctx: Context, parent: int, name: bytes, mode: int, fi: FileInfo) -> Entry:
        fi.keep_cache = True
        return self.mknod(ctx, parent, name, mode, 0)

    def tmpfile(self, ctx: Context, parent: int, mode: int, fi: FileInfo) -> Entry:
        with self.lock:
            node = self.new(mode, ctx.uid, ctx.gid)
            node.nlink = 0
            return self.looked_up(node)

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> bytes:
        with self.lock:
            node = self.nodes[ino]
            if node.atime_ns <= node.mtime_ns:  # as with relatime: once after each change
                node.atime_ns = time.time_ns()
            return node.data.read(off, size)

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> int:
        with self.lock:
            node = self.nodes[ino]
            node.data.write(off, buf)
            if not fi.writepage:  # when it was written the kernel's cache knows, and says
                node.changed(content=True)
            return len(buf)

    def fsync(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        """Nothing is more stable than it is."""

    def fsyncdir(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> None:
        """Likewise."""

    def fallocate(self, ctx: Context, ino: int, mode: int, offset: int, length: int, fi: FileInfo) -> None:
        with self.lock:
            node = self.nodes[ino]
            if mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE):
                raise FuseError(errno.EOPNOTSUPP)
            if mode & (PUNCH_HOLE | ZERO_RANGE):
                node.data.zero(offset, length)
            if not mode & PUNCH_HOLE:
                node.data.allocate(offset, length)
            if not mode & KEEP_SIZE:
                node.data.size = max(node.data.size, offset + length)
            node.changed(content=True)

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
        with self.lock:
            copied = self.nodes[ino_in].data.read(off_in, min(len, 64 * BLOCK))
            return self.write(ctx, ino_out, memoryview(copied), off_out, fi_out)

    def lseek(self, ctx: Context, ino: int, off: int, whence: int, fi: FileInfo) -> int:
        with self.lock:
            return self.nodes[ino].data.seek(off, whence)

    # ---- directories

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> None:
        fi.cache_readdir = fi.keep_cache = True

    def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        with self.lock:
            node = self.nodes[ino]
            dots = {b".": (1, ino), b"..": (2, node.parent)}
            return [
                DirEntry(name, cookie, ino=child, mode=self.nodes[child].mode if child in self.nodes else stat.S_IFDIR)
                for name, (cookie, child) in (*dots.items(), *node.children.items())
                if cookie > off
            ]

    def readdirplus(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Iterable[DirEntry]:
        for listed in self.readdir(ctx, ino, off, fi):
            if listed.name not in (b".", b".."):
                with self.lock:
                    if listed.ino not in self.nodes:
                        continue
                    listed.entry = self.looked_up(self.nodes[listed.ino])
            yield listed

    # ---- extended attributes

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int) -> None:
        with self.lock:
            node = self.nodes[ino]
            if name.startswith(b"system."):
                raise FuseError(errno.EOPNOTSUPP)
            if flags & XATTR_CREATE and name in node.xattrs:
                raise FuseError(errno.EEXIST)
            if flags & XATTR_REPLACE and name not in node.xattrs:
                raise FuseError(errno.ENODATA)
            node.xattrs[name] = value
            node.changed()

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> bytes:
        with self.lock:
            try:
                return self.nodes[ino].xattrs[name]
            except KeyError:
                raise FuseError(errno.ENODATA) from None

    def listxattr(self, ctx: Context, ino: int) -> Iterable[bytes]:
        with self.lock:
            return list(self.nodes[ino].xattrs)

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> None:
        with self.lock:
            node = self.nodes[ino]
            if name not in node.xattrs:
                raise FuseError(errno.ENODATA)
            del node.xattrs[name]
            node.changed()


def main() -> int:
    ours = argparse.ArgumentParser(add_help=False)
    ours.add_argument("--size", type=int, default=1 << 30, metavar="BYTES", help="of all files (default 1 GiB)")
    ours.add_argument("--writeback", action="store_true", help="let the kernel gather writes")
    args = command.make_parser(parents=[ours], description="Mount a file system in memory.").parse_args()
    options = ["default_permissions", "fsname=memory", *["allow_other"] * (os.geteuid() == 0)]
    want = {"writeback_cache"} if args.writeback else set()
    return command.serve(Memory(args.size), args, options=options, want=want)


if __name__ == "__main__":
    sys.exit(main())
