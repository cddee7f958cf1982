"""From a request to a handler's arguments, and from what it gives to an answer. All of it with the GIL held.

Answers are the kernel's own structures (linux/fuse.h), sent by fuse_reply_buf: libfuse's vary between its versions.
"""

import errno as errno_module
import logging
import os
import struct

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport EIO, ENOENT, ERANGE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastfuse.core.content cimport content_from
from fastfuse.core.hits cimport forget_node, handle_free, handle_new, reply_missing, take_entry
from fastfuse.core.libfuse cimport (
    FOPEN_CACHE_DIR, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_NONSEEKABLE,
    FOPEN_PARALLEL_DIRECT_WRITES, FUSE_IOCTL_MAX_IOV, FUSE_IOCTL_RETRY, FUSE_RELEASE_FLOCK_UNLOCK,
    FUSE_RELEASE_FLUSH, FUSE_WRITE_CACHE, fuse_attr_out, fuse_bmap_out, fuse_entry_out, fuse_forget_data,
    fuse_interrupt_func_t, fuse_ioctl_out, fuse_lk_out, fuse_lseek_out,
    fuse_lowlevel_notify_poll, fuse_open_out, fuse_pollhandle, fuse_pollhandle_destroy, fuse_reply_buf, fuse_reply_err, fuse_reply_none, fuse_req_interrupt_func,
    fuse_statfs_out,
)
from fastfuse.core.platform cimport (
    atomic_add, atomic_exchange, atomic_load, pthread_mutex_lock, pthread_mutex_unlock,
)
from fastfuse.core.state cimport *
from fastfuse.core.tree cimport dirent_size, fill_timeout, put_dirent
from fastfuse.core.types cimport (
    Attr, Context, DirEntry, Entry, FileInfo, Flock, StatVFS, attr_from_stat, attr_to_kernel, context_end, context_move,
    context_new,
)
from fastfuse.errors import PUBLISHED, IoctlRetry

log = logging.getLogger("fastfuse")

OPERATIONS = (
    "lookup", "forget", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename",
    "link", "open", "read", "write", "flush", "release", "fsync", "opendir", "readdir", "readdirplus", "releasedir",
    "fsyncdir", "statfs", "setxattr", "getxattr", "listxattr", "removexattr", "access", "create", "getlk", "setlk",
    "bmap", "ioctl", "poll", "retrieve_reply", "flock", "fallocate", "copy_file_range", "lseek", "tmpfile", "statx",
)
assert len(OPERATIONS) == OPS

# The built-in OSErrors say which errno they mean even when it was not given.
ERRNO_OF_CLASS = {
    FileNotFoundError: errno_module.ENOENT, FileExistsError: errno_module.EEXIST,
    NotADirectoryError: errno_module.ENOTDIR, IsADirectoryError: errno_module.EISDIR,
    PermissionError: errno_module.EACCES, BlockingIOError: errno_module.EAGAIN,
    InterruptedError: errno_module.EINTR, TimeoutError: errno_module.ETIMEDOUT,
    ProcessLookupError: errno_module.ESRCH, BrokenPipeError: errno_module.EPIPE,
}


cdef class Loan:
    """Memory that a handler may look at; its own once it is still in use after the call."""

    def __getbuffer__(self, Py_buffer* view, int flags):
        with cython.critical_section(self):
            if self.at is NULL:
                raise BufferError("the bytes of a write are gone when its handler has returned")
            PyBuffer_FillInfo(view, self, <void*>self.at, self.size, 1, flags)
            self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        with cython.critical_section(self):
            self.exports -= 1

    cdef void end(self, void** buf) noexcept:
        with cython.critical_section(self):
            if self.exports:
                self.mem = buf[0]
                buf[0] = NULL
            else:
                self.at = NULL

    def __dealloc__(self):
        free(self.mem)


cdef class PollHandle:
    """Somebody waits in poll(2): call `notify` when the file may have become ready. Only the newest one counts."""

    cdef fuse_pollhandle* ph
    cdef engine_t* engine
    cdef object owner       # keeps the engine

    def notify(self) -> None:
        """Wake the waiting programs; they ask `poll` again. From any thread."""
        # As for any notification: the device stays open until the count is 0.
        atomic_add(&self.engine.notifying, 1)
        if atomic_load(&self.engine.stop) == 0:
            with nogil:
                fuse_lowlevel_notify_poll(self.ph)
        atomic_add(&self.engine.notifying, -1)

    def __dealloc__(self):
        if self.ph is not NULL:
            fuse_pollhandle_destroy(self.ph)


cdef object poll_handle(request_t* r):
    cdef PollHandle self
    if r.ph is NULL:
        return None
    self = PollHandle.__new__(PollHandle)
    self.ph = r.ph
    self.engine = r.engine
    self.owner = <object>r.engine.owner
    r.ph = NULL
    return self


# ---- arguments --------------------------------------------------------------------------------------------------

cdef object context(request_t* r):
    cdef Context ctx = context_new(r.uid, r.gid, r.pid, r.umask, &r.interrupted)
    Py_INCREF(ctx)
    r.context = <PyObject*>ctx
    return ctx


cdef void end_context(request_t* r) noexcept:
    if r.context is not NULL:
        context_end(<Context>r.context)
        Py_XDECREF(r.context)
        r.context = NULL


# The FileInfo of the open file; None when the request has none.
cdef object file_info(request_t* r, handle_t* handle):
    cdef FileInfo info
    cdef FileInfo own
    if not r.has_fi:
        return None
    if handle is not NULL and handle.fi is not NULL:
        info = <FileInfo>handle.fi
    else:
        # Opened in C, or without a handler: nobody has set anything.
        info = FileInfo.__new__(FileInfo)
        if r.op in (OP_READ, OP_WRITE, OP_RELEASE):
            info.flags = r.flags
        if handle is not NULL:
            # Two requests of one open file may come here at the same time (without a GIL).
            pthread_mutex_lock(&r.engine.lock)
            if handle.fi is NULL:
                Py_INCREF(info)
                handle.fi = <PyObject*>info
            pthread_mutex_unlock(&r.engine.lock)
            info = <FileInfo>handle.fi
    if r.op not in (OP_FLUSH, OP_RELEASE, OP_GETLK, OP_SETLK, OP_FLOCK, OP_POLL):
        info.lock_owner = r.lock_owner
        info.writepage = r.write_flags & FUSE_WRITE_CACHE != 0
        return info
    # What differs between two callers that share the open file is not put where both look.
    own = FileInfo.__new__(FileInfo)
    own.fh = info.fh
    own.flags = info.flags
    own.lock_owner = r.lock_owner
    own.flush = r.release_flags & FUSE_RELEASE_FLUSH != 0
    own.flock_release = r.release_flags & FUSE_RELEASE_FLOCK_UNLOCK != 0
    own.poll_events = r.poll_events
    return own


# A new FileInfo for open and its kin, which its answer reads.
cdef object opening(request_t* r):
    cdef FileInfo info = FileInfo.__new__(FileInfo)
    info.flags = r.flags
    Py_XDECREF(r.fi)
    Py_INCREF(info)
    r.fi = <PyObject*>info
    return info


cdef Attr wanted(request_t* r):
    cdef Attr attr = attr_from_stat(&r.attr)
    attr.ino = r.ino
    return attr


cdef object invoke(object handler, request_t* r, Loan loan):
    cdef int op = r.op
    cdef fuse_forget_data* forgets
    cdef size_t i
    if op == OP_READ:
        return handler(context(r), r.ino, r.size, r.off, file_info(r, r.handle))
    if op == OP_WRITE:
        return handler(context(r), r.ino, memoryview(loan), r.off, file_info(r, r.handle))
    if op == OP_LOOKUP:
        return handler(context(r), r.ino, <bytes>r.name)
    if op == OP_GETATTR:
        return handler(context(r), r.ino, file_info(r, r.handle))
    if op == OP_OPEN or op == OP_OPENDIR:
        return handler(context(r), r.ino, opening(r))
    if op == OP_READDIR or op == OP_READDIRPLUS:
        return handler(context(r), r.ino, r.off, file_info(r, r.handle))
    if op == OP_FLUSH or op == OP_RELEASE or op == OP_RELEASEDIR:
        return handler(context(r), r.ino, file_info(r, r.handle))
    if op == OP_READLINK or op == OP_STATFS or op == OP_LISTXATTR:
        return handler(context(r), r.ino)
    if op == OP_GETXATTR:
        return handler(context(r), r.ino, <bytes>r.name)
    if op == OP_FORGET:
        if r.data is NULL:
            return handler(r.ino, r.nlookup)
        forgets = <fuse_forget_data*>r.data
        return forget_each(handler, [(forgets[i].ino, forgets[i].nlookup) for i in range(r.size)])
    if op == OP_SETATTR:
        return handler(context(r), r.ino, wanted(r), r.to_set, file_info(r, r.handle))
    if op == OP_CREATE:
        return handler(context(r), r.ino, <bytes>r.name, r.mode, opening(r))
    if op == OP_TMPFILE:
        return handler(context(r), r.ino, r.mode, opening(r))
    if op == OP_MKNOD:
        return handler(context(r), r.ino, <bytes>r.name, r.mode, r.nlookup)
    if op == OP_MKDIR:
        return handler(context(r), r.ino, <bytes>r.name, r.mode)
    if op == OP_UNLINK or op == OP_RMDIR or op == OP_REMOVEXATTR:
        return handler(context(r), r.ino, <bytes>r.name)
    if op == OP_SYMLINK:
        return handler(context(r), <bytes>r.name2, r.ino, <bytes>r.name)
    if op == OP_RENAME:
        return handler(context(r), r.ino, <bytes>r.name, r.ino2, <bytes>r.name2, r.flags)
    if op == OP_LINK:
        return handler(context(r), r.ino, r.ino2, <bytes>r.name)
    if op == OP_FSYNC or op == OP_FSYNCDIR:
        return handler(context(r), r.ino, r.to_set != 0, file_info(r, r.handle))
    if op == OP_SETXATTR:
        return handler(context(r), r.ino, <bytes>r.name, r.data[:r.size], r.flags)
    if op == OP_ACCESS:
        return handler(context(r), r.ino, r.flags)
    if op == OP_GETLK:
        return handler(context(r), r.ino, file_info(r, r.handle), posix_lock(r))
    if op == OP_SETLK:
        return handler(context(r), r.ino, file_info(r, r.handle), posix_lock(r), r.flags != 0)
    if op == OP_FLOCK:
        return handler(context(r), r.ino, file_info(r, r.handle), r.flags)
    if op == OP_BMAP:
        return handler(context(r), r.ino, r.size, r.nlookup)
    if op == OP_IOCTL:
        return handler(context(r), r.ino, <uint32_t>r.to_set, <uint64_t>r.arg, file_info(r, r.handle),
                       <uint32_t>r.flags, r.data[:r.size] if r.size else b"", r.length)
    if op == OP_POLL:
        return handler(context(r), r.ino, file_info(r, r.handle), poll_handle(r))
    if op == OP_RETRIEVE_REPLY:
        return handler(<uint64_t>r.arg, r.ino, r.off, r.data[:r.size] if r.size else b"")
    if op == OP_FALLOCATE:
        return handler(context(r), r.ino, r.flags, r.off, r.length, file_info(r, r.handle))
    if op == OP_COPY_FILE_RANGE:
        return handler(context(r), r.ino, r.off, file_info(r, r.handle), r.ino2, r.off2, file_info(r, r.handle2),
                       r.length, r.flags)
    if op == OP_LSEEK:
        return handler(context(r), r.ino, r.off, r.flags, file_info(r, r.handle))
    return handler(context(r), r.ino, r.flags, r.to_set, file_info(r, r.handle))     # statx


# A batch is many requests: a mistake in one is no reason to lose the others.
cdef object forget_each(object handler, list forgets):
    cdef list waiting = []
    for ino, nlookup in forgets:
        try:
            result = handler(ino, nlookup)
            if is_coroutine(result):
                waiting.append((f"forget(ino={ino})", result))
        except Exception as error:
            log.error("forget(ino=%d) failed", ino, exc_info=error)
    return await_each(waiting) if waiting else None


async def await_each(waiting):
    for what, coroutine in waiting:
        try:
            await coroutine
        except Exception as error:
            log.error("%s failed", what, exc_info=error)


cdef Flock posix_lock(request_t* r):
    return Flock(l_type=r.lock.l_type, l_start=r.lock.l_start, l_len=r.lock.l_len, l_pid=r.lock.l_pid)


cdef void end_context_moved(request_t* r, request_t* to) noexcept:
    if r.context is not NULL:
        context_move(<Context>r.context, &to.interrupted)
        r.context = NULL


# ---- answers ----------------------------------------------------------------------------------------------------

cdef inline void answer(request_t* r, size_t size) noexcept nogil:
    r.out = r.small
    r.out_size = size


# struct fuse_write_out, fuse_getxattr_out and fuse_poll_out alike: a number and padding.
cdef inline void answer_number(request_t* r, uint32_t number) noexcept nogil:
    cdef uint32_t* out = <uint32_t*>r.small
    out[0] = number
    out[1] = 0
    answer(r, 2 * sizeof(uint32_t))


cdef int64_t timeout_ns(double seconds) except? -1:
    if seconds != seconds or seconds < 0:
        raise ValueError(f"a timeout is a number of seconds, not {seconds!r}")
    return ((<uint64_t>-1) >> 1) if seconds >= 1e9 else <int64_t>(seconds * 1e9)


cdef object wrong(request_t* r, object result, str due):
    return TypeError(f"{OPERATIONS[r.op]} gives {due}, not {result!r}")


cdef int put_entry(request_t* r, fuse_entry_out* out, object result) except -1:
    cdef Entry entry
    cdef Attr attr
    if not isinstance(result, Entry) or (<Entry>result).attr is None:
        raise wrong(r, result, "an Entry")
    entry = result
    attr = entry.attr
    out.nodeid = attr.ino
    out.generation = entry.generation
    fill_timeout(timeout_ns(entry.entry_timeout), &out.entry_valid, &out.entry_valid_nsec)
    fill_timeout(timeout_ns(attr.attr_timeout), &out.attr_valid, &out.attr_valid_nsec)
    attr_to_kernel(attr, &out.attr)
    return 0


cdef uint32_t open_flags(FileInfo info) noexcept:
    return ((FOPEN_DIRECT_IO if info.direct_io else 0)
            | (FOPEN_KEEP_CACHE if info.keep_cache else 0)
            | (FOPEN_NONSEEKABLE if info.nonseekable else 0)
            | (FOPEN_CACHE_DIR if info.cache_readdir else 0)
            | (FOPEN_PARALLEL_DIRECT_WRITES if info.parallel_direct_writes else 0)
            | (FOPEN_NOFLUSH if info.noflush else 0))


# Make the handle of a file that a handler opened; content, if any, is what its reads are served from.
cdef int put_open(request_t* r, fuse_open_out* out, object content) except -1:
    cdef handle_t* handle = handle_new(r.engine)
    if handle is NULL:
        raise MemoryError
    handle.fi = r.fi
    r.fi = NULL
    r.opened = handle
    if r.op != OP_OPENDIR:
        handle.by_handler = True
        atomic_add(&r.engine.by_handlers, 1)
    if content is not None:
        handle.content = content_from(content)
    memset(out, 0, sizeof(fuse_open_out))
    out.fh = <uint64_t>handle
    out.open_flags = open_flags(<FileInfo>handle.fi)
    return 0


cdef int keep(request_t* r, object owner) except -1:
    Py_INCREF(owner)
    r.keep = <PyObject*>owner
    return 0


cdef int put_bytes(request_t* r, object data, size_t most) except -1:
    """Answer with the bytes of anything with the buffer protocol, held until they are sent."""
    cdef Py_buffer* view
    if not isinstance(data, bytes):
        data = memoryview(data)
        if not data.c_contiguous:
            raise ValueError(f"{OPERATIONS[r.op]} needs a C-contiguous buffer")
        view = PyMemoryView_GET_BUFFER(data)
        r.out = <const char*>view.buf
        r.out_size = view.len
    else:
        r.out = PyBytes_AS_STRING(data)
        r.out_size = PyBytes_GET_SIZE(data)
    if r.out_size > most:
        raise ValueError(f"{OPERATIONS[r.op]} gave {r.out_size} bytes, {most} were asked for")
    return keep(r, data)


cdef extern from "Python.h":
    Py_buffer* PyMemoryView_GET_BUFFER(object)


cdef int put_xattr(request_t* r, object data) except -1:
    cdef bytes value = bytes(memoryview(data))
    if r.size == 0:
        answer_number(r, <uint32_t>len(value))
    elif <size_t>len(value) > r.size:
        r.error = ERANGE
    else:
        put_bytes(r, value, r.size)
    return 0


cdef int put_listing(request_t* r, object entries, object handlers) except -1:
    """Records until the buffer is full; entries that the kernel does not get give their lookups back."""
    cdef bint plus = r.op == OP_READDIRPLUS
    cdef size_t head = sizeof(fuse_entry_out) if plus else 0
    cdef bytes buf = PyBytes_FromStringAndSize(NULL, r.size)
    cdef char* at = PyBytes_AS_STRING(buf)
    cdef size_t used = 0, size
    cdef list looked_up = []
    cdef DirEntry entry
    cdef uint64_t ino
    cdef uint32_t mode
    cdef bint counted
    try:
        for item in entries:
            if not isinstance(item, DirEntry):
                raise wrong(r, item, "DirEntry after DirEntry")
            entry = item
            size = dirent_size(len(entry.name)) + head
            ino = entry.ino
            mode = entry.mode
            counted = plus and entry.looked_up is not None and entry.name not in (b".", b"..")
            if plus and entry.looked_up is not None:
                ino = entry.looked_up.attr.ino
                mode = entry.looked_up.attr.mode
            if counted and ino:
                looked_up.append(ino)
            if used + size > r.size:
                if counted and ino:
                    forget(r, handlers, looked_up.pop())
                break
            if plus:
                memset(at + used, 0, head)
                if counted:
                    put_entry(r, <fuse_entry_out*>(at + used), entry.looked_up)
            put_dirent(at + used + head, ino or 0xffffffff, entry.off, mode, entry.name, len(entry.name))
            used += size
    except BaseException:
        for child in looked_up:
            forget(r, handlers, child)
        raise
    keep(r, buf)
    r.out = at
    r.out_size = used
    return 0


cdef int forget(request_t* r, object handlers, uint64_t ino) except -1:
    handler = handlers[OP_FORGET]
    if handler is not None:
        see_to(r, handler(ino, 1))
    return 0


# What nobody waits for: a coroutine goes to the event loop.
cdef int see_to(request_t* r, object result) except -1:
    if is_coroutine(result):
        (<object>r.engine.owner).run_coroutine(await_each([(f"what follows {describe(r)}", result)]))
    return 0


cdef int conclude(request_t* r, object result, object handlers) except -1:
    cdef int op = r.op
    cdef fuse_attr_out* attr_out
    cdef fuse_lk_out* lk
    cdef Flock lock
    cdef StatVFS st
    cdef fuse_statfs_out* statfs
    cdef Attr attr
    cdef bint missing = False
    r.error = 0
    if op == OP_READ:
        put_bytes(r, result, r.size)
    elif op == OP_WRITE:
        if not 0 <= result <= r.size:
            raise ValueError(f"write took {result} of {r.size} bytes")
        answer_number(r, result)
    elif op in (OP_LOOKUP, OP_MKNOD, OP_MKDIR, OP_SYMLINK, OP_LINK):
        put_entry(r, <fuse_entry_out*>r.small, result)
        r.looked_up = (<Entry>result).attr.ino
        answer(r, sizeof(fuse_entry_out))
    elif op == OP_GETATTR or op == OP_SETATTR or op == OP_STATX:
        if not isinstance(result, Attr):
            raise wrong(r, result, "an Attr")
        attr = result
        if op == OP_STATX:
            put_bytes(r, statx_out(attr), 4096)
            return 0
        attr_out = <fuse_attr_out*>r.small
        fill_timeout(timeout_ns(attr.attr_timeout), &attr_out.attr_valid, &attr_out.attr_valid_nsec)
        attr_out.dummy = 0
        attr_to_kernel(attr, &attr_out.attr)
        answer(r, sizeof(fuse_attr_out))
    elif op == OP_OPEN or op == OP_OPENDIR:
        put_open(r, <fuse_open_out*>r.small, result if op == OP_OPEN else None)
        if op == OP_OPENDIR and result is not None:
            raise wrong(r, result, "nothing")
        answer(r, sizeof(fuse_open_out))
    elif op == OP_CREATE or op == OP_TMPFILE:
        put_open(r, <fuse_open_out*>(r.small + sizeof(fuse_entry_out)), None)
        if result is not PUBLISHED:
            put_entry(r, <fuse_entry_out*>r.small, result)
        elif r.name is NULL or not take_entry(r, <fuse_entry_out*>r.small, r.began, &missing):
            raise ValueError(f"{OPERATIONS[op]} said PUBLISHED, but the tree does not have it")
        r.looked_up = (<fuse_entry_out*>r.small).nodeid
        answer(r, sizeof(fuse_entry_out) + sizeof(fuse_open_out))
    elif op == OP_READDIR or op == OP_READDIRPLUS:
        put_listing(r, result, handlers)
    elif op == OP_READLINK:
        put_bytes(r, os.fsencode(result), 4096)
    elif op == OP_GETXATTR:
        put_xattr(r, result)
    elif op == OP_LISTXATTR:
        put_xattr(r, b"".join([name + b"\0" for name in result]))
    elif op == OP_STATFS:
        if isinstance(result, os.statvfs_result):
            result = StatVFS(f_bsize=result.f_bsize, f_frsize=result.f_frsize, f_blocks=result.f_blocks,
                             f_bfree=result.f_bfree, f_bavail=result.f_bavail, f_files=result.f_files,
                             f_ffree=result.f_ffree, f_favail=result.f_favail, f_namemax=result.f_namemax)
        if not isinstance(result, StatVFS):
            raise wrong(r, result, "a StatVFS")
        st = result
        memset(r.small, 0, sizeof(fuse_statfs_out))
        statfs = <fuse_statfs_out*>r.small
        statfs.st.blocks = st.f_blocks
        statfs.st.bfree = st.f_bfree
        statfs.st.bavail = st.f_bavail
        statfs.st.files = st.f_files
        statfs.st.ffree = st.f_ffree
        statfs.st.bsize = <uint32_t>st.f_bsize
        statfs.st.frsize = <uint32_t>st.f_frsize
        statfs.st.namelen = <uint32_t>st.f_namemax
        answer(r, sizeof(fuse_statfs_out))
    elif op == OP_GETLK:
        if not isinstance(result, Flock):
            raise wrong(r, result, "a Flock")
        lock = result
        lk = <fuse_lk_out*>r.small
        lk.lk.type = lock.l_type
        lk.lk.start = lock.l_start
        lk.lk.end = <uint64_t>0x7fffffffffffffff if lock.l_len == 0 else lock.l_start + lock.l_len - 1
        lk.lk.pid = lock.l_pid
        answer(r, sizeof(fuse_lk_out))
    elif op == OP_BMAP:
        (<fuse_bmap_out*>r.small).block = result
        answer(r, sizeof(fuse_bmap_out))
    elif op == OP_LSEEK:
        (<fuse_lseek_out*>r.small).offset = <uint64_t><int64_t>result
        answer(r, sizeof(fuse_lseek_out))
    elif op == OP_POLL:
        answer_number(r, result)
    elif op == OP_COPY_FILE_RANGE:
        if not 0 <= result <= r.length:
            raise ValueError(f"copy_file_range copied {result} of {r.length} bytes")
        answer_number(r, result)
    elif op == OP_IOCTL:
        put_ioctl(r, result)
    elif op == OP_FORGET or op == OP_RETRIEVE_REPLY:
        r.silent = True
    elif result is not None:
        raise wrong(r, result, "nothing")
    return 0


# struct fuse_statx_out, which the headers may not know yet: of the attributes, what stat(2) has.
cdef bytes statx_out(Attr attr):
    cdef uint64_t sec
    cdef uint32_t nsec
    fill_timeout(timeout_ns(attr.attr_timeout), &sec, &nsec)
    times = [divmod(ns, 10**9) for ns in (attr.atime_ns, 0, attr.ctime_ns, attr.mtime_ns)]
    return struct.pack(
        "<QII16xIIQIIIH2xQQQQ" + 4 * "qI4x" + "IIII112x", sec, nsec, 0,
        0x7ff, attr.blksize, 0, attr.nlink, attr.uid, attr.gid, attr.mode, attr.ino, attr.size,    # STATX_BASIC_STATS
        attr.count_blocks(), 0,
        *[number for time in times for number in time], os.major(attr.rdev), os.minor(attr.rdev), 0, 0)


cdef int put_ioctl(request_t* r, object result) except -1:
    cdef fuse_ioctl_out head
    cdef bytes data = b""
    memset(&head, 0, sizeof(head))
    if isinstance(result, IoctlRetry):
        if len(result.in_iov) + len(result.out_iov) > FUSE_IOCTL_MAX_IOV:
            raise ValueError(f"an ioctl is retried with at most {FUSE_IOCTL_MAX_IOV} ranges")
        head.flags = FUSE_IOCTL_RETRY
        head.in_iovs = len(result.in_iov)
        head.out_iovs = len(result.out_iov)
        data = b"".join([address.to_bytes(8, "little") + size.to_bytes(8, "little")
                         for address, size in (*result.in_iov, *result.out_iov)])
    elif isinstance(result, tuple):
        head.result, data = result
        if len(data) > r.length:
            raise ValueError(f"ioctl gave {len(data)} bytes, {r.length} were asked for")
    else:
        head.result = result
    return put_bytes(r, (<char*>&head)[:sizeof(head)] + data, 1 << 20)


cdef str describe(request_t* r):
    words = [f"ino={r.ino}"]
    if r.name is not NULL:
        words.append(f"name={<bytes>r.name!r}")
    if r.op == OP_READ or r.op == OP_WRITE:
        words.append(f"off={r.off}, size={r.size}")
    return f"{OPERATIONS[r.op]}({', '.join(words)})"


cdef void conclude_error(request_t* r, object error) noexcept:
    cdef int code = 0
    if isinstance(error, OSError):
        if isinstance(error.errno, int) and 0 < error.errno < 512:
            code = error.errno
        else:
            code = ERRNO_OF_CLASS.get(type(error), 0)
    if code == 0:
        code = EIO
        log.error("%s failed", describe(r), exc_info=error)
    r.error = code
    if r.op == OP_FORGET or r.op == OP_RETRIEVE_REPLY:
        r.silent = True


cdef bint claim(request_t* r) noexcept nogil:
    if atomic_exchange(&r.answered, 1):
        return False
    # From here on no interrupt touches the request: waits for one that does.
    fuse_req_interrupt_func(r.req, <fuse_interrupt_func_t>NULL, NULL)
    return True


cdef bint send(request_t* r) noexcept nogil:
    cdef int result
    if r.silent:
        fuse_reply_none(r.req)
    elif r.error:
        if r.op == OP_LOOKUP and r.error == ENOENT:
            reply_missing(r)
        else:
            fuse_reply_err(r.req, r.error)
    elif r.out is NULL:
        fuse_reply_err(r.req, 0)
    else:
        if r.opened is not NULL:
            # Nobody reads of it before a page cache that is being filled has its pages: see prefill.
            pthread_mutex_lock(&r.engine.fill_lock)
            pthread_mutex_unlock(&r.engine.fill_lock)
        result = fuse_reply_buf(r.req, r.out, r.out_size)
        return not (result == -ENOENT and (r.opened is not NULL or r.looked_up))
    return r.opened is NULL and not r.looked_up


cdef int undo(request_t* r, object handlers) except -1:
    cdef handle_t* handle = r.opened
    r.opened = NULL
    try:
        if handle is not NULL:
            handler = handlers[OP_RELEASEDIR if r.op == OP_OPENDIR else OP_RELEASE]
            if handler is not None:
                end_context(r)
                see_to(r, handler(context(r), r.looked_up or r.ino, <object>handle.fi))
        if r.looked_up and (r.engine.tree is NULL or not forget_node(r.engine, r.looked_up, 1)):
            forget(r, handlers, r.looked_up)
    except Exception as error:
        log.error("%s could not be undone", describe(r), exc_info=error)
    finally:
        if handle is not NULL:
            Py_XDECREF(handle.fi)
            handle_free(r.engine, handle)
    return 0


cdef void release_handle(request_t* r) noexcept:
    cdef handle_t* handle = r.handle
    r.handle = NULL
    if handle is not NULL:
        Py_XDECREF(handle.fi)
        handle_free(r.engine, handle)


cdef void clear(request_t* r) noexcept:
    end_context(r)
    Py_XDECREF(r.fi)
    r.fi = NULL
    Py_XDECREF(r.keep)
    r.keep = NULL
