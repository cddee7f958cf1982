"""The tree: a cache of what handlers said, and of what was published without being asked.

Hits read it from many threads without the GIL, under a lock for reading; facts are put in with the GIL held, under the
lock for writing. Whoever holds the lock never waits for the GIL, so a thread that sleeps with the GIL delays no hit:
while the lock is held, no object is made that the garbage collector tracks (collecting runs Python code).
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.stat cimport S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from fastfuse.core.content cimport Content, content_from, content_ref, content_t, content_unref, content_wrap, reap
from fastfuse.core.libfuse cimport (
    FUSE_NAME_OFFSET, fuse_attr, fuse_attr_out, fuse_dirent, fuse_entry_out,
)
from fastfuse.core.platform cimport (
    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP, atomic_add, atomic_load, monotonic_ns, pthread_mutex_destroy,
    pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock, pthread_rwlock_destroy, pthread_rwlock_init,
    pthread_rwlock_rdlock, pthread_rwlock_tryrdlock, pthread_rwlock_trywrlock, pthread_rwlock_unlock, pthread_rwlock_wrlock, pthread_rwlockattr_destroy, pthread_rwlockattr_init, pthread_rwlockattr_setkind_np, pthread_rwlockattr_t, wall_clock_ns,
)
from fastfuse.core.types cimport Attr, attr_from_kernel, attr_to_kernel, split_ns

from fastfuse.errors import FuseError

from errno import EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ESTALE

cdef enum:
    SLAB_BITS = 12
    SLAB = 1 << SLAB_BITS
    SLABS = 1 << 16         # 268 million nodes
    NAME_MAX = 1024         # FUSE_NAME_MAX
    UNKNOWN_INO = 0xffffffff    # FUSE_UNKNOWN_INO: listed, not looked up yet

FOREVER_NS = (<uint64_t>-1) >> 1
cdef int64_t FOREVER_SEC = 1 << 31      # what the kernel is told: 68 years


# ---- inode numbers ----------------------------------------------------------------------------------------------

cdef inline node_t* slot_node(tree_t* t, uint64_t slot) noexcept nogil:
    return t.slabs[slot >> SLAB_BITS] + (slot & (SLAB - 1))


cdef node_t* node_at(tree_t* t, uint64_t ino) noexcept nogil:
    cdef uint64_t slot = 0
    cdef node_t* node
    if ino != ROOT_INO:
        slot = ino - t.first_ino + 1
        if ino < t.first_ino or slot >= t.slots:
            return NULL
    node = slot_node(t, slot)
    return node if node.flags & NODE_USED else NULL


# The write lock is held. NULL: out of memory.
cdef node_t* node_allocate(tree_t* t) noexcept nogil:
    cdef node_t* node = t.free
    cdef node_t* slab
    cdef uint32_t generation
    if node is not NULL:
        t.free = node.bucket
        generation = node.generation
        memset(<char*>node + sizeof(fuse_attr), 0, sizeof(node_t) - sizeof(fuse_attr))
        node.generation = generation
        return node
    if t.slots & (SLAB - 1) == 0:
        if t.slots >> SLAB_BITS == SLABS:
            return NULL
        slab = <node_t*>calloc(SLAB, sizeof(node_t))
        if slab is NULL:
            return NULL
        t.slabs[t.slots >> SLAB_BITS] = slab
    node = slot_node(t, t.slots)
    node.attr.ino = ROOT_INO if t.slots == 0 else t.first_ino + t.slots - 1
    t.slots += 1
    return node


# ---- names ------------------------------------------------------------------------------------------------------

cdef inline uint32_t hash_name(tree_t* t, uint64_t parent, const char* name, size_t length) noexcept nogil:
    # Multiply-and-fold over 8-byte words, keyed, so that nobody can choose names that collide.
    cdef uint64_t h = t.seed ^ (parent * <uint64_t>0x9E3779B97F4A7C15)
    cdef uint64_t word
    cdef size_t left = length
    while left:
        word = 0
        memcpy(&word, name, 8 if left >= 8 else left)
        h = (h ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        h ^= h >> 32
        name += 8 if left >= 8 else left
        left -= 8 if left >= 8 else left
    h = (h ^ length) * <uint64_t>0xC4CEB9FE1A85EC53
    return <uint32_t>(h >> 32)


cdef node_t* node_child(tree_t* t, node_t* parent, const char* name, size_t length) noexcept nogil:
    cdef uint32_t h = hash_name(t, parent.attr.ino, name, length)
    cdef node_t* node = t.buckets[h & t.mask]
    while node is not NULL:
        if (node.hash == h and node.parent is parent and node.name_len == length
                and memcmp(node.name, name, length) == 0):
            return node
        node = node.bucket
    return NULL


# The node of a record of its directory's listing: found by its number, which names no other if the names are the same.
cdef node_t* node_listed(tree_t* t, node_t* parent, const fuse_dirent* record) noexcept nogil:
    cdef const char* name = <const char*>record + FUSE_NAME_OFFSET
    cdef node_t* node = node_at(t, record.ino)
    if (node is not NULL and node.parent is parent and node.name_len == record.namelen
            and memcmp(node.name, name, record.namelen) == 0):
        return node
    return node_child(t, parent, name, record.namelen)


cdef void grow_buckets(tree_t* t) noexcept nogil:
    cdef uint64_t mask = t.mask * 2 + 1
    cdef node_t** buckets = <node_t**>calloc(mask + 1, sizeof(node_t*))
    cdef node_t* node
    cdef node_t* following
    cdef uint64_t i
    if buckets is NULL:
        return              # longer chains, nothing worse
    for i in range(t.mask + 1):
        node = t.buckets[i]
        while node is not NULL:
            following = node.bucket
            node.bucket = buckets[node.hash & mask]
            buckets[node.hash & mask] = node
            node = following
    free(t.buckets)
    t.buckets = buckets
    t.mask = mask


# Put the node under a name: the caller's buffer of length + 1 bytes. The write lock is held.
cdef void node_attach(tree_t* t, node_t* node, node_t* parent, char* buf, const char* name,
                      size_t length) noexcept nogil:
    memcpy(buf, name, length)
    buf[length] = 0
    node.name = buf
    node.name_len = <uint16_t>length
    node.hash = hash_name(t, parent.attr.ino, name, length)
    if t.count > t.mask:
        grow_buckets(t)
    node.bucket = t.buckets[node.hash & t.mask]
    t.buckets[node.hash & t.mask] = node
    t.count += 1
    node.parent = parent
    node.next = NULL
    node.prev = parent.dir.last
    if node.prev is NULL:
        parent.dir.first = node
    else:
        node.prev.next = node
    parent.dir.last = node


# Take the name away, and its memory. The write lock is held.
cdef void node_detach(tree_t* t, node_t* node) noexcept nogil:
    cdef node_t** link = &t.buckets[node.hash & t.mask]
    cdef dir_t* folder = node.parent.dir
    while link[0] is not node:
        link = &link[0].bucket
    link[0] = node.bucket
    t.count -= 1
    if node.prev is NULL:
        folder.first = node.next
    else:
        node.prev.next = node.next
    if node.next is NULL:
        folder.last = node.prev
    else:
        node.next.prev = node.prev
    node.parent = node.next = node.prev = NULL
    free(node.name)
    node.name = NULL


# A new child without attributes. The write lock is held. NULL: out of memory.
cdef node_t* node_add(tree_t* t, node_t* parent, const char* name, size_t length, uint32_t mode) noexcept nogil:
    cdef char* buf = <char*>malloc(length + 1)
    cdef dir_t* folder = NULL
    cdef node_t* node = NULL
    if mode & S_IFMT == S_IFDIR:
        folder = <dir_t*>calloc(1, sizeof(dir_t))
    if buf is not NULL and (folder is not NULL or mode & S_IFMT != S_IFDIR):
        node = node_allocate(t)
    if node is NULL:
        free(buf)
        free(folder)
        return NULL
    node.flags = NODE_USED
    node.dir = folder
    node.attr.mode = mode
    node_attach(t, node, parent, buf, name, length)
    return node


# The node has no name any more; itself it stays. The write lock is held.
cdef void node_unlink(tree_t* t, node_t* node) noexcept nogil:
    node_detach(t, node)
    node.flags = (node.flags | NODE_ORPHAN) & ~(NODE_PUBLISHED | NODE_LISTED)


# ---- lives ------------------------------------------------------------------------------------------------------

# The write lock is held. True when there is something to reap.
cdef bint drop_content(tree_t* t, node_t* node) noexcept nogil:
    cdef content_t* content = node.content
    if content is NULL:
        return False
    node.content = NULL
    if node.backing_id:
        if t.notice is not NULL:
            t.notice(t.notice_to, NOTICE_BACKING, node.backing_id, NULL, 0)
        node.backing_id = 0
    t.bytes -= content.size
    if node.flags & NODE_KEPT:
        node.flags &= ~NODE_KEPT
        pthread_mutex_lock(&t.lru_lock)
        content.lru_prev.lru_next = content.lru_next
        content.lru_next.lru_prev = content.lru_prev
        content.lru_prev = content.lru_next = NULL
        content.node = NULL
        t.cached -= charge(content)
        pthread_mutex_unlock(&t.lru_lock)
    return content_unref(content)


cdef inline int64_t charge(content_t* content) noexcept nogil:
    # An empty content is not free: it keeps a node.
    return content.size + 512


# Free the node, and its parents, if nobody can name it any more. The write lock is held.
cdef bint release_node(tree_t* t, node_t* node) noexcept nogil:
    cdef bint dead = False
    cdef node_t* parent
    while node is not NULL and node.attr.ino != ROOT_INO:
        if atomic_load(&node.nlookup) > 0 or atomic_load(&node.opens) > 0:
            break
        if node.dir is not NULL and node.dir.first is not NULL:
            break
        if not node.flags & NODE_ORPHAN and (
                node.flags & (NODE_PUBLISHED | NODE_LISTED)
                or (node.content is not NULL and node.attr.mode & S_IFMT == S_IFREG)):
            break
        parent = node.parent
        if parent is not NULL:
            node_unlink(t, node)
        dead = drop_content(t, node) or dead
        if node.dir is not NULL:
            listing_unref(node.dir.listing)
            free(node.dir)
        node.dir = NULL
        node.flags = 0
        node.generation += 1
        node.bucket = t.free
        t.free = node
        node = parent
    return dead


cdef void node_known(tree_t* t, node_t* node) noexcept nogil:
    if atomic_add(&node.nlookup, 1) == 1:
        atomic_add(&t.known, 1)


cdef bint tree_forget(tree_t* t, uint64_t ino, uint64_t nlookup) noexcept nogil:
    cdef node_t* node
    cdef bint dead = False
    cdef int64_t left = 1
    pthread_rwlock_wrlock(&t.lock)
    node = node_at(t, ino)
    if node is not NULL and node.attr.ino != ROOT_INO:
        left = atomic_add(&node.nlookup, -<int64_t>nlookup)
        if left <= 0:
            node.nlookup = 0
            atomic_add(&t.known, -1)
            dead = release_node(t, node)
    pthread_rwlock_unlock(&t.lock)
    return dead


cdef bint tree_closed(tree_t* t, node_t* node) noexcept nogil:
    cdef bint dead = False
    cdef bint last
    # The count drops under the lock: a node whose opens are 0 may be gone at once.
    pthread_rwlock_wrlock(&t.lock)
    last = atomic_add(&node.opens, -1) == 0
    if last:
        if node.content is not NULL and node.content_expiry <= monotonic_ns():
            dead = drop_content(t, node)
        dead = release_node(t, node) or dead
    pthread_rwlock_unlock(&t.lock)
    return dead


cdef void tree_unmounted(tree_t* t) noexcept nogil:
    cdef uint64_t slot
    cdef node_t* node
    pthread_rwlock_wrlock(&t.lock)
    t.notice = NULL
    for slot in range(t.slots):
        node = slot_node(t, slot)
        if node.flags & NODE_USED:
            node.cached = 0
            node.backing_id = 0
            if node.nlookup:
                node.nlookup = 0
                release_node(t, node)
    t.known = 0
    pthread_rwlock_unlock(&t.lock)


cdef bint node_retired(node_t* node, int64_t now) noexcept nogil:
    return (node.content is not NULL and node.content_expiry <= now and atomic_load(&node.opens) > 0
            and not node.flags & NODE_PUBLISHED)


cdef void tree_retire(tree_t* t, node_t* node) noexcept nogil:
    pthread_rwlock_wrlock(&t.lock)
    # Between the locks the slot may have got another node.
    if node.flags & NODE_USED and node.parent is not NULL and node_retired(node, monotonic_ns()):
        node_unlink(t, node)
    pthread_rwlock_unlock(&t.lock)


cdef void tree_expire(tree_t* t, node_t* node, content_t* content) noexcept nogil:
    pthread_rwlock_wrlock(&t.lock)
    if node.content is content:
        node.content_expiry = 0
    pthread_rwlock_unlock(&t.lock)


cdef void content_used(tree_t* t, content_t* content) noexcept nogil:
    pthread_mutex_lock(&t.lru_lock)
    if content.lru_next is not NULL and t.lru.lru_next is not content:
        content.lru_prev.lru_next = content.lru_next
        content.lru_next.lru_prev = content.lru_prev
        lru_front(t, content)
    pthread_mutex_unlock(&t.lru_lock)


cdef inline void lru_front(tree_t* t, content_t* content) noexcept nogil:
    content.lru_prev = &t.lru
    content.lru_next = t.lru.lru_next
    content.lru_next.lru_prev = content
    t.lru.lru_next = content


# Evict, least recently opened first, until the bound holds or all is open; not the newest, for which an open waits. The
# write lock is held.
cdef bint evict(tree_t* t) noexcept nogil:
    cdef content_t* content = t.lru.lru_prev
    cdef content_t* older
    cdef node_t* node
    cdef bint dead = False
    while content is not t.lru.lru_next and t.cached > t.cache_size:
        older = content.lru_prev
        node = <node_t*>content.node
        if atomic_load(&node.opens) == 0:
            dead = drop_content(t, node) or dead
            t.evictions += 1
            dead = release_node(t, node) or dead
        content = older
    return dead


# ---- listings ---------------------------------------------------------------------------------------------------

cdef size_t dirent_size(size_t namelen) noexcept nogil:
    return (FUSE_NAME_OFFSET + namelen + 7) & ~<size_t>7


cdef size_t put_dirent(char* at, uint64_t ino, uint64_t off, uint32_t mode, const char* name,
                       size_t length) noexcept nogil:
    cdef fuse_dirent* record = <fuse_dirent*>at
    cdef size_t size = dirent_size(length)
    record.ino = ino
    record.off = off
    record.namelen = <uint32_t>length
    record.type = (mode & S_IFMT) >> 12
    memcpy(at + FUSE_NAME_OFFSET, name, length)
    memset(at + FUSE_NAME_OFFSET + length, 0, size - FUSE_NAME_OFFSET - length)
    return size


cdef listing_t* listing_new(size_t capacity) noexcept nogil:
    cdef listing_t* listing = <listing_t*>calloc(1, sizeof(listing_t))
    if listing is NULL:
        return NULL
    listing.refs = 1
    listing.capacity = capacity
    listing.buf = <char*>malloc(capacity)
    if listing.buf is NULL:
        free(listing)
        return NULL
    return listing


cdef bint listing_unref(listing_t* listing) noexcept nogil:
    if listing is not NULL and atomic_add(&listing.refs, -1) == 0:
        free(listing.buf)
        free(listing)
    return False


# Append a record. A full listing is replaced by a larger copy in *slot: open handles keep the old one.
cdef bint listing_append(listing_t** slot, uint64_t ino, uint32_t mode, const char* name, size_t length) noexcept nogil:
    cdef listing_t* listing = slot[0]
    cdef listing_t* larger
    cdef size_t end = listing.size + dirent_size(length)
    if end > listing.capacity:
        larger = listing_new(end * 2)
        if larger is NULL:
            return False
        memcpy(larger.buf, listing.buf, listing.size)
        larger.size = listing.size
        slot[0] = larger
        listing_unref(listing)
        listing = larger
    put_dirent(listing.buf + listing.size, ino, end, mode, name, length)
    listing.size = end
    return True


cdef listing_t* listing_begin(node_t* node) noexcept nogil:
    cdef listing_t* listing = listing_new(1024)
    if listing is NULL:
        return NULL
    listing_append(&listing, node.attr.ino, S_IFDIR, b".", 1)
    listing_append(&listing, node.parent.attr.ino if node.parent is not NULL else node.attr.ino, S_IFDIR, b"..", 2)
    return listing


cdef void set_listing(node_t* node, listing_t* listing, int64_t expiry) noexcept nogil:
    listing_unref(node.dir.listing)
    node.dir.listing = listing
    node.dir.expiry = expiry
    node.cached = 0


cdef bint tree_build_listing(tree_t* t, node_t* node) noexcept nogil:
    cdef listing_t* listing
    cdef node_t* child
    cdef bint done = True
    pthread_rwlock_wrlock(&t.lock)
    if node.dir.listing is NULL or not node.dir.flags & DIR_BUILT:
        listing = listing_begin(node)
        child = node.dir.first
        while listing is not NULL and child is not NULL:
            if not listing_append(&listing, child.attr.ino, child.attr.mode, child.name, child.name_len):
                listing_unref(listing)
                listing = NULL
                break
            child = child.next
        done = listing is not NULL
        if done:
            set_listing(node, listing, FOREVER_NS)
            node.dir.flags |= DIR_BUILT
    pthread_rwlock_unlock(&t.lock)
    return done


# A child came or went: what the directory's listing says no longer holds. The write lock is held.
cdef void listing_changed(node_t* parent, node_t* came) noexcept nogil:
    if parent.dir.listing is NULL:
        return
    if came is not NULL and parent.dir.flags & DIR_BUILT:
        parent.cached = 0
        if listing_append(&parent.dir.listing, came.attr.ino, came.attr.mode, came.name, came.name_len):
            return
    set_listing(parent, NULL, 0)


# ---- answers ----------------------------------------------------------------------------------------------------

cdef void fill_timeout(int64_t left, uint64_t* sec, uint32_t* nsec) noexcept nogil:
    if left == FOREVER_NS:
        sec[0] = FOREVER_SEC
        nsec[0] = 0
    elif left <= 0:
        sec[0] = 0
        nsec[0] = 0
    else:
        sec[0] = left // 1000000000
        nsec[0] = left % 1000000000


# What is left now: the answer of a slow handler may be older than the request that is answered with it.
cdef inline int64_t left_of(int64_t expiry) noexcept nogil:
    return FOREVER_NS if expiry == FOREVER_NS else expiry - monotonic_ns()


cdef void fill_entry(node_t* node, fuse_entry_out* out) noexcept nogil:
    cdef int64_t expiry = node.entry_expiry
    # The name must be looked up again when the content ends: only then can a content that is still open be told from
    # its successor.
    if node.content is not NULL and node.content_expiry < expiry:
        expiry = node.content_expiry
    out.nodeid = node.attr.ino
    out.generation = node.generation
    fill_timeout(left_of(expiry), &out.entry_valid, &out.entry_valid_nsec)
    fill_timeout(0 if node.flags & NODE_UNSIZED else left_of(node.attr_expiry), &out.attr_valid, &out.attr_valid_nsec)
    out.attr = node.attr


cdef void fill_attr(node_t* node, fuse_attr_out* out) noexcept nogil:
    fill_timeout(0 if node.flags & NODE_UNSIZED else left_of(node.attr_expiry), &out.attr_valid, &out.attr_valid_nsec)
    out.dummy = 0
    out.attr = node.attr


# ---- what Python says -------------------------------------------------------------------------------------------

cdef int64_t expiry_of(object timeout) except? -1:
    """CLOCK_MONOTONIC ns at which what is said now ends."""
    cdef double seconds = timeout
    if seconds != seconds or seconds < 0:
        raise ValueError(f"a timeout is a number of seconds, not {timeout!r}")
    if seconds >= 1e9:
        return FOREVER_NS
    return monotonic_ns() + <int64_t>(seconds * 1e9)


cdef inline bint is_name(const char* name, size_t length) noexcept nogil:
    cdef size_t i
    if length == 0 or length > NAME_MAX:
        return False
    for i in range(length):
        if name[i] == b"/" or name[i] == 0:
            return False
    return not (name[0] == b"." and (length == 1 or (length == 2 and name[1] == b".")))


cdef object bad_name(bytes name):
    if len(name) > NAME_MAX:
        return FuseError(ENAMETOOLONG, f"a name has at most {NAME_MAX} bytes: {name[:40]!r}...")
    return ValueError(f"not a file name: {name!r}")


cdef class Tree:
    """Entries, attributes, listings and contents that C serves. Safe to use from any thread, mounted or not.

    *cache_size* bounds the bytes of evictable contents; what is open may exceed it. A class with inode numbers of its
    own gives a *first_ino* beyond them: the tree numbers its nodes from there (the root is always 1).
    """

    def __cinit__(self, *, uint64_t first_ino=2, int64_t cache_size=256 << 20) -> None:
        cdef pthread_rwlockattr_t kind
        cdef tree_t* t = <tree_t*>calloc(1, sizeof(tree_t))
        if t is NULL:
            raise MemoryError
        self.t = t
        t.slabs = <node_t**>calloc(SLABS, sizeof(node_t*))
        t.mask = 1023
        t.buckets = <node_t**>calloc(t.mask + 1, sizeof(node_t*))
        if t.slabs is NULL or t.buckets is NULL:
            raise MemoryError
        if first_ino < 2:
            raise ValueError("first_ino is at least 2: 1 is the root")
        # Readers come without a pause when the mount is busy; a writer must not wait for ever.
        pthread_rwlockattr_init(&kind)
        pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP)
        pthread_rwlock_init(&t.lock, &kind)
        pthread_rwlockattr_destroy(&kind)
        pthread_mutex_init(&t.lru_lock, NULL)
        t.lru.lru_next = t.lru.lru_prev = &t.lru
        t.first_ino = first_ino
        t.cache_size = cache_size
        self.uid = os.geteuid()
        self.gid = os.getegid()
        t.seed = int.from_bytes(os.urandom(8), "little")
        self.empty = content_from(b"")
        cdef node_t* root = node_allocate(t)
        if root is NULL:
            raise MemoryError
        root.dir = <dir_t*>calloc(1, sizeof(dir_t))
        if root.dir is NULL:
            raise MemoryError
        root.flags = NODE_USED | NODE_PUBLISHED
        self.set_defaults(root, S_IFDIR | 0o555)

    def __dealloc__(self):
        cdef tree_t* t = self.t
        cdef node_t* node
        cdef uint64_t slot
        if t is NULL:
            return
        if t.slabs is not NULL:
            for slot in range(t.slots):
                node = slot_node(t, slot)
                if not node.flags & NODE_USED:
                    continue
                drop_content(t, node)
                if node.dir is not NULL:
                    listing_unref(node.dir.listing)
                    free(node.dir)
                free(node.name)
            for slot in range(0, t.slots, SLAB):
                free(t.slabs[slot >> SLAB_BITS])
            pthread_rwlock_destroy(&t.lock)
            pthread_mutex_destroy(&t.lru_lock)
        free(t.slabs)
        free(t.buckets)
        free(t)
        if self.empty is not NULL:
            content_unref(self.empty)
        reap()

    # GIL held. A thread that holds the lock may be off the CPU: wait without the GIL.
    cdef inline void lock(self) noexcept:
        if pthread_rwlock_trywrlock(&self.t.lock) != 0:
            with nogil:
                pthread_rwlock_wrlock(&self.t.lock)

    cdef inline int unlock(self, bint dead) except -1:
        pthread_rwlock_unlock(&self.t.lock)
        if dead:
            reap()
        return 0

    # Under the lock, so that whoever mounted it does not go meanwhile.
    cdef void notice(self, notice_kind kind, uint64_t ino, const char* name, size_t length) noexcept:
        cdef tree_t* t = self.t
        if pthread_rwlock_tryrdlock(&t.lock) != 0:
            with nogil:
                pthread_rwlock_rdlock(&t.lock)
        if t.notice is not NULL:
            t.notice(t.notice_to, kind, ino, name, length)
        pthread_rwlock_unlock(&t.lock)

    cdef void set_defaults(self, node_t* node, uint32_t mode) noexcept:
        cdef int64_t wall = wall_clock_ns()
        memset(<char*>&node.attr + sizeof(node.attr.ino), 0, sizeof(fuse_attr) - sizeof(node.attr.ino))
        node.attr.mode = mode
        node.attr.nlink = 2 if mode & S_IFMT == S_IFDIR else 1
        node.attr.uid = self.uid
        node.attr.gid = self.gid
        node.attr.blksize = 4096
        node.attr.atime = node.attr.mtime = node.attr.ctime = wall // 1000000000
        node.attr.atimensec = node.attr.mtimensec = node.attr.ctimensec = wall % 1000000000
        node.entry_expiry = node.attr_expiry = FOREVER_NS

    cdef node_t* get(self, uint64_t ino) except NULL:
        """The node, with the lock held and kept; without it on error."""
        cdef node_t* node = node_at(self.t, ino)
        if node is NULL:
            self.unlock(False)
            raise FuseError(ESTALE, f"no inode {ino} in the tree")
        return node

    # Does the kernel hold anything of this node? The lock is held.
    cdef inline bint known(self, node_t* node) noexcept:
        return self.t.notice is not NULL and (node.attr.ino == ROOT_INO or atomic_load(&node.nlookup) > 0)

    # Let what the tree says next take the place of this node, which keeps its number for those who know it.
    cdef bint displace(self, node_t* node) noexcept:
        cdef node_t* parent = node.parent
        cdef node_t* child
        cdef bint dead = False
        if node.dir is not NULL:
            while node.dir.first is not NULL:
                child = node.dir.first
                dead = self.displace(child) or dead
            set_listing(node, NULL, 0)
        node_unlink(self.t, node)
        return release_node(self.t, node) or dead

    # Put content under node. The write lock is held; takes over the reference. True: something to reap.
    cdef bint put_content(self, node_t* node, content_t* content, int64_t expiry, bint evictable) noexcept:
        cdef tree_t* t = self.t
        cdef bint dead = drop_content(t, node)
        node.content = content
        node.content_expiry = expiry
        node.attr.size = content.size
        node.attr.blocks = (content.size + 511) // 512
        node.flags &= ~NODE_UNSIZED
        node.cached = 0
        t.bytes += content.size
        if evictable and content.lru_next is NULL:
            node.flags |= NODE_KEPT
            pthread_mutex_lock(&t.lru_lock)
            content.node = node
            lru_front(t, content)
            t.cached += charge(content)
            pthread_mutex_unlock(&t.lru_lock)
            dead = evict(t) or dead
        return dead

    cdef uint64_t put(self, object path, uint32_t mode, content_t* content, object mtime_ns, object uid,
                      object gid) except 0:
        """Publish one node. Takes over *content*, also on error."""
        cdef tree_t* t = self.t
        cdef bytes name = os.fsencode(path)
        cdef const char* at = PyBytes_AS_STRING(name)
        cdef const char* end = at + PyBytes_GET_SIZE(name)
        cdef const char* segment
        cdef node_t* parent
        cdef node_t* node
        cdef node_t* made = NULL        # the first new name on the way, and where it is
        cdef node_t* made_in = NULL
        cdef const char* made_name = NULL
        cdef size_t length, made_length = 0
        cdef uint64_t ino = 0, changed = 0, parent_ino = 0
        cdef bint dead = False, negative = False, renamed = False
        cdef int error = 0
        cdef int64_t mtime = 0
        cdef uint32_t owner = 0, group = 0
        try:
            mtime = -1 if mtime_ns is None else mtime_ns
            owner = self.uid if uid is None else uid
            group = self.gid if gid is None else gid
        except BaseException:
            content_unref(content) if content is not NULL else None
            raise
        while at < end and at[0] == b"/":
            at += 1
        self.lock()
        parent = node = slot_node(t, 0)
        segment = at
        length = 0
        while True:
            segment = at
            while at < end and at[0] != b"/":
                at += 1
            length = at - segment
            while at < end and at[0] == b"/":
                at += 1
            if not is_name(segment, length):
                error = -1
                break
            if parent.dir is NULL:
                error = ENOTDIR
                break
            node = node_child(t, parent, segment, length)
            if at == end:
                break
            if node is NULL:
                node = node_add(t, parent, segment, length, S_IFDIR | 0o555)
                if node is NULL:
                    error = -2
                    break
                self.set_defaults(node, S_IFDIR | 0o555)
                node.flags |= NODE_PUBLISHED
                parent.attr.nlink += 1
                listing_changed(parent, node)
                if made is NULL:
                    made = node
                    made_in = parent
                    made_name = segment
                    made_length = length
            parent = node
        if error == 0 and node is not NULL and node.attr.mode & S_IFMT != mode & S_IFMT:
            if node.dir is not NULL and node.dir.first is not NULL:
                error = EISDIR
            else:
                changed = node.attr.ino if self.known(node) else 0
                dead = self.displace(node)
                set_listing(parent, NULL, 0)
                node = NULL
        elif error == 0 and node is not NULL and content is not NULL and (
                self.known(node) or atomic_load(&node.opens) > 0):
            # Its readers keep what they opened, and the kernel may believe the old size for a moment yet: the new
            # content gets an inode of its own.
            changed = node.attr.ino
            dead = self.displace(node)
            set_listing(parent, NULL, 0)
            node = NULL
        if error == 0 and node is NULL:
            node = node_add(t, parent, segment, length, mode)
            if node is NULL:
                error = -2
            else:
                listing_changed(parent, node)
                if node.dir is not NULL:
                    parent.attr.nlink += 1
                if made is NULL:
                    made = node
                    made_in = parent
                    made_name = segment
                    made_length = length
                renamed = changed != 0
                changed = 0
        elif error == 0:
            changed = node.attr.ino if self.known(node) else 0
        if error == 0:
            self.set_defaults(node, mode)
            node.flags |= NODE_PUBLISHED
            node.attr.uid = owner
            node.attr.gid = group
            if mtime_ns is not None:
                split_ns(mtime, &node.attr.mtime, &node.attr.mtimensec)
                split_ns(mtime, &node.attr.ctime, &node.attr.ctimensec)
            if content is not NULL:
                if content.size == 0 and content.fd < 0:
                    # Half of what an empty file costs.
                    dead = content_unref(content) or dead
                    content = self.empty
                    content_ref(content)
                dead = self.put_content(node, content, FOREVER_NS, False) or dead
                content = NULL
            ino = node.attr.ino
            if made is not NULL and self.known(made_in):
                parent_ino = made_in.attr.ino
                negative = renamed or made_in.dir.flags & DIR_NEGATIVE
        if content is not NULL:
            dead = content_unref(content) or dead
        self.unlock(dead)
        if error == -1:
            raise bad_name(segment[:length]) if length else ValueError(f"not a path to a name: {path!r}")
        if error == -2:
            raise MemoryError
        if error:
            raise FuseError(error, f"{path!r}: {os.strerror(error)}")
        if negative:
            self.notice(NOTICE_ENTRY, parent_ino, made_name, made_length)
        if parent_ino:
            self.notice(NOTICE_INODE, parent_ino, NULL, 0)
        if changed:
            self.notice(NOTICE_INODE, changed, NULL, 0)
        return ino

    def publish(self, path: str | bytes, content: object, *, mode: int = 0o444, mtime_ns: int | None = None,
                uid: int | None = None, gid: int | None = None, memfd: bool = False) -> int:
        """Put a regular file in; return its inode number. What was there is replaced; missing directories are made.

        *content* is held, not copied (see `Content`), never evicted, and does not expire; with *memfd* it is copied to
        where the kernel can read it by itself (`Content.in_memfd`). Whoever has the old content open goes on reading
        it. Raises ValueError (a bad path), NotADirectoryError, IsADirectoryError, TypeError,
        OSError (a `pathlib.Path` that does not open).
        """
        if memfd:
            content = Content.in_memfd(content)
        return self.put(path, S_IFREG | (mode & 0o7777), content_from(content), mtime_ns, uid, gid)

    def mkdir(self, path: str | bytes, *, mode: int = 0o555, mtime_ns: int | None = None) -> int:
        """Put a directory in, or change the mode of the one that is there; return its inode number."""
        return self.put(path, S_IFDIR | (mode & 0o7777), NULL, mtime_ns, None, None)

    def symlink(self, path: str | bytes, target: str | bytes, *, mtime_ns: int | None = None) -> int:
        """Put a symbolic link to *target* in; return its inode number."""
        return self.put(path, S_IFLNK | 0o777, content_from(os.fsencode(target)), mtime_ns, None, None)

    def remove(self, path: str | bytes) -> None:
        """Take a name away, and what is below it. Who has it open keeps it. Raises FileNotFoundError."""
        cdef uint64_t parent_ino
        cdef node_t* node
        cdef node_t* parent
        cdef bint dead, told
        cdef bytes name
        cdef bytes encoded = os.fsencode(path)
        self.lock()
        node = self.walk(encoded)
        if node is NULL or node.parent is NULL:
            self.unlock(False)
            raise FuseError(ENOENT, f"not in the tree: {path!r}")
        parent = node.parent
        parent_ino = parent.attr.ino
        name = node.name[:node.name_len]
        told = self.known(parent)
        if node.dir is not NULL:
            parent.attr.nlink -= 1
        dead = self.displace(node)
        listing_changed(parent, NULL)
        self.unlock(dead)
        if told:
            self.notice(NOTICE_ENTRY, parent_ino, name, len(name))
            self.notice(NOTICE_INODE, parent_ino, NULL, 0)

    def rename(self, uint64_t parent, bytes name, uint64_t newparent, bytes newname, *, bint exchange=False) -> None:
        """Move a node; what has the new name loses it, or with *exchange* gets the old one. Inode numbers stay.

        The kernel is not told: this is for renames that came through it. Raises FuseError (ENOENT, ENOTDIR).
        """
        cdef tree_t* t = self.t
        cdef node_t* old_dir
        cdef node_t* new_dir
        cdef node_t* node = NULL
        cdef node_t* other = NULL
        cdef char* first
        cdef char* second
        cdef bint dead = False
        if not is_name(newname, len(newname)):
            raise bad_name(newname)
        self.lock()
        old_dir = self.get(parent)
        new_dir = self.get(newparent)
        if old_dir.dir is not NULL and new_dir.dir is not NULL:
            node = node_child(t, old_dir, name, len(name))
            other = node_child(t, new_dir, newname, len(newname))
        if node is NULL or (exchange and other is NULL):
            self.unlock(False)
            raise FuseError(ENOENT, f"no {name!r} in inode {parent} to rename")
        if other is node:
            self.unlock(False)
            return
        first = <char*>malloc(len(newname) + 1)
        second = <char*>malloc(len(name) + 1)
        if first is NULL or second is NULL:
            free(first)
            free(second)
            self.unlock(False)
            raise MemoryError
        node_detach(t, node)
        if exchange:
            node_detach(t, other)
            node_attach(t, other, old_dir, second, name, len(name))
        else:
            free(second)
            if other is not NULL:
                dead = self.displace(other)
        node_attach(t, node, new_dir, first, newname, len(newname))
        set_listing(old_dir, NULL, 0)
        set_listing(new_dir, NULL, 0)
        self.unlock(dead)

    # ---- facts that a handler says

    def set_entry(self, uint64_t parent, bytes name, Attr attr not None, entry_timeout: float, *,
                  bint sized=True) -> int:
        """Say that *name* exists in *parent*; return its inode number, the one it has if its type is unchanged.

        `attr.mode` carries the type; `attr.ino` is ignored; `attr.attr_timeout` is the attributes' life in seconds.
        *sized* False: the size is a guess, so the kernel asks again each time until a content makes it exact. Choose
        *entry_timeout* no longer than the content's life. Raises FuseError (ESTALE: no such parent; ENOTDIR).
        """
        cdef tree_t* t = self.t
        cdef int64_t entry_expiry = expiry_of(entry_timeout)
        cdef int64_t attr_expiry = expiry_of(attr.attr_timeout)
        cdef node_t* above
        cdef node_t* node
        cdef fuse_attr said
        cdef bint dead = False, stale = False
        cdef uint64_t ino
        if not is_name(name, len(name)):
            raise bad_name(name)
        attr_to_kernel(attr, &said)
        self.lock()
        above = self.get(parent)
        if above.dir is NULL:
            self.unlock(False)
            raise FuseError(ENOTDIR, f"inode {parent} is not a directory")
        node = node_child(t, above, name, len(name))
        # Another type, or a content that has ended while it is open: what comes now is another file.
        if node is not NULL and ((node.attr.mode ^ said.mode) & S_IFMT or node_retired(node, monotonic_ns())):
            dead = self.displace(node)
            node = NULL
        if node is NULL:
            node = node_add(t, above, name, len(name), said.mode)
            if node is NULL:
                self.unlock(dead)
                raise MemoryError
        stale = self.say_attr(node, &said, attr_expiry, sized)
        node.entry_expiry = entry_expiry
        ino = node.attr.ino
        self.unlock(dead)
        if stale:
            self.notice(NOTICE_ATTR, ino, NULL, 0)
        return ino

    # The write lock is held. True: the kernel may believe something else.
    cdef bint say_attr(self, node_t* node, fuse_attr* said, int64_t expiry, bint sized) noexcept:
        cdef uint64_t ino = node.attr.ino
        cdef bint stale
        said.ino = ino
        if node.content is not NULL:
            said.size = node.content.size
            said.blocks = node.attr.blocks
            sized = True
        stale = self.known(node) and memcmp(&node.attr, said, sizeof(fuse_attr)) != 0
        node.attr = said[0]
        node.attr_expiry = expiry
        if sized:
            node.flags &= ~NODE_UNSIZED
        else:
            node.flags |= NODE_UNSIZED
        return stale

    def set_attr(self, uint64_t ino, Attr attr not None, *, bint sized=True) -> None:
        """Say what attributes *ino* has, for `attr.attr_timeout` seconds. Its type cannot change."""
        cdef int64_t expiry = expiry_of(attr.attr_timeout)
        cdef fuse_attr said
        cdef node_t* node
        cdef bint stale
        attr_to_kernel(attr, &said)
        self.lock()
        node = self.get(ino)
        if (node.attr.mode ^ said.mode) & S_IFMT:
            self.unlock(False)
            raise ValueError(f"inode {ino} has another type than mode {attr.mode:#o}")
        stale = self.say_attr(node, &said, expiry, sized)
        self.unlock(False)
        if stale:
            self.notice(NOTICE_ATTR, ino, NULL, 0)

    def set_content(self, uint64_t ino, content: object, timeout: float, *, bint evictable=True) -> None:
        """Say what a regular file's bytes are, for *timeout* seconds; its size becomes exact, here and in the kernel.

        *evictable* contents go when the cache is full and nobody has them open: whoever answers `open` must be able to
        say them again. A file that is open keeps the content that it has.
        """
        cdef int64_t expiry = expiry_of(timeout)
        cdef content_t* said = content_from(content)
        cdef node_t* node
        cdef bint dead, stale
        self.lock()
        node = node_at(self.t, ino)
        if node is NULL or node.attr.mode & S_IFMT != S_IFREG:
            self.unlock(content_unref(said))
            raise FuseError(ESTALE if node is NULL else EISDIR, f"inode {ino} is not a regular file in the tree")
        if atomic_load(&node.opens) > 0 and node.content is not NULL:
            self.unlock(content_unref(said))
            return
        stale = self.known(node) and node.attr.size != <uint64_t>said.size
        dead = self.put_content(node, said, expiry, evictable)
        if stale:
            # Before the lock goes, after which anybody may open it: nobody reads the new content with the old size.
            self.t.notice(self.t.notice_to, NOTICE_ATTR, ino, NULL, 0)
        self.unlock(dead)

    def set_link(self, uint64_t ino, target: str | bytes, timeout: float) -> None:
        """Say where a symbolic link points to, for *timeout* seconds."""
        cdef int64_t expiry = expiry_of(timeout)
        cdef content_t* said = content_from(os.fsencode(target))
        cdef node_t* node
        cdef bint moved
        self.lock()
        node = node_at(self.t, ino)
        if node is NULL or node.attr.mode & S_IFMT != S_IFLNK:
            self.unlock(content_unref(said))
            raise FuseError(ESTALE if node is NULL else ENOENT, f"inode {ino} is not a symbolic link in the tree")
        # The kernel may keep targets (cache_symlinks).
        moved = self.known(node) and node.content is not NULL and (
            node.content.size != said.size or memcmp(node.content.data, said.data, said.size) != 0)
        self.unlock(self.put_content(node, said, expiry, False))
        if moved:
            self.notice(NOTICE_INODE, ino, NULL, 0)

    def set_listing(self, uint64_t ino, entries: object, timeout: float, *, bint complete=False) -> None:
        """Say what a directory lists, for *timeout* seconds: (name, mode) pairs, of which the mode's type is used.

        Published children are listed too. *complete*: a name that has no entry in the tree does not exist, so nobody is
        asked about it. Raises ValueError for something that is not a file name.
        """
        cdef tree_t* t = self.t
        cdef int64_t expiry = expiry_of(timeout)
        cdef listing_t* listing = NULL
        cdef node_t* node
        cdef node_t* child
        cdef node_t* following
        cdef fuse_dirent* record
        cdef bytes name
        cdef uint32_t mode
        cdef bint dead = False, told
        cdef size_t position
        cdef set seen = set()
        cdef list pairs = []
        for name, mode in entries:
            if not is_name(name, len(name)):
                raise bad_name(name)
            if name not in seen:
                seen.add(name)
                pairs.append((name, mode))
        self.lock()
        node = self.get(ino)
        if node.dir is NULL:
            self.unlock(False)
            raise FuseError(ENOTDIR, f"inode {ino} is not a directory")
        listing = listing_begin(node)
        child = node.dir.first
        while listing is not NULL and child is not NULL:
            child.flags &= ~NODE_LISTED
            if child.flags & NODE_PUBLISHED and child.name[:child.name_len] not in seen:
                if not listing_append(&listing, child.attr.ino, child.attr.mode, child.name, child.name_len):
                    listing_unref(listing)
                    listing = NULL
            child = child.next
        for name, mode in pairs:
            if listing is NULL:
                break
            child = node_child(t, node, name, len(name))
            if child is not NULL:
                child.flags |= NODE_LISTED
            if not listing_append(&listing, child.attr.ino if child is not NULL else UNKNOWN_INO,
                                  child.attr.mode if child is not NULL else mode, name, len(name)):
                listing_unref(listing)
                listing = NULL
        if listing is NULL:
            self.unlock(False)
            raise MemoryError
        set_listing(node, listing, expiry)
        node.dir.flags &= ~(DIR_BUILT | DIR_COMPLETE)
        if complete:
            node.dir.flags |= DIR_COMPLETE
        child = node.dir.first
        while child is not NULL:
            following = child.next
            if not child.flags & NODE_LISTED and child.dir is NULL:
                dead = release_node(t, child) or dead
            child = following
        self.unlock(dead)

    def set_negative_timeout(self, timeout: float) -> None:
        """How many seconds the kernel may believe that a name does not exist (0: it asks each time)."""
        cdef int64_t expiry = expiry_of(timeout)
        self.t.negative_ns = FOREVER_NS if expiry == FOREVER_NS else <int64_t>(float(timeout) * 1e9)

    def invalidate(self, uint64_t ino, *, bint tell=True) -> None:
        """End what was said of *ino*, here and in the kernel: its entry, attributes, listing and content.

        Published files stay. A file that is open keeps its content for those who have it open. *tell* False: the
        kernel knows already, because the change came through it.
        """
        cdef node_t* node
        cdef uint64_t parent = 0
        cdef bint dead = False, told
        cdef bytes name = b""
        self.lock()
        node = self.get(ino)
        told = self.known(node)
        if node.parent is not NULL:
            parent = node.parent.attr.ino
            name = node.name[:node.name_len]
        if node.dir is not NULL:
            set_listing(node, NULL, 0)
            node.dir.flags &= ~(DIR_COMPLETE | DIR_BUILT)
        if not node.flags & NODE_PUBLISHED:
            node.entry_expiry = node.attr_expiry = node.content_expiry = 0
            if atomic_load(&node.opens) == 0:
                dead = drop_content(self.t, node)
        self.unlock(dead)
        if told and tell:
            if parent:
                self.notice(NOTICE_ENTRY, parent, name, len(name))
            self.notice(NOTICE_INODE, ino, NULL, 0)

    def forget_entry(self, uint64_t parent, bytes name) -> None:
        """End what the kernel believes of a name that may not be in the tree (a negative entry)."""
        self.notice(NOTICE_ENTRY, parent, name, len(name))

    # ---- looking

    # The lock is held.
    cdef node_t* walk(self, bytes path) noexcept:
        cdef node_t* node = slot_node(self.t, 0)
        cdef const char* at = PyBytes_AS_STRING(path)
        cdef const char* end = at + PyBytes_GET_SIZE(path)
        cdef const char* segment
        while node is not NULL:
            while at < end and at[0] == b"/":
                at += 1
            if at == end:
                break
            segment = at
            while at < end and at[0] != b"/":
                at += 1
            node = node_child(self.t, node, segment, at - segment) if node.dir is not NULL else NULL
        return node

    def find(self, path: str | bytes) -> int | None:
        """The inode number of *path*, None if the tree does not know it."""
        cdef node_t* node
        cdef bytes encoded = os.fsencode(path)
        self.lock()
        node = self.walk(encoded)
        ino = None if node is NULL else node.attr.ino
        self.unlock(False)
        return ino

    def child(self, uint64_t parent, bytes name) -> int | None:
        """The inode number of *name* in *parent*, None if the tree does not know it."""
        cdef node_t* node
        self.lock()
        node = self.get(parent)
        if node.dir is not NULL:
            node = node_child(self.t, node, name, len(name))
        else:
            node = NULL
        ino = None if node is NULL else node.attr.ino
        self.unlock(False)
        return ino

    def children(self, uint64_t ino) -> list[tuple[bytes, int]]:
        """(name, inode number) of the nodes in a directory: of what the tree knows, not of all that exists."""
        cdef node_t* node
        cdef node_t* child
        cdef list names = []
        cdef list inos = []
        self.lock()
        node = self.get(ino)
        child = node.dir.first if node.dir is not NULL else NULL
        while child is not NULL:
            names.append(child.name[:child.name_len])
            inos.append(child.attr.ino)
            child = child.next
        self.unlock(False)
        return list(zip(names, inos))

    def path(self, uint64_t ino) -> bytes:
        """The path of *ino* from the root, as b"/a/b". Raises FuseError (ESTALE) when it has none (any more)."""
        cdef node_t* node
        cdef list names = []
        self.lock()
        node = self.get(ino)
        while node.parent is not NULL:
            names.append(node.name[:node.name_len])
            node = node.parent
        if node.attr.ino != ROOT_INO:
            self.unlock(False)
            raise FuseError(ESTALE, f"inode {ino} has no name any more")
        self.unlock(False)
        names.append(b"")
        names.reverse()
        return b"/".join(names) if len(names) > 1 else b"/"

    def stat(self, uint64_t ino) -> Attr:
        """The attributes that the tree would answer with."""
        cdef fuse_attr attr
        self.lock()
        attr = self.get(ino).attr
        self.unlock(False)
        return attr_from_kernel(&attr)

    def fresh(self, uint64_t ino) -> bool:
        """Whether a lookup of *ino* is answered without asking anybody: its entry and attributes have not expired."""
        cdef int64_t now = monotonic_ns()
        cdef node_t* node
        self.lock()
        node = self.get(ino)
        fresh = node.entry_expiry > now and node.attr_expiry > now and not node_retired(node, now)
        self.unlock(False)
        return fresh

    def content(self, uint64_t ino, *, bint stale=False) -> Content | None:
        """The content that the tree would serve, None if it has none or it has expired. *stale*: expired or not."""
        cdef node_t* node
        cdef content_t* content = NULL
        self.lock()
        node = self.get(ino)
        if node.content is not NULL and (stale or node.content_expiry > monotonic_ns()):
            content = node.content
            content_ref(content)
        self.unlock(False)
        return None if content is NULL else content_wrap(content)

    def listing(self, uint64_t ino, *, bint stale=False) -> list[tuple[bytes, int]] | None:
        """(name, type bits of the mode) of what the directory lists, without "." and "..".

        None if nobody said, or it has expired; *stale*: expired or not.
        """
        cdef node_t* node
        cdef listing_t* listing = NULL
        cdef fuse_dirent* record
        cdef size_t position = 0, size = 0
        cdef list pairs = []
        self.lock()
        node = self.get(ino)
        if (node.dir is not NULL and node.dir.listing is not NULL
                and (stale or node.dir.expiry > monotonic_ns())):
            listing = node.dir.listing
            atomic_add(&listing.refs, 1)
            size = listing.size
        self.unlock(False)
        if listing is NULL:
            return None
        while position < size:
            record = <fuse_dirent*>(listing.buf + position)
            name = (<char*>record + FUSE_NAME_OFFSET)[:record.namelen]
            if name not in (b".", b".."):
                pairs.append((name, record.type << 12))
            position += dirent_size(record.namelen)
        listing_unref(listing)
        return pairs

    def unfinished(self) -> bytes | None:
        """The path of something that is not published with its content, so that somebody may have to be asked."""
        cdef node_t* node
        cdef uint64_t slot, ino = 0
        self.lock()
        for slot in range(self.t.slots):
            node = slot_node(self.t, slot)
            if node.flags & NODE_USED and not node.flags & NODE_ORPHAN and (
                    not node.flags & NODE_PUBLISHED or (node.attr.mode & S_IFMT == S_IFREG and node.content is NULL)):
                ino = node.attr.ino
                break
        self.unlock(False)
        return self.path(ino) if ino else None

    def stats(self) -> dict[str, int]:
        """nodes (with a name), known (that the kernel holds), bytes (of contents), cached (of them evictable), evictions."""
        return {
            "nodes": self.t.count, "known": self.t.known, "bytes": self.t.bytes, "cached": self.t.cached,
            "evictions": self.t.evictions,
        }
