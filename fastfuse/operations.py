"""Operations: the handlers of a file system, by inode."""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Union

from fastfuse.core.content import Content
from fastfuse.core.tree import Tree
from fastfuse.core.types import Attr, Context, DirEntry, Entry, FileInfo, Flock, StatVFS
from fastfuse.errors import IoctlRetry, Published, Unshared

if TYPE_CHECKING:
    import os

    from typing_extensions import Buffer

    from fastfuse.core.calls import PollHandle

    Opened: TypeAlias = Buffer | pathlib.Path | Content | None

T = TypeVar("T")
Answer: TypeAlias = Union[T, Awaitable[T]]  # noqa: UP007 (Python 3.10 needs it at run time)


class Operations:
    """A file system: override what it can do.

    Each method has the name and the arguments of libfuse's low-level operation, with `ctx`, who asks, in the place of
    `req`, and without the sizes of buffers. Names are bytes. The kernel is only told of operations that a class
    overrides; for the others it knows a default or gives ENOSYS.

    A method is `def`, run on a worker thread with the GIL (it may block: others go on), or `async def`, run on the
    session's event loop. `raise FuseError(errno)`, or any OSError with an errno, is the caller's error; any other
    exception is logged with its traceback and the caller gets EIO. When the caller gets a signal, `ctx.interrupted`
    turns true, and a coroutine is cancelled.

    Lookup counts: each entry given by lookup, mknod, mkdir, symlink, link, create, tmpfile and each `entry` of
    readdirplus (but "." and "..") counts one; `forget` takes them back, also for those that the kernel did not want.

    Source: struct fuse_lowlevel_ops in fuse_lowlevel.h.
    """

    #: The part of the file system that is answered in C. lookup, getattr, open, opendir and readlink are only called
    #: for what it does not know; they may put it there and return `PUBLISHED`, as may create, mknod, mkdir, symlink
    #: and link.
    tree: Tree | None = None

    #: Of those five, the ones whose identical concurrent requests share one call. They must return `PUBLISHED`; `ctx`
    #: is then the first caller's. Opens for writing are never shared; an `open` that returns `UNSHARED` has
    #: `open_unshared` called for each of those who waited.
    coalesce: frozenset[str] = frozenset()

    def init(self) -> None:
        """Called once after the mount, before the first request, on the thread that mounts."""

    def destroy(self) -> None:
        """Called once after the last request, on the thread that closes."""

    def lookup(self, ctx: Context, parent: int, name: bytes) -> Answer[Entry | Published]:
        """The entry *name* of the directory *parent*; lookup count + 1.

        Raises FuseError(ENOENT); an Entry with ino 0 says the same, for `entry_timeout` seconds.
        """
        raise NotImplementedError

    def forget(self, ino: int, nlookup: int) -> Answer[None]:
        """The kernel lets go of *nlookup* lookups of *ino*. At 0 the inode may go. Nothing is answered."""
        raise NotImplementedError

    def getattr(self, ctx: Context, ino: int, fi: FileInfo | None) -> Answer[Attr | Published]:
        """The attributes of *ino*; *fi* if it is open and the caller used that (fstat(2))."""
        raise NotImplementedError

    def setattr(self, ctx: Context, ino: int, attr: Attr, to_set: int, fi: FileInfo | None) -> Answer[Attr]:
        """Change the attributes that *to_set* names (FUSE_SET_ATTR_*), size among them; all of them afterwards."""
        raise NotImplementedError

    def readlink(self, ctx: Context, ino: int) -> Answer[bytes | Published]:
        """Where the symbolic link *ino* points to."""
        raise NotImplementedError

    def mknod(self, ctx: Context, parent: int, name: bytes, mode: int, rdev: int) -> Answer[Entry | Published]:
        """Make a file, device, fifo or socket; lookup count + 1."""
        raise NotImplementedError

    def mkdir(self, ctx: Context, parent: int, name: bytes, mode: int) -> Answer[Entry | Published]:
        """Make a directory; lookup count + 1."""
        raise NotImplementedError

    def unlink(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        """Take a file's name away. The inode lives until it is forgotten."""
        raise NotImplementedError

    def rmdir(self, ctx: Context, parent: int, name: bytes) -> Answer[None]:
        """Take an empty directory away. The inode lives until it is forgotten."""
        raise NotImplementedError

    def symlink(self, ctx: Context, link: bytes, parent: int, name: bytes) -> Answer[Entry | Published]:
        """Make *name*, a symbolic link that points to *link*; lookup count + 1."""
        raise NotImplementedError

    def rename(
        self, ctx: Context, parent: int, name: bytes, newparent: int, newname: bytes, flags: int
    ) -> Answer[None]:
        """Move a name. *flags*: RENAME_NOREPLACE (1) or RENAME_EXCHANGE (2) of rename(2), else 0."""
        raise NotImplementedError

    def link(self, ctx: Context, ino: int, newparent: int, newname: bytes) -> Answer[Entry | Published]:
        """Give *ino* one more name; lookup count + 1."""
        raise NotImplementedError

    def open(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Opened | Published | Unshared]:
        """Open a file; set `fi.fh` and how the kernel caches it. O_CREAT, O_EXCL and O_NOCTTY do not arrive.

        A content given here serves all reads of this open file, in C.
        """
        raise NotImplementedError

    def open_unshared(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Opened]:
        """As open, of which it is the second half: see `coalesce`."""
        raise NotImplementedError

    def read(self, ctx: Context, ino: int, size: int, off: int, fi: FileInfo) -> Answer[Buffer]:
        """*size* bytes from byte *off*; fewer mean the end of the file (or nothing at all, with direct_io)."""
        raise NotImplementedError

    def write(self, ctx: Context, ino: int, buf: memoryview, off: int, fi: FileInfo) -> Answer[int]:
        """Write *buf* at byte *off*; how many bytes were taken. *buf* is the receive buffer itself, not a copy."""
        raise NotImplementedError

    def flush(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[None]:
        """A descriptor of the open file was closed: an error here is close(2)'s. Also drops its POSIX locks."""
        raise NotImplementedError

    def release(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[None]:
        """The last descriptor is closed; once per open. Errors reach nobody."""
        raise NotImplementedError

    def fsync(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> Answer[None]:
        """Bring the file to stable storage; with *datasync* its attributes need not be."""
        raise NotImplementedError

    def opendir(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[Published | None]:
        """Open a directory; set `fi.fh`."""
        raise NotImplementedError

    def readdir(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Answer[Iterable[DirEntry]]:
        """The entries behind *off* (0, or the `off` of an entry given before). As many are taken as fit."""
        raise NotImplementedError

    def readdirplus(self, ctx: Context, ino: int, off: int, fi: FileInfo) -> Answer[Iterable[DirEntry]]:
        """As readdir; an `entry` saves the kernel a lookup, and counts as one."""
        raise NotImplementedError

    def releasedir(self, ctx: Context, ino: int, fi: FileInfo) -> Answer[None]:
        """The directory is closed; once per opendir."""
        raise NotImplementedError

    def fsyncdir(self, ctx: Context, ino: int, datasync: bool, fi: FileInfo) -> Answer[None]:
        """Bring the directory to stable storage."""
        raise NotImplementedError

    def statfs(self, ctx: Context, ino: int) -> Answer[StatVFS | os.statvfs_result]:
        """The file system's numbers (statvfs(3))."""
        raise NotImplementedError

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int) -> Answer[None]:
        """Set an extended attribute. *flags*: XATTR_CREATE (1), XATTR_REPLACE (2)."""
        raise NotImplementedError

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Answer[bytes]:
        """An extended attribute. Raises FuseError(ENODATA)."""
        raise NotImplementedError

    def listxattr(self, ctx: Context, ino: int) -> Answer[Iterable[bytes]]:
        """The names of the extended attributes."""
        raise NotImplementedError

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> Answer[None]:
        """Remove an extended attribute. Raises FuseError(ENODATA)."""
        raise NotImplementedError

    def access(self, ctx: Context, ino: int, mask: int) -> Answer[None]:
        """access(2): raises FuseError(EACCES). Not called with the mount option default_permissions."""
        raise NotImplementedError

    def create(self, ctx: Context, parent: int, name: bytes, mode: int, fi: FileInfo) -> Answer[Entry | Published]:
        """Make a regular file and open it; set `fi` as in open; lookup count + 1."""
        raise NotImplementedError

    def tmpfile(self, ctx: Context, parent: int, mode: int, fi: FileInfo) -> Answer[Entry]:
        """Make a file without a name and open it (O_TMPFILE); lookup count + 1. libfuse 3.17, Linux 6.1."""
        raise NotImplementedError

    def getlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock) -> Answer[Flock]:
        """The lock that stands in *lock*'s way, or *lock* with l_type F_UNLCK. The owner is `fi.lock_owner`."""
        raise NotImplementedError

    def setlk(self, ctx: Context, ino: int, fi: FileInfo, lock: Flock, sleep: bool) -> Answer[None]:
        """Take or drop a POSIX lock; with *sleep* wait for it (F_SETLKW), else raise FuseError(EAGAIN)."""
        raise NotImplementedError

    def flock(self, ctx: Context, ino: int, fi: FileInfo, op: int) -> Answer[None]:
        """flock(2): LOCK_SH, LOCK_EX or LOCK_UN, maybe with LOCK_NB. The owner is `fi.lock_owner`."""
        raise NotImplementedError

    def bmap(self, ctx: Context, ino: int, blocksize: int, idx: int) -> Answer[int]:
        """The device's block of the file's block *idx*. Only asked on block-device mounts (blkdev)."""
        raise NotImplementedError

    def ioctl(
        self, ctx: Context, ino: int, cmd: int, arg: int, fi: FileInfo, flags: int, in_buf: bytes, out_bufsz: int
    ) -> Answer[int | tuple[int, bytes] | IoctlRetry]:
        """An ioctl(2): its result, and the bytes for the caller (at most *out_bufsz*)."""
        raise NotImplementedError

    def poll(self, ctx: Context, ino: int, fi: FileInfo, ph: PollHandle | None) -> Answer[int]:
        """What the file is ready for (POLLIN, ...). Keep *ph* and call its `notify` when that changes."""
        raise NotImplementedError

    def fallocate(self, ctx: Context, ino: int, mode: int, offset: int, length: int, fi: FileInfo) -> Answer[None]:
        """fallocate(2)."""
        raise NotImplementedError

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
    ) -> Answer[int]:
        """copy_file_range(2): how many bytes were copied. FuseError(EOPNOTSUPP) has them read and written."""
        raise NotImplementedError

    def lseek(self, ctx: Context, ino: int, off: int, whence: int, fi: FileInfo) -> Answer[int]:
        """Where the next data (SEEK_DATA) or hole (SEEK_HOLE) is. Raises FuseError(ENXIO) beyond the end."""
        raise NotImplementedError

    def statx(self, ctx: Context, ino: int, flags: int, mask: int, fi: FileInfo | None) -> Answer[Attr]:
        """statx(2). libfuse 3.18, Linux 6.6."""
        raise NotImplementedError

    def retrieve_reply(self, cookie: int, ino: int, offset: int, data: bytes) -> Answer[None]:
        """What `Session.retrieve` asked for: bytes of the kernel's page cache. Nothing is answered."""
        raise NotImplementedError


def handlers_of(ops: Operations, names: tuple[str, ...]) -> list[object]:
    """For each operation of *names* the bound method, None if the class does not override it."""
    return [
        getattr(ops, name) if getattr(type(ops), name) is not getattr(Operations, name) else None for name in names
    ]
