from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastfuse.core.libfuse cimport fuse_attr, fuse_ctx, stat_t


cdef class Attr:
    cdef public uint64_t ino, size, rdev
    cdef public uint32_t mode, nlink, uid, gid, blksize
    cdef public int64_t atime_ns, mtime_ns, ctime_ns
    cdef int64_t said_blocks    # < 0: as the size says
    cdef public double attr_timeout
    cdef uint64_t count_blocks(self) noexcept


cdef class Entry:
    cdef readonly Attr attr
    cdef public uint64_t generation
    cdef public double entry_timeout


cdef class DirEntry:
    cdef readonly bytes name
    cdef public uint64_t ino, off
    cdef public uint32_t mode
    cdef Entry looked_up    # [self]


cdef class Context:
    cdef readonly uint32_t uid, gid, umask
    cdef readonly int pid
    cdef int64_t* flag          # the request's interrupted flag, NULL when it was answered [self]
    cdef bint was_interrupted   # [self]


cdef class FileInfo:
    cdef public int flags
    cdef public uint64_t fh, lock_owner
    cdef public uint32_t poll_events
    cdef public bint writepage, flush, flock_release
    cdef public bint direct_io, keep_cache, nonseekable, cache_readdir, parallel_direct_writes, noflush


cdef class StatVFS:
    cdef public uint64_t f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_fsid, f_flag
    cdef public uint64_t f_namemax


cdef class Flock:
    cdef public int l_type, l_pid
    cdef public int64_t l_start, l_len


# Seconds and nanoseconds of a time that may lie before 1970.
cdef inline void split_ns(int64_t ns, uint64_t* sec, uint32_t* nsec) noexcept nogil:
    cdef int64_t rest = ns % 1000000000
    cdef int64_t whole = ns // 1000000000
    if rest < 0:
        rest += 1000000000
        whole -= 1
    sec[0] = <uint64_t>whole
    nsec[0] = <uint32_t>rest


cdef int attr_to_kernel(Attr attr, fuse_attr* out) except -1
cdef Attr attr_from_kernel(const fuse_attr* attr)
cdef Attr attr_from_stat(const stat_t* st)
# The request goes; a Context that somebody kept remembers how it stood.
cdef void context_end(Context ctx) noexcept
# The request goes on elsewhere.
cdef void context_move(Context ctx, int64_t* flag) noexcept
cdef Context context_new(uint32_t uid, uint32_t gid, int pid, uint32_t umask, int64_t* flag)
