from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t

from fastfuse.core.content cimport content_t
from fastfuse.core.libfuse cimport fuse_attr, fuse_attr_out, fuse_dirent, fuse_entry_out
from fastfuse.core.platform cimport pthread_mutex_t, pthread_rwlock_t


cdef enum:
    ROOT_INO = 1
    # node_t.flags
    NODE_USED = 1           # the slot holds a node
    NODE_PUBLISHED = 2      # said without being asked: never expires, never evicted
    NODE_LISTED = 4         # named by its directory's current listing
    NODE_ORPHAN = 8         # has no name any more; lives until the kernel lets go of it
    NODE_UNSIZED = 16       # the size is not known: the kernel is told to ask each time
    NODE_KEPT = 32          # its content is counted in the cache
    # dir_t.flags
    DIR_BUILT = 1           # listing is made of the children, so that a new child is appended
    DIR_COMPLETE = 2        # a name without a node does not exist: no need to ask
    DIR_NEGATIVE = 4        # the kernel was told of a name that does not exist

cdef int64_t FOREVER_NS     # an expiry that never comes

# What the kernel must be told, by the tree to whoever mounted it.
cdef enum notice_kind:
    NOTICE_INODE            # attributes and pages of ino
    NOTICE_ATTR             # attributes of ino, before the request in hand is answered
    NOTICE_ENTRY            # the entry (ino, name), positive or negative
    NOTICE_BACKING          # ino is no inode, but a backing_id that nobody uses any more

# The tree's lock is held, and the GIL but for NOTICE_BACKING: may not wait for either, nor for a request on the mount.
# Copies name.
ctypedef void (*notice_fn)(void* to, notice_kind kind, uint64_t ino, const char* name, size_t len) noexcept nogil


cdef struct listing_t:
    int64_t refs            # atomic; one for the directory, one per open handle
    char* buf               # packed struct fuse_dirent; off is the position of the next record. Bytes below a size
    size_t size             #   that someone has seen never change; new records go behind it [tree.lock]
    size_t capacity


cdef struct dir_t:
    node_t* first           # children with a node, in the order they came [tree.lock]
    node_t* last
    listing_t* listing      # NULL: not known [tree.lock]
    int64_t expiry          # of the listing [tree.lock]
    uint32_t flags          # DIR_* [tree.lock]; DIR_NEGATIVE also atomic, under the lock for reading


# Never moves while anybody can name it: nlookup > 0, opens > 0, children, listed, published or cached content.
cdef struct node_t:
    fuse_attr attr          # ready to send [tree.lock]
    node_t* parent          # NULL for the root and for orphans [tree.lock]
    node_t* bucket          # next in the hash chain, or next free slot [tree.lock]
    node_t* next            # siblings [tree.lock]
    node_t* prev
    char* name              # name_len bytes and a NUL [tree.lock]
    content_t* content      # a file's bytes, a link's target [tree.lock]
    dir_t* dir              # directories only; set once
    int64_t nlookup         # atomic; what the kernel holds
    int64_t opens           # atomic; handles that serve from here
    int32_t backing_id      # by which the kernel reads content by itself, or 0 [engine.backing_lock; opens > 0 or lock]
    int64_t entry_expiry    # CLOCK_MONOTONIC ns [tree.lock], as all expiries
    int64_t attr_expiry
    int64_t content_expiry
    uint32_t hash
    uint32_t generation     # grows when the slot is used again
    uint16_t name_len
    uint16_t flags          # NODE_* [tree.lock]
    uint32_t cached         # atomic; the kernel's page cache is of this content or listing: it has read of it


cdef struct tree_t:
    pthread_rwlock_t lock   # a leaf for whoever holds the GIL: nothing below it takes the GIL or blocks
    node_t** slabs          # slot number -> node; grows, never moves
    uint64_t first_ino      # slot 0 is the root (ino 1), slot n is first_ino + n - 1
    uint64_t slots          # in use or free [lock]
    node_t* free            # [lock]
    node_t** buckets        # hash table of (parent, name) [lock]
    uint64_t mask
    uint64_t seed
    uint64_t count          # nodes with a name [lock]
    int64_t known           # atomic; nodes with nlookup > 0
    int64_t bytes           # bytes of all contents that nodes hold [lock]
    int64_t negative_ns     # how long a missing name may be believed [lock]
    bint ask                # whoever mounted it can be asked about names that are not here
    pthread_mutex_t lru_lock    # below lock
    content_t lru           # head of the cache order: lru_next is the most recently opened [lru_lock, and lock: hits
                            #   reorder it with the lock for reading, who evicts has it for writing]
    int64_t cached          # bytes of evictable contents [lru_lock]
    int64_t cache_size      # their bound; what is open may exceed it [lru_lock]
    int64_t evictions
    notice_fn notice        # NULL while not mounted [lock]
    void* notice_to


cdef class Tree:
    cdef tree_t* t
    cdef uint32_t uid, gid
    cdef content_t* empty   # what all empty published files share
    cdef void lock(self) noexcept
    cdef int unlock(self, bint dead) except -1
    cdef void notice(self, notice_kind kind, uint64_t ino, const char* name, size_t length) noexcept
    cdef void set_defaults(self, node_t* node, uint32_t mode) noexcept
    cdef node_t* get(self, uint64_t ino) except NULL
    cdef bint known(self, node_t* node) noexcept
    cdef bint displace(self, node_t* node) noexcept
    cdef bint put_content(self, node_t* node, content_t* content, int64_t expiry, bint evictable) noexcept
    cdef uint64_t put(self, object path, uint32_t mode, content_t* content, object mtime_ns, object uid,
                      object gid) except 0
    cdef bint say_attr(self, node_t* node, fuse_attr* said, int64_t expiry, bint sized) noexcept
    cdef node_t* walk(self, bytes path) noexcept


# All below: lock held for reading at least.
cdef node_t* node_at(tree_t* t, uint64_t ino) noexcept nogil
cdef node_t* node_child(tree_t* t, node_t* parent, const char* name, size_t length) noexcept nogil
cdef node_t* node_listed(tree_t* t, node_t* parent, const fuse_dirent* record) noexcept nogil
# Has its content ended while it is open?
cdef bint node_retired(node_t* node, int64_t now) noexcept nogil
cdef void fill_entry(node_t* node, fuse_entry_out* out) noexcept nogil
cdef void fill_attr(node_t* node, fuse_attr_out* out) noexcept nogil
# FOREVER_NS, or the ns that are left.
cdef void fill_timeout(int64_t left, uint64_t* sec, uint32_t* nsec) noexcept nogil
cdef void node_known(tree_t* t, node_t* node) noexcept nogil
cdef void content_used(tree_t* t, content_t* content) noexcept nogil

# All below take the lock themselves.
# The kernel lets go of nlookup references.
cdef bint tree_forget(tree_t* t, uint64_t ino, uint64_t nlookup) noexcept nogil
# A handle on node is gone.
cdef bint tree_closed(tree_t* t, node_t* node) noexcept nogil
# Make the listing of a directory from its children. False: out of memory.
cdef bint tree_build_listing(tree_t* t, node_t* node) noexcept nogil
# What content holds is no longer what was said of the node.
cdef void tree_expire(tree_t* t, node_t* node, content_t* content) noexcept nogil
# Take the name off a node whose content has expired while it is open, so that the next content gets an inode of its own.
cdef void tree_retire(tree_t* t, node_t* node) noexcept nogil
# The kernel has let go of everything.
cdef void tree_unmounted(tree_t* t) noexcept nogil
cdef bint listing_unref(listing_t* listing) noexcept nogil

cdef size_t dirent_size(size_t namelen) noexcept nogil
cdef size_t put_dirent(char* at, uint64_t ino, uint64_t off, uint32_t mode, const char* name, size_t length) noexcept nogil
