"""Hits: what the tree knows is answered here, without the GIL."""

from libc.errno cimport EACCES, EFAULT, EIO, ENOENT, ENOMEM, ENOSYS, EPERM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strerror, strlen
from posix.fcntl cimport O_ACCMODE, O_RDONLY, O_TRUNC
from posix.stat cimport S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from fastfuse.core.content cimport content_ref, content_t, content_unref, content_untouched
from fastfuse.core.libfuse cimport (
    FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, FOPEN_PASSTHROUGH, FUSE_DEV_IOC_BACKING_OPEN, FUSE_NAME_OFFSET, fuse_attr_out,
    fuse_backing_map, fuse_bufvec, fuse_dirent, fuse_direntplus, fuse_entry_out, fuse_lowlevel_notify_store, fuse_open_out,
    fuse_out_header, fuse_reply_buf, fuse_reply_err, fuse_reply_none, fuse_reply_statfs, statvfs_t,
)
from fastfuse.core.platform cimport (
    atomic_add, atomic_load, atomic_load32, atomic_or, atomic_store32, before_answer, ioctl,
    kernel_copied, kernel_copies, pread, pthread_mutex_lock, pthread_mutex_unlock,
    pthread_rwlock_rdlock, pthread_rwlock_unlock, write_fd,
)
from fastfuse.core.state cimport (
    OP_ACCESS, OP_FLUSH, OP_FORGET, OP_GETATTR, OP_LINK, OP_LOOKUP, OP_MKDIR, OP_MKNOD, OP_OPEN, OP_OPENDIR, OP_READ,
    OP_READDIR, OP_READDIRPLUS, OP_READLINK, OP_RELEASE, OP_RELEASEDIR, OP_STATFS, OP_SYMLINK, SCRATCH, engine_t, handle_t, request_t,
)
from fastfuse.core.tree cimport (
    DIR_COMPLETE, DIR_NEGATIVE, NODE_ORPHAN, content_used, dirent_size, fill_attr, fill_entry,
    fill_timeout, listing_t, listing_unref, node_at, node_child, node_known, node_listed, node_retired, node_t,
    tree_build_listing, tree_closed, tree_expire, tree_forget, tree_retire, tree_t,
)

cdef enum:
    PREFILL = 16 << 10      # bytes of a file that go into the page cache with its first open; why so many: ARCHITECTURE.md


cdef void call_service(engine_t* e) noexcept nogil:
    cdef uint64_t one = 1
    write_fd(e.attention_fd, &one, sizeof(one))


# ---- handles ----------------------------------------------------------------------------------------------------

cdef handle_t* handle_new(engine_t* e) noexcept nogil:
    cdef handle_t* handle = <handle_t*>calloc(1, sizeof(handle_t))
    if handle is not NULL:
        pthread_mutex_lock(&e.lock)
        handle.next = e.handles.next
        handle.prev = &e.handles
        handle.next.prev = handle
        e.handles.next = handle
        pthread_mutex_unlock(&e.lock)
    return handle


cdef void handle_free(engine_t* e, handle_t* handle) noexcept nogil:
    cdef bint dead = False
    if handle is NULL:
        return
    pthread_mutex_lock(&e.lock)
    handle.prev.next = handle.next
    handle.next.prev = handle.prev
    pthread_mutex_unlock(&e.lock)
    if handle.content is not NULL:
        dead = content_unref(handle.content)
    if handle.by_handler:
        atomic_add(&e.by_handlers, -1)
    if handle.node is not NULL:
        dead = tree_closed(e.tree, handle.node) or dead
    listing_unref(handle.listing)
    free(handle)
    if dead:
        call_service(e)


# ---- names and attributes ---------------------------------------------------------------------------------------

cdef int reply_missing(request_t* r) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef fuse_entry_out out
    cdef node_t* parent
    if t is NULL or t.negative_ns == 0:
        return fuse_reply_err(r.req, ENOENT)
    pthread_rwlock_rdlock(&t.lock)
    parent = node_at(t, r.ino)
    if parent is not NULL and parent.dir is not NULL:
        atomic_or(&parent.dir.flags, DIR_NEGATIVE)
    pthread_rwlock_unlock(&t.lock)
    memset(&out, 0, sizeof(out))
    fill_timeout(t.negative_ns, &out.entry_valid, &out.entry_valid_nsec)
    return fuse_reply_buf(r.req, <char*>&out, sizeof(out))


# The entry (r.ino, r.name), counted as a lookup. What is not there or not fresh is *missing* if nobody need be asked.
cdef bint take_entry(request_t* r, fuse_entry_out* out, int64_t now, bint* missing) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef node_t* parent
    cdef node_t* node = NULL
    cdef bint retire = False, found = False
    pthread_rwlock_rdlock(&t.lock)
    parent = node_at(t, r.ino)
    if parent is not NULL and parent.dir is not NULL:
        node = node_child(t, parent, r.name, strlen(r.name))
        if node is NULL:
            missing[0] = not t.ask or (parent.dir.flags & DIR_COMPLETE and parent.dir.expiry > now)
        elif node.entry_expiry > now and node.attr_expiry > now:
            retire = node_retired(node, now)
            if not retire:
                found = True
                node_known(t, node)
                fill_entry(node, out)
    pthread_rwlock_unlock(&t.lock)
    if retire:
        tree_retire(t, node)
    return found


cdef bint hit_lookup(request_t* r, int64_t now) noexcept nogil:
    cdef fuse_entry_out out
    cdef bint missing = False
    if take_entry(r, &out, now, &missing):
        if fuse_reply_buf(r.req, <char*>&out, sizeof(out)) == -ENOENT and tree_forget(r.engine.tree, out.nodeid, 1):
            call_service(r.engine)
        return True
    if missing:
        reply_missing(r)
    return missing


cdef bint hit_getattr(request_t* r, int64_t now) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef fuse_attr_out out
    cdef node_t* node
    cdef bint found
    pthread_rwlock_rdlock(&t.lock)
    node = node_at(t, r.ino)
    # What was said last stays where nobody can be asked: an orphan has no path any more.
    found = node is not NULL and (
        node.attr_expiry > now or node.flags & NODE_ORPHAN or not r.engine.handled[OP_GETATTR])
    if found:
        fill_attr(node, &out)
    pthread_rwlock_unlock(&t.lock)
    if found:
        fuse_reply_buf(r.req, <char*>&out, sizeof(out))
    return found


cdef bint hit_readlink(request_t* r, int64_t now) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef content_t* content = NULL
    cdef node_t* node
    pthread_rwlock_rdlock(&t.lock)
    node = node_at(t, r.ino)
    if (node is not NULL and node.attr.mode & S_IFMT == S_IFLNK and node.content is not NULL
            and (node.content_expiry > now or node.flags & NODE_ORPHAN)):
        content = node.content
        content_ref(content)
    pthread_rwlock_unlock(&t.lock)
    if content is NULL:
        return False
    fuse_reply_buf(r.req, content.data, content.size)
    if content_unref(content):
        call_service(r.engine)
    return True


cdef bint hit_access(request_t* r, int64_t now) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef node_t* node
    cdef uint32_t mode, uid, gid
    pthread_rwlock_rdlock(&t.lock)
    node = node_at(t, r.ino)
    if node is not NULL:
        mode = node.attr.mode
        uid = node.attr.uid
        gid = node.attr.gid
    pthread_rwlock_unlock(&t.lock)
    if node is NULL:
        return False
    # access(2)'s rule; supplementary groups are the kernel's business (the mount option default_permissions).
    if r.uid == 0:
        mode = 6 if mode & S_IFMT != S_IFDIR and not mode & 0o111 else 7
    elif r.uid == uid:
        mode >>= 6
    elif r.gid == gid:
        mode >>= 3
    fuse_reply_err(r.req, EACCES if r.flags & ~mode & 7 else 0)
    return True


cdef bint hit_statfs(request_t* r, int64_t now) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef statvfs_t out
    if r.engine.handled[OP_STATFS]:
        return False
    memset(&out, 0, sizeof(out))
    out.f_bsize = out.f_frsize = 4096
    out.f_namemax = 255
    pthread_rwlock_rdlock(&t.lock)
    out.f_blocks = (t.bytes + 4095) // 4096
    out.f_files = t.count + 1
    pthread_rwlock_unlock(&t.lock)
    fuse_reply_statfs(r.req, &out)
    return True


# ---- files ------------------------------------------------------------------------------------------------------

# The id by which the kernel reads an open file by itself, 0: it cannot. An inode has one as long as its content, since the
# kernel takes no second one while it is open, nor a mixture of both ways.
cdef int backing(engine_t* e, node_t* node, content_t* content) noexcept nogil:
    cdef fuse_backing_map said
    if content.fd < 0:
        return 0
    pthread_mutex_lock(&e.backing_lock)
    if node.backing_id == 0 and e.passthrough and not content.unbacked:
        memset(&said, 0, sizeof(said))
        said.fd = content.fd
        node.backing_id = ioctl(e.fd, FUSE_DEV_IOC_BACKING_OPEN, &said)
        if node.backing_id <= 0:
            node.backing_id = 0
            content.unbacked = True
            if e.no_passthrough is NULL:
                e.no_passthrough = strerror(errno)
            if errno == EPERM:
                e.passthrough = False
    if node.backing_id:
        e.backing_opened += 1
    else:
        e.backing_refused += 1
        if e.no_passthrough is NULL:
            e.no_passthrough = b"this file was refused before"
        if e.backing_refused == 1:
            call_service(e)     # which says so in the log
    pthread_mutex_unlock(&e.backing_lock)
    return node.backing_id


# Put a small file's bytes into the kernel's page cache, so that its reader need not ask for them. The kernel locks the
# pages for that, and would wait for who reads them, who may wait for this thread: so nobody else may have the file open,
# nor get an open of it answered meanwhile.
cdef bint prefill(engine_t* e, node_t* node, content_t* content) noexcept nogil:
    cdef fuse_bufvec vec
    cdef bint done = False
    pthread_mutex_lock(&e.fill_lock)
    if (0 < content.size <= PREFILL and content.fd < 0 and atomic_load(&node.opens) == 1
            and atomic_load(&e.by_handlers) == 0 and not atomic_load32(&node.cached)):
        memset(&vec, 0, sizeof(vec))
        vec.count = 1
        vec.buf[0].size = content.size
        vec.buf[0].mem = <void*>content.data
        kernel_copies()
        done = fuse_lowlevel_notify_store(e.se, node.attr.ino, 0, &vec, 0) == 0
        kernel_copied()
        if done:
            atomic_store32(&node.cached, 1)
            atomic_add(&e.prefilled, 1)
    pthread_mutex_unlock(&e.fill_lock)
    return done


cdef bint hit_open(request_t* r, int64_t now) noexcept nogil:
    cdef engine_t* e = r.engine
    cdef tree_t* t = e.tree
    cdef fuse_open_out out
    cdef handle_t* handle
    cdef node_t* node
    cdef content_t* content = NULL
    cdef bint dead
    cdef int backing_id
    if r.flags & O_ACCMODE != O_RDONLY or r.flags & O_TRUNC:
        return False
    if e.immutable:
        # The kernel stops asking, and reads come without a handle.
        fuse_reply_err(r.req, ENOSYS)
        return True
    memset(&out, 0, sizeof(out))
    pthread_rwlock_rdlock(&t.lock)
    node = node_at(t, r.ino)
    if node is not NULL and node.attr.mode & S_IFMT == S_IFREG and node.content is not NULL:
        # While it is open, an inode keeps its content, fresh or not: a file never tears.
        if node.content_expiry > now or atomic_load(&node.opens) > 0 or node.flags & NODE_ORPHAN:
            content = node.content
            content_ref(content)
            content_used(t, content)
            atomic_add(&node.opens, 1)
            if atomic_load32(&node.cached):
                out.open_flags = FOPEN_KEEP_CACHE
    pthread_rwlock_unlock(&t.lock)
    if content is NULL:
        return False
    if e.handled[OP_OPEN] and atomic_load(&node.opens) == 1 and not content_untouched(content):
        # Its handler can say what the file holds now. While somebody has it open, it stays as it is.
        tree_expire(t, node, content)
        dead = content_unref(content)
        dead = tree_closed(t, node) or dead
        if dead:
            call_service(e)
        return False
    backing_id = backing(e, node, content)
    if backing_id:
        out.open_flags = FOPEN_PASSTHROUGH
        (<int*>(<char*>&out + 12))[0] = backing_id
    elif prefill(e, node, content):
        out.open_flags = FOPEN_KEEP_CACHE
    handle = handle_new(e)
    if handle is NULL:
        tree_closed(t, node)
        content_unref(content)
        fuse_reply_err(r.req, ENOMEM)
        return True
    handle.node = node
    handle.content = content
    before_answer(handle)
    out.fh = <uint64_t>handle
    if fuse_reply_buf(r.req, <char*>&out, sizeof(out)) == -ENOENT:
        handle_free(e, handle)
    return True


cdef int reply_content(request_t* r, content_t* content) noexcept nogil:
    cdef fuse_out_header lost
    cdef int64_t size = content.size - r.off
    cdef const char* data = content.data
    cdef int fd = content.fd
    cdef int64_t n
    cdef int result
    # Whoever gets the next request may free the content: it is not looked at once the answer goes.
    before_answer(content)
    if size <= 0 or r.off < 0:
        return fuse_reply_buf(r.req, NULL, 0)
    if size > <int64_t>r.size:
        size = r.size
    if fd < 0:
        kernel_copies()
        result = fuse_reply_buf(r.req, data + r.off, size)
        kernel_copied()
        if result == -EFAULT:
            # The memory is gone (an mmap of a file that was truncated), libfuse has let go of the request, and its
            # caller still waits.
            lost.len = sizeof(lost)
            lost.error = -EIO
            lost.unique = r.unique
            write_fd(r.engine.fd, &lost, sizeof(lost))
        return result
    if size > SCRATCH:
        size = SCRATCH
    n = 0
    while n < size:
        result = pread(fd, r.worker.scratch + n, size - n, r.off + n)
        if result <= 0:
            # Shorter than it was when it was opened: a wrong size must not look like an end of file.
            return fuse_reply_err(r.req, errno if result < 0 else EIO)
        n += result
    return fuse_reply_buf(r.req, r.worker.scratch, size)


# The kernel reads of an open file: its page cache is of this content from now on. Not from the open on: one that said
# KEEP_CACHE, while the kernel was not done yet with one that did not, would keep the pages of an earlier content.
cdef inline void note_read(request_t* r) noexcept nogil:
    cdef handle_t* handle = r.handle
    if handle.node is not NULL and not atomic_load32(&handle.read):
        atomic_store32(&handle.read, 1)
        pthread_rwlock_rdlock(&r.engine.tree.lock)
        if handle.listing is NULL or handle.listing is handle.node.dir.listing:
            atomic_store32(&handle.node.cached, 1)
        pthread_rwlock_unlock(&r.engine.tree.lock)


cdef bint hit_read(request_t* r, int64_t now) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef content_t* content = NULL
    cdef node_t* node
    if r.handle is not NULL:
        if r.handle.content is NULL:
            return False
        note_read(r)
        content = r.handle.content
        before_answer(r.handle)
        reply_content(r, content)
        return True
    if t is NULL:
        return False
    pthread_rwlock_rdlock(&t.lock)
    node = node_at(t, r.ino)
    if node is not NULL and node.content is not NULL and node.attr.mode & S_IFMT == S_IFREG:
        content = node.content
        content_ref(content)
    pthread_rwlock_unlock(&t.lock)
    if content is NULL:
        return False
    reply_content(r, content)
    if content_unref(content):
        call_service(r.engine)
    return True


cdef bint hit_release(request_t* r, int64_t now) noexcept nogil:
    cdef handle_t* handle = r.handle
    # A handle that a handler has seen is released by a handler.
    if handle is not NULL and handle.fi is not NULL:
        return False
    if handle is NULL and r.engine.handled[r.op] and (r.engine.tree is NULL or node_of(r) is NULL):
        return False
    handle_free(r.engine, handle)
    fuse_reply_err(r.req, 0)
    return True


cdef bint hit_flush(request_t* r, int64_t now) noexcept nogil:
    # Opened in C, for reading: there is nothing to flush.
    if r.handle is NULL or r.handle.fi is not NULL:
        return False
    fuse_reply_err(r.req, 0)
    return True


cdef node_t* node_of(request_t* r) noexcept nogil:
    cdef node_t* node
    pthread_rwlock_rdlock(&r.engine.tree.lock)
    node = node_at(r.engine.tree, r.ino)
    pthread_rwlock_unlock(&r.engine.tree.lock)
    return node


# ---- directories ------------------------------------------------------------------------------------------------

# A reference to the directory's listing, and where it ends now. NULL: not known.
cdef listing_t* listing_of(request_t* r, int64_t now, node_t** found, size_t* end, bint* cached) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef listing_t* listing = NULL
    cdef node_t* node
    cdef bint build
    cdef int tries
    for tries in range(2):
        pthread_rwlock_rdlock(&t.lock)
        node = node_at(t, r.ino)
        if node is not NULL and node.dir is not NULL:
            if node.dir.listing is not NULL and node.dir.expiry > now:
                listing = node.dir.listing
                atomic_add(&listing.refs, 1)
                end[0] = listing.size
                cached[0] = atomic_load32(&node.cached) != 0
                atomic_add(&node.opens, 1)
                found[0] = node
        build = listing is NULL and node is not NULL and node.dir is not NULL and not r.engine.handled[OP_OPENDIR]
        pthread_rwlock_unlock(&t.lock)
        # Nobody else says what is in it, so its children are all.
        if not build or not tree_build_listing(t, node):
            break
    return listing


cdef bint hit_opendir(request_t* r, int64_t now) noexcept nogil:
    cdef engine_t* e = r.engine
    cdef fuse_open_out out
    cdef handle_t* handle
    cdef node_t* node = NULL
    cdef bint cached = False
    cdef size_t end = 0
    cdef listing_t* listing
    if e.immutable:
        fuse_reply_err(r.req, ENOSYS)
        return True
    listing = listing_of(r, now, &node, &end, &cached)
    if listing is NULL:
        return False
    handle = handle_new(e)
    if handle is NULL:
        listing_unref(listing)
        tree_closed(e.tree, node)
        fuse_reply_err(r.req, ENOMEM)
        return True
    handle.node = node
    handle.listing = listing
    handle.end = end
    before_answer(handle)
    memset(&out, 0, sizeof(out))
    out.fh = <uint64_t>handle
    out.open_flags = FOPEN_CACHE_DIR | (FOPEN_KEEP_CACHE if cached else 0)
    if fuse_reply_buf(r.req, <char*>&out, sizeof(out)) == -ENOENT:
        handle_free(e, handle)
    return True


cdef bint hit_readdir(request_t* r, int64_t now) noexcept nogil:
    cdef engine_t* e = r.engine
    cdef listing_t* listing
    cdef node_t* node = NULL
    cdef size_t end = 0
    cdef bint cached
    if r.handle is not NULL:
        listing = r.handle.listing
        if listing is NULL:
            return False
        note_read(r)
        end = r.handle.end
        before_answer(r.handle)
        reply_listing(r, listing, end, now)
        return True
    if e.tree is NULL:
        return False
    listing = listing_of(r, now, &node, &end, &cached)
    if listing is NULL:
        return False
    reply_listing(r, listing, end, now)
    listing_unref(listing)
    if tree_closed(e.tree, node):
        call_service(e)
    return True


cdef void reply_listing(request_t* r, listing_t* listing, size_t end, int64_t now) noexcept nogil:
    cdef size_t start = <size_t>r.off
    cdef size_t position = start
    cdef size_t size
    cdef fuse_dirent* record
    if r.op == OP_READDIRPLUS:
        reply_listing_plus(r, listing, end, now)
        return
    # off is what the caller says (seekdir): take nothing for granted.
    while r.off >= 0 and r.off % 8 == 0 and position + FUSE_NAME_OFFSET < end:
        record = <fuse_dirent*>(listing.buf + position)
        size = dirent_size(record.namelen)
        if size > end - position or position + size - start > r.size:
            break
        position += size
    fuse_reply_buf(r.req, listing.buf + start if position > start else NULL, position - start)


cdef void reply_listing_plus(request_t* r, listing_t* listing, size_t end, int64_t now) noexcept nogil:
    cdef tree_t* t = r.engine.tree
    cdef size_t position = <size_t>r.off
    cdef size_t size, used = 0, most = r.size if r.size < SCRATCH else SCRATCH
    cdef fuse_dirent* record
    cdef fuse_direntplus* plus
    cdef const char* name
    cdef node_t* folder
    cdef node_t* node
    cdef bint dead = False
    pthread_rwlock_rdlock(&t.lock)
    folder = node_at(t, r.ino)
    while r.off >= 0 and r.off % 8 == 0 and position + FUSE_NAME_OFFSET < end:
        record = <fuse_dirent*>(listing.buf + position)
        size = dirent_size(record.namelen)
        if size > end - position or used + size + sizeof(fuse_entry_out) > most:
            break
        plus = <fuse_direntplus*>(r.worker.scratch + used)
        memcpy(&plus.dirent, record, size)
        name = <char*>record + FUSE_NAME_OFFSET
        node = NULL
        if not (name[0] == b"." and (record.namelen == 1 or (record.namelen == 2 and name[1] == b"."))):
            if folder is not NULL and folder.dir is not NULL:
                node = node_listed(t, folder, record)
        if node is not NULL and node.entry_expiry > now and node.attr_expiry > now:
            node_known(t, node)
            fill_entry(node, &plus.entry_out)
        else:
            memset(&plus.entry_out, 0, sizeof(fuse_entry_out))
        used += size + sizeof(fuse_entry_out)
        position += size
    pthread_rwlock_unlock(&t.lock)
    if fuse_reply_buf(r.req, r.worker.scratch, used) == -ENOENT:
        position = 0
        while position < used:
            plus = <fuse_direntplus*>(r.worker.scratch + position)
            if plus.entry_out.nodeid:
                dead = tree_forget(t, plus.entry_out.nodeid, 1) or dead
            position += dirent_size(plus.dirent.namelen) + sizeof(fuse_entry_out)
        if dead:
            call_service(r.engine)


cdef bint forget_node(engine_t* e, uint64_t ino, uint64_t nlookup) noexcept nogil:
    cdef tree_t* t = e.tree
    cdef bint mine
    pthread_rwlock_rdlock(&t.lock)
    mine = node_at(t, ino) is not NULL
    pthread_rwlock_unlock(&t.lock)
    if mine and tree_forget(t, ino, nlookup):
        call_service(e)
    return mine


cdef bint hit_forget(request_t* r, int64_t now) noexcept nogil:
    if not forget_node(r.engine, r.ino, r.nlookup):
        return False
    fuse_reply_none(r.req)
    return True


cdef bint serve_published(request_t* r, int64_t now) noexcept nogil:
    if r.op == OP_LINK:
        r.ino = r.ino2
    if r.op == OP_MKNOD or r.op == OP_MKDIR or r.op == OP_SYMLINK or r.op == OP_LINK:
        return hit_lookup(r, now)
    return serve(r, now)


cdef bint serve(request_t* r, int64_t now) noexcept nogil:
    cdef int op = r.op
    # An open handle knows what it is served from, with or without a tree.
    if op == OP_READ:
        return hit_read(r, now)
    if op == OP_RELEASE or op == OP_RELEASEDIR:
        return hit_release(r, now)
    if op == OP_READDIR or op == OP_READDIRPLUS:
        return hit_readdir(r, now)
    if op == OP_FLUSH:
        return hit_flush(r, now)
    if r.engine.tree is NULL:
        return False
    if op == OP_LOOKUP:
        return hit_lookup(r, now)
    if op == OP_GETATTR:
        return hit_getattr(r, now)
    if op == OP_OPEN:
        return hit_open(r, now)
    if op == OP_OPENDIR:
        return hit_opendir(r, now)
    if op == OP_READLINK:
        return hit_readlink(r, now)
    if op == OP_FORGET:
        return hit_forget(r, now)
    if op == OP_STATFS:
        return hit_statfs(r, now)
    if op == OP_ACCESS:
        return hit_access(r, now)
    return False
