"""What handlers take and give: small objects with libfuse's and stat(2)'s own field names, times in ns."""

import os

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastfuse.core.libfuse cimport fuse_attr, stat_t
from fastfuse.core.platform cimport atomic_load

FOREVER = float("inf")


def show(object self, tuple names):
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


cdef class Attr:
    """A file's attributes, as in struct stat (inode(7)), and `attr_timeout`: the seconds that they may be believed.

    `mode` has the type and the permission bits. `blocks` counts 512 bytes; None means size / 512, rounded up.
    """

    def __init__(self, *, uint64_t ino=0, uint32_t mode=0, uint32_t nlink=1, uint64_t size=0, object blocks=None,
                 uint32_t uid=0, uint32_t gid=0, uint64_t rdev=0, uint32_t blksize=4096, int64_t atime_ns=0,
                 int64_t mtime_ns=0, int64_t ctime_ns=0, double attr_timeout=1.0) -> None:
        self.ino = ino
        self.mode = mode
        self.nlink = nlink
        self.size = size
        self.blocks = blocks
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.blksize = blksize
        self.atime_ns = atime_ns
        self.mtime_ns = mtime_ns
        self.ctime_ns = ctime_ns
        self.attr_timeout = attr_timeout

    @staticmethod
    def from_stat(st: os.stat_result, *, double attr_timeout=1.0) -> Attr:
        """What os.stat() gave, with its inode number."""
        cdef Attr self = Attr.__new__(Attr)
        self.ino = st.st_ino
        self.mode = st.st_mode
        self.nlink = st.st_nlink
        self.size = st.st_size
        self.said_blocks = st.st_blocks
        self.uid = st.st_uid
        self.gid = st.st_gid
        self.rdev = st.st_rdev
        self.blksize = st.st_blksize
        self.atime_ns = st.st_atime_ns
        self.mtime_ns = st.st_mtime_ns
        self.ctime_ns = st.st_ctime_ns
        self.attr_timeout = attr_timeout
        return self

    @property
    def blocks(self) -> int | None:
        return None if self.said_blocks < 0 else self.said_blocks

    @blocks.setter
    def blocks(self, value: int | None) -> None:
        if value is not None and value < 0:
            raise OverflowError(f"blocks is at least 0, not {value}")
        self.said_blocks = -1 if value is None else value

    cdef uint64_t count_blocks(self) noexcept:
        return (self.size + 511) // 512 if self.said_blocks < 0 else self.said_blocks

    def __repr__(self) -> str:
        return show(self, ("ino", "mode", "nlink", "size", "uid", "gid", "mtime_ns", "attr_timeout"))


cdef class Entry:
    """A name's answer: the attributes (`attr.ino` is the inode), and the seconds that the name may be believed.

    `attr.ino` 0 is a negative entry: the name does not exist, for `entry_timeout` seconds. `generation` tells a new
    file from an old one that had its inode number.
    """

    def __init__(self, Attr attr not None, *, uint64_t generation=0, double entry_timeout=1.0) -> None:
        self.attr = attr
        self.generation = generation
        self.entry_timeout = entry_timeout

    def __repr__(self) -> str:
        return show(self, ("attr", "generation", "entry_timeout"))


cdef class DirEntry:
    """One name of a directory. `off` is where reading goes on behind it; never 0.

    `ino` and the type in `mode` are what readdir(3) shows. readdirplus also takes `entry`, which counts as a lookup
    (unless the name is "." or ".."); `ino` and `mode` are then taken from there.
    """

    def __init__(self, bytes name not None, uint64_t off, *, uint64_t ino=0, uint32_t mode=0,
                 Entry entry=None) -> None:
        self.name = name
        self.off = off
        self.ino = ino
        self.mode = mode
        self.looked_up = entry

    @property
    def entry(self) -> Entry | None:
        with cython.critical_section(self):
            return self.looked_up

    @entry.setter
    def entry(self, Entry value) -> None:
        with cython.critical_section(self):
            self.looked_up = value

    def __repr__(self) -> str:
        return show(self, ("name", "off", "ino", "mode", "entry"))


cdef class Context:
    """Who asks: uid, gid, pid and umask of the calling thread (pid 0 when it is in another pid namespace)."""

    def __init__(self) -> None:
        raise TypeError("a Context comes with a request")

    @property
    def interrupted(self) -> bool:
        """The caller got a signal and waits for the answer only because it must: give up with EINTR."""
        with cython.critical_section(self):
            if self.flag is not NULL:
                self.was_interrupted = atomic_load(self.flag) != 0
            return self.was_interrupted

    def __repr__(self) -> str:
        return show(self, ("uid", "gid", "pid", "umask", "interrupted"))


cdef class FileInfo:
    """An open file, the same object from open to release: struct fuse_file_info.

    Of the kernel: `flags` (open(2)'s), `lock_owner`, `writepage` (a write from the page cache), `flush` and
    `flock_release` (in release), `poll_events`. For open, create and opendir to set: `fh` (yours), `direct_io`,
    `keep_cache`, `nonseekable`, `cache_readdir`, `parallel_direct_writes`, `noflush`.
    """

    def __init__(self, *, int flags=0, uint64_t fh=0) -> None:
        self.flags = flags
        self.fh = fh

    def __repr__(self) -> str:
        return show(self, ("flags", "fh", "lock_owner"))


cdef class StatVFS:
    """A file system's numbers: struct statvfs (statvfs(3)); sizes in units of f_frsize."""

    def __init__(self, *, uint64_t f_bsize=4096, uint64_t f_frsize=4096, uint64_t f_blocks=0, uint64_t f_bfree=0,
                 uint64_t f_bavail=0, uint64_t f_files=0, uint64_t f_ffree=0, uint64_t f_favail=0, uint64_t f_fsid=0,
                 uint64_t f_flag=0, uint64_t f_namemax=255) -> None:
        self.f_bsize = f_bsize
        self.f_frsize = f_frsize
        self.f_blocks = f_blocks
        self.f_bfree = f_bfree
        self.f_bavail = f_bavail
        self.f_files = f_files
        self.f_ffree = f_ffree
        self.f_favail = f_favail
        self.f_fsid = f_fsid
        self.f_flag = f_flag
        self.f_namemax = f_namemax

    def __repr__(self) -> str:
        return show(self, ("f_frsize", "f_blocks", "f_bfree", "f_files", "f_ffree", "f_namemax"))


cdef class Flock:
    """A POSIX lock: struct flock (fcntl(2)); l_start counts from the beginning, l_len 0 means to the end."""

    def __init__(self, *, int l_type=0, int64_t l_start=0, int64_t l_len=0, int l_pid=0) -> None:
        self.l_type = l_type
        self.l_start = l_start
        self.l_len = l_len
        self.l_pid = l_pid

    def __repr__(self) -> str:
        return show(self, ("l_type", "l_start", "l_len", "l_pid"))


cdef int attr_to_kernel(Attr attr, fuse_attr* out) except -1:
    out.ino = attr.ino
    out.size = attr.size
    out.blocks = attr.count_blocks()
    split_ns(attr.atime_ns, &out.atime, &out.atimensec)
    split_ns(attr.mtime_ns, &out.mtime, &out.mtimensec)
    split_ns(attr.ctime_ns, &out.ctime, &out.ctimensec)
    out.mode = attr.mode
    out.nlink = attr.nlink
    out.uid = attr.uid
    out.gid = attr.gid
    # The kernel's new_encode_dev: 12 bits of major, 20 of minor.
    out.rdev = <uint32_t>((os.minor(attr.rdev) & 0xff) | (os.major(attr.rdev) << 8)
                          | ((os.minor(attr.rdev) & ~0xff) << 12)) if attr.rdev else 0
    out.blksize = attr.blksize
    (<uint32_t*>&out.blksize)[1] = 0    # flags (padding until 7.33)
    return 0


cdef Attr attr_from_kernel(const fuse_attr* attr):
    cdef Attr self = Attr.__new__(Attr)
    cdef uint32_t dev = attr.rdev
    self.ino = attr.ino
    self.mode = attr.mode
    self.nlink = attr.nlink
    self.size = attr.size
    self.said_blocks = attr.blocks
    self.uid = attr.uid
    self.gid = attr.gid
    self.rdev = os.makedev((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00)) if dev else 0
    self.blksize = attr.blksize
    self.atime_ns = <int64_t>attr.atime * 1000000000 + attr.atimensec
    self.mtime_ns = <int64_t>attr.mtime * 1000000000 + attr.mtimensec
    self.ctime_ns = <int64_t>attr.ctime * 1000000000 + attr.ctimensec
    self.attr_timeout = 1.0
    return self


cdef Attr attr_from_stat(const stat_t* st):
    cdef Attr self = Attr.__new__(Attr)
    self.ino = st.st_ino
    self.mode = st.st_mode
    self.nlink = <uint32_t>st.st_nlink
    self.size = st.st_size
    self.said_blocks = -1
    self.uid = st.st_uid
    self.gid = st.st_gid
    self.rdev = st.st_rdev
    self.blksize = 4096
    self.atime_ns = <int64_t>st.st_atim.tv_sec * 1000000000 + st.st_atim.tv_nsec
    self.mtime_ns = <int64_t>st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec
    self.ctime_ns = <int64_t>st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec
    self.attr_timeout = 1.0
    return self


cdef void context_end(Context ctx) noexcept:
    with cython.critical_section(ctx):
        if ctx.flag is not NULL:
            ctx.was_interrupted = atomic_load(ctx.flag) != 0
            ctx.flag = NULL


cdef void context_move(Context ctx, int64_t* flag) noexcept:
    with cython.critical_section(ctx):
        ctx.flag = flag


cdef Context context_new(uint32_t uid, uint32_t gid, int pid, uint32_t umask, int64_t* flag):
    cdef Context self = Context.__new__(Context)
    self.uid = uid
    self.gid = gid
    self.pid = pid
    self.umask = umask
    self.flag = flag
    return self
