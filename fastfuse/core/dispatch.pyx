"""libfuse's callbacks: each notes its arguments, then a hit answers or the request is left to the worker loop.

No Python runs below a callback, and nothing is copied: names and data stay in the buffer that they came in.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset
from posix.types cimport dev_t, mode_t, off_t

from fastfuse.core.hits cimport forget_node, serve
from fastfuse.core.libfuse cimport (
    flock_t, fuse_bufvec, fuse_ctx, fuse_file_info, fuse_forget_data, fuse_in_header,
    fuse_ino_t, fuse_lowlevel_ops, fuse_pollhandle, fuse_release_in, fuse_reply_none, fuse_req_ctx, fuse_req_t,
    fuse_write_in, stat_t,
)
from fastfuse.core.platform cimport after_request, bump
from fastfuse.core.state cimport *

cdef extern from *:
    """
    static __thread void *ff_worker;
    """
    void* current_worker "ff_worker"


cdef void set_worker(worker_t* w) noexcept nogil:
    global current_worker
    current_worker = w


cdef inline request_t* begin(fuse_req_t req, int op, fuse_ino_t ino) noexcept nogil:
    cdef worker_t* w = <worker_t*>current_worker
    cdef request_t* r = &w.request
    cdef const fuse_ctx* ctx = fuse_req_ctx(req)
    cdef int64_t began = r.began
    memset(r, 0, sizeof(request_t) - sizeof(r.small))
    r.req = req
    r.engine = w.engine
    r.worker = w
    r.op = op
    r.ino = ino
    r.unique = (<fuse_in_header*>w.buf.mem).unique
    r.uid = ctx.uid
    r.gid = ctx.gid
    r.pid = ctx.pid
    r.umask = ctx.umask
    r.began = began
    bump(&w.counters[op].requests, 1)
    return r


cdef inline void with_fi(request_t* r, fuse_file_info* fi) noexcept nogil:
    # Only fields whose places never moved; the bits are taken from the kernel's own message.
    if fi is not NULL:
        r.has_fi = True
        r.handle = <handle_t*>fi.fh
        after_request(r.handle)
        r.lock_owner = fi.lock_owner


cdef inline void end(request_t* r) noexcept nogil:
    if serve(r, r.began):
        r.req = NULL
        bump(&r.worker.counters[r.op].hits, 1)


cdef inline const char* message(request_t* r) noexcept nogil:
    return <const char*>r.worker.buf.mem + sizeof(fuse_in_header)


cdef void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept nogil:
    cdef request_t* r = begin(req, OP_LOOKUP, parent)
    r.name = name
    end(r)


cdef void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup) noexcept nogil:
    cdef request_t* r = begin(req, OP_FORGET, ino)
    r.nlookup = nlookup
    end(r)


cdef void on_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) noexcept nogil:
    # The tree's nodes now; the others, moved together in libfuse's array, by the handler.
    cdef request_t* r = begin(req, OP_FORGET, 0)
    cdef size_t i
    cdef size_t left = 0
    for i in range(count):
        if r.engine.tree is NULL or not forget_node(r.engine, forgets[i].ino, forgets[i].nlookup):
            forgets[left] = forgets[i]
            left += 1
    if left and r.engine.handled[OP_FORGET]:
        r.data = <const char*>forgets
        r.size = left
    else:
        fuse_reply_none(req)
        r.req = NULL
        bump(&r.worker.counters[OP_FORGET].hits, 1)


cdef void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_GETATTR, ino)
    with_fi(r, fi)
    end(r)


cdef void on_setattr(fuse_req_t req, fuse_ino_t ino, stat_t* attr, int to_set, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_SETATTR, ino)
    with_fi(r, fi)
    r.attr = attr[0]
    r.to_set = to_set
    end(r)


cdef void on_readlink(fuse_req_t req, fuse_ino_t ino) noexcept nogil:
    end(begin(req, OP_READLINK, ino))


cdef void on_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) noexcept nogil:
    cdef request_t* r = begin(req, OP_MKNOD, parent)
    r.name = name
    r.mode = mode
    r.nlookup = rdev
    end(r)


cdef void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) noexcept nogil:
    cdef request_t* r = begin(req, OP_MKDIR, parent)
    r.name = name
    r.mode = mode
    end(r)


cdef void on_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept nogil:
    cdef request_t* r = begin(req, OP_UNLINK, parent)
    r.name = name
    end(r)


cdef void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept nogil:
    cdef request_t* r = begin(req, OP_RMDIR, parent)
    r.name = name
    end(r)


cdef void on_symlink(fuse_req_t req, const char* link, fuse_ino_t parent, const char* name) noexcept nogil:
    cdef request_t* r = begin(req, OP_SYMLINK, parent)
    r.name = name
    r.name2 = link
    end(r)


cdef void on_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t newparent, const char* newname,
                    unsigned flags) noexcept nogil:
    cdef request_t* r = begin(req, OP_RENAME, parent)
    r.name = name
    r.ino2 = newparent
    r.name2 = newname
    r.flags = flags
    end(r)


cdef void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char* newname) noexcept nogil:
    cdef request_t* r = begin(req, OP_LINK, ino)
    r.ino2 = newparent
    r.name = newname
    end(r)


cdef void on_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_OPEN, ino)
    r.flags = fi.flags
    end(r)


cdef void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_READ, ino)
    with_fi(r, fi)
    r.flags = fi.flags
    r.size = size
    r.off = off
    bump(&r.worker.bytes_read, size)
    end(r)


cdef void on_write(fuse_req_t req, fuse_ino_t ino, const char* buf, size_t size, off_t off,
                   fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_WRITE, ino)
    with_fi(r, fi)
    r.flags = fi.flags
    r.data = buf
    r.size = size
    r.off = off
    r.write_flags = (<fuse_write_in*>message(r)).write_flags
    bump(&r.worker.bytes_written, size)
    end(r)


cdef void on_flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_FLUSH, ino)
    with_fi(r, fi)
    end(r)


cdef void on_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_RELEASE, ino)
    with_fi(r, fi)
    r.flags = fi.flags
    r.release_flags = (<fuse_release_in*>message(r)).release_flags
    end(r)


cdef void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_FSYNC, ino)
    with_fi(r, fi)
    r.to_set = datasync
    end(r)


cdef void on_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_OPENDIR, ino)
    r.flags = fi.flags
    end(r)


cdef void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_READDIR, ino)
    with_fi(r, fi)
    r.size = size
    r.off = off
    end(r)


cdef void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_READDIRPLUS, ino)
    with_fi(r, fi)
    r.size = size
    r.off = off
    end(r)


cdef void on_releasedir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_RELEASEDIR, ino)
    with_fi(r, fi)
    end(r)


cdef void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_FSYNCDIR, ino)
    with_fi(r, fi)
    r.to_set = datasync
    end(r)


cdef void on_statfs(fuse_req_t req, fuse_ino_t ino) noexcept nogil:
    end(begin(req, OP_STATFS, ino))


cdef void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                      int flags) noexcept nogil:
    cdef request_t* r = begin(req, OP_SETXATTR, ino)
    r.name = name
    r.data = value
    r.size = size
    r.flags = flags
    end(r)


cdef void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) noexcept nogil:
    cdef request_t* r = begin(req, OP_GETXATTR, ino)
    r.name = name
    r.size = size
    end(r)


cdef void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) noexcept nogil:
    cdef request_t* r = begin(req, OP_LISTXATTR, ino)
    r.size = size
    end(r)


cdef void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) noexcept nogil:
    cdef request_t* r = begin(req, OP_REMOVEXATTR, ino)
    r.name = name
    end(r)


cdef void on_access(fuse_req_t req, fuse_ino_t ino, int mask) noexcept nogil:
    cdef request_t* r = begin(req, OP_ACCESS, ino)
    r.flags = mask
    end(r)


cdef void on_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                    fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_CREATE, parent)
    r.name = name
    r.mode = mode
    r.flags = fi.flags
    end(r)


cdef void on_getlk(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, flock_t* lock) noexcept nogil:
    cdef request_t* r = begin(req, OP_GETLK, ino)
    with_fi(r, fi)
    r.lock = lock[0]
    end(r)


cdef void on_setlk(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, flock_t* lock, int sleep) noexcept nogil:
    cdef request_t* r = begin(req, OP_SETLK, ino)
    with_fi(r, fi)
    r.lock = lock[0]
    r.flags = sleep
    end(r)


cdef void on_bmap(fuse_req_t req, fuse_ino_t ino, size_t blocksize, uint64_t idx) noexcept nogil:
    cdef request_t* r = begin(req, OP_BMAP, ino)
    r.size = blocksize
    r.nlookup = idx
    end(r)


cdef void on_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void* arg, fuse_file_info* fi, unsigned flags,
                   const void* in_buf, size_t in_bufsz, size_t out_bufsz) noexcept nogil:
    cdef request_t* r = begin(req, OP_IOCTL, ino)
    with_fi(r, fi)
    r.to_set = <int>cmd
    r.arg = arg
    r.flags = flags
    r.data = <const char*>in_buf
    r.size = in_bufsz
    r.length = out_bufsz
    end(r)


cdef void on_poll(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, fuse_pollhandle* ph) noexcept nogil:
    cdef request_t* r = begin(req, OP_POLL, ino)
    with_fi(r, fi)
    r.ph = ph
    r.poll_events = fi.poll_events
    end(r)


cdef void on_retrieve_reply(fuse_req_t req, void* cookie, fuse_ino_t ino, off_t offset,
                            fuse_bufvec* bufv) noexcept nogil:
    cdef request_t* r = begin(req, OP_RETRIEVE_REPLY, ino)
    r.arg = cookie
    r.off = offset
    r.data = <const char*>bufv.buf[0].mem
    r.size = bufv.buf[0].size
    end(r)


cdef void on_flock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, int op) noexcept nogil:
    cdef request_t* r = begin(req, OP_FLOCK, ino)
    with_fi(r, fi)
    r.flags = op
    end(r)


cdef void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                       fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_FALLOCATE, ino)
    with_fi(r, fi)
    r.flags = mode
    r.off = offset
    r.length = length
    end(r)


cdef void on_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, fuse_file_info* fi_in,
                             fuse_ino_t ino_out, off_t off_out, fuse_file_info* fi_out, size_t len,
                             int flags) noexcept nogil:
    cdef request_t* r = begin(req, OP_COPY_FILE_RANGE, ino_in)
    with_fi(r, fi_in)
    r.off = off_in
    r.ino2 = ino_out
    r.off2 = off_out
    r.handle2 = <handle_t*>fi_out.fh
    r.length = len
    r.flags = flags
    end(r)


cdef void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_LSEEK, ino)
    with_fi(r, fi)
    r.off = off
    r.flags = whence
    end(r)


# 3.17: void (*tmpfile)(fuse_req_t, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
cdef void on_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_TMPFILE, parent)
    r.mode = mode
    r.flags = fi.flags
    end(r)


# 3.18: void (*statx)(fuse_req_t, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi)
cdef void on_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, fuse_file_info* fi) noexcept nogil:
    cdef request_t* r = begin(req, OP_STATX, ino)
    with_fi(r, fi)
    r.flags = flags
    r.to_set = mask
    end(r)


# What to announce: handled by Python, or known to a tree. What is left NULL libfuse answers with ENOSYS, after which
# the kernel stops asking (for open, opendir, release and the like: libfuse says yes).
cdef void fill_ops(fuse_lowlevel_ops* ops, engine_t* e) noexcept nogil:
    cdef bint* h = e.handled
    cdef bint tree = e.tree is not NULL
    if h[OP_LOOKUP] or tree: ops.lookup = on_lookup
    if h[OP_FORGET] or tree:
        ops.forget = on_forget
        ops.forget_multi = on_forget_multi
    if h[OP_GETATTR] or tree: ops.getattr = on_getattr
    if h[OP_SETATTR]: ops.setattr = on_setattr
    if h[OP_READLINK] or tree: ops.readlink = on_readlink
    if h[OP_MKNOD]: ops.mknod = on_mknod
    if h[OP_MKDIR]: ops.mkdir = on_mkdir
    if h[OP_UNLINK]: ops.unlink = on_unlink
    if h[OP_RMDIR]: ops.rmdir = on_rmdir
    if h[OP_SYMLINK]: ops.symlink = on_symlink
    if h[OP_RENAME]: ops.rename = on_rename
    if h[OP_LINK]: ops.link = on_link
    if h[OP_OPEN] or tree: ops.open = on_open
    if h[OP_READ] or h[OP_OPEN] or tree: ops.read = on_read
    if h[OP_WRITE]: ops.write = on_write
    if h[OP_FLUSH]: ops.flush = on_flush
    # Opens that a handler has seen have a handle to free.
    if h[OP_RELEASE] or h[OP_OPEN] or h[OP_CREATE] or h[OP_TMPFILE] or tree:
        ops.release = on_release
    if h[OP_FSYNC]: ops.fsync = on_fsync
    if h[OP_OPENDIR] or tree: ops.opendir = on_opendir
    if h[OP_READDIR] or tree: ops.readdir = on_readdir
    if h[OP_READDIRPLUS] or tree: ops.readdirplus = on_readdirplus
    if h[OP_RELEASEDIR] or h[OP_OPENDIR] or tree: ops.releasedir = on_releasedir
    if h[OP_FSYNCDIR]: ops.fsyncdir = on_fsyncdir
    if h[OP_STATFS] or tree: ops.statfs = on_statfs
    if h[OP_SETXATTR]: ops.setxattr = on_setxattr
    if h[OP_GETXATTR]: ops.getxattr = on_getxattr
    if h[OP_LISTXATTR]: ops.listxattr = on_listxattr
    if h[OP_REMOVEXATTR]: ops.removexattr = on_removexattr
    if h[OP_ACCESS] or tree: ops.access = on_access
    if h[OP_CREATE]: ops.create = on_create
    if h[OP_GETLK]: ops.getlk = on_getlk
    if h[OP_SETLK]: ops.setlk = on_setlk
    if h[OP_BMAP]: ops.bmap = on_bmap
    if h[OP_IOCTL]: ops.ioctl = on_ioctl
    if h[OP_POLL]: ops.poll = on_poll
    # The answer to notify_retrieve: also when nobody wants it, a buffer must be taken in.
    if h[OP_RETRIEVE_REPLY]: ops.retrieve_reply = on_retrieve_reply
    if h[OP_FLOCK]: ops.flock = on_flock
    if h[OP_FALLOCATE]: ops.fallocate = on_fallocate
    if h[OP_COPY_FILE_RANGE]: ops.copy_file_range = on_copy_file_range
    if h[OP_LSEEK]: ops.lseek = on_lseek
    # Younger than the headers may be; fuse_session_new is told a size that the running libfuse knows.
    if h[OP_TMPFILE]: (<void**>&ops.lseek)[1] = <void*>on_tmpfile
    if h[OP_STATX]: (<void**>&ops.lseek)[2] = <void*>on_statx
