#!/usr/bin/env python3
"""A zip or tar archive as a directory, without unpacking it: archive.py ARCHIVE MOUNTPOINT -f

A directory's facts are put into a tree when it is first looked into, a file's bytes when it is first opened; from then
on C answers. What is not open may be evicted again, down to a bound, and is then unpacked anew.
"""

from __future__ import annotations

import argparse
import calendar
import errno
import functools
import os
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field

from fastfuse import FOREVER, PUBLISHED, Attr, Context, FileInfo, FuseError, Operations, Tree, command
from fastfuse.errors import Published


@dataclass
class Member:
    """One name in an archive; *read* gives a file's bytes, *target* is a link's."""

    mode: int = stat.S_IFDIR | 0o555
    size: int = 0
    mtime: float = 0
    read: Callable[[], bytes] | None = None
    target: str = ""
    children: dict[str, Member] = field(default_factory=dict)

    def attr(self) -> Attr:
        return Attr(
            mode=self.mode,
            size=self.size,
            mtime_ns=int(self.mtime * 10**9),
            uid=os.getuid(),
            gid=os.getgid(),
            attr_timeout=FOREVER,
        )

    def place(self, path: str, member: Member) -> None:
        """Put *member* there, below directories that the archive may not mention. What leads outside stays out."""
        *folders, name = [part for part in path.split("/") if part not in ("", ".")] or [""]
        if not name or ".." in (*folders, name):
            return
        folder = self
        for part in folders:
            folder = folder.children.setdefault(part, Member())
        if name in folder.children:
            member.children = folder.children[name].children
        folder.children[name] = member


def zip_members(path: str) -> Member:
    archive, root = zipfile.ZipFile(path), Member()
    for info in archive.infolist():
        mode = info.external_attr >> 16
        member = Member(mtime=calendar.timegm((*info.date_time, 0, 0, 0)))
        if not info.is_dir():
            member.size = info.file_size
            member.read = functools.partial(archive.read, info)
            member.mode = stat.S_IFREG | (mode & 0o555 or 0o444)
            if stat.S_ISLNK(mode):
                member.mode, member.target = stat.S_IFLNK | 0o777, os.fsdecode(archive.read(info))
        root.place(info.filename, member)
    return root


def tar_members(path: str) -> Member:
    archive = tarfile.open(path)  # noqa: SIM115 (as long as the program runs)
    root, lock = Member(), threading.Lock()

    def read(info: tarfile.TarInfo) -> bytes:
        with lock:  # one file position for all
            file = archive.extractfile(info)
            return file.read() if file else b""

    for info in archive:
        member = Member(mtime=info.mtime)
        if info.issym():
            member.mode, member.target = stat.S_IFLNK | 0o777, info.linkname
        elif info.isfile() or info.islnk():
            member.mode = stat.S_IFREG | (info.mode & 0o555)
            member.size = archive.getmember(info.linkname).size if info.islnk() else info.size
            member.read = functools.partial(read, info)
        elif not info.isdir():
            continue
        root.place(info.name, member)
    return root


class Archive(Operations):
    """What *root* holds, put into the tree as it is asked for."""

    coalesce = frozenset({"lookup", "open", "opendir", "readlink"})

    def __init__(self, root: Member, cache_size: int) -> None:
        self.tree: Tree = Tree(cache_size=cache_size)
        self.members = {1: root}
        self.lock = threading.Lock()

    def expand(self, ino: int) -> Published:
        """Say all that is known of a directory's names."""
        with self.lock:
            for name, member in self.members[ino].children.items():
                child = self.tree.set_entry(ino, os.fsencode(name), member.attr(), FOREVER)
                self.members[child] = member
                if member.target:
                    self.tree.set_link(child, member.target, FOREVER)
            names = [(os.fsencode(name), member.mode) for name, member in self.members[ino].children.items()]
            self.tree.set_listing(ino, names, FOREVER, complete=True)
        return PUBLISHED

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Published:
        if os.fsdecode(name) not in self.members[parent].children:
            raise FuseError(errno.ENOENT)
        return self.expand(parent)

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> Published:
        return self.expand(ino)

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> Published:
        if fi.flags & os.O_ACCMODE != os.O_RDONLY:
            raise FuseError(errno.EROFS)
        read = self.members[ino].read
        assert read is not None
        self.tree.set_content(ino, read(), FOREVER, evictable=True)
        return PUBLISHED


def main() -> int:
    ours = argparse.ArgumentParser(add_help=False)
    ours.add_argument("archive", help="a zip or tar file")
    ours.add_argument("--cache", type=int, default=256 << 20, metavar="BYTES", help="of unpacked files to keep")
    args = command.make_parser(parents=[ours], description="Browse an archive.").parse_args()
    try:
        members = zip_members(args.archive) if zipfile.is_zipfile(args.archive) else tar_members(args.archive)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        print(f"{args.archive}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return command.serve(Archive(members, args.cache), args, options=["ro", "subtype=archive"])


if __name__ == "__main__":
    sys.exit(main())
