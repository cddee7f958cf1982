# What the threads of a session share: its structures, and which lock guards what.
#
# Order of locks: the GIL, tree.lock, tree.lru_lock, engine.lock; each is released before anything above it is taken,
# and none but the GIL is held over a system call that may wait. engine.backing_lock and engine.fill_lock are held alone.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastfuse.core.content cimport content_t
from fastfuse.core.libfuse cimport (
    flock_t, fuse_buf, fuse_pollhandle, fuse_req_t, fuse_session, iovec, stat_t,
)
from fastfuse.core.platform cimport pthread_cond_t, pthread_mutex_t
from fastfuse.core.tree cimport listing_t, node_t, tree_t


# The operations, by libfuse's names (in this order in `ops.OPERATIONS`).
cdef enum:
    OP_LOOKUP
    OP_FORGET
    OP_GETATTR
    OP_SETATTR
    OP_READLINK
    OP_MKNOD
    OP_MKDIR
    OP_UNLINK
    OP_RMDIR
    OP_SYMLINK
    OP_RENAME
    OP_LINK
    OP_OPEN
    OP_READ
    OP_WRITE
    OP_FLUSH
    OP_RELEASE
    OP_FSYNC
    OP_OPENDIR
    OP_READDIR
    OP_READDIRPLUS
    OP_RELEASEDIR
    OP_FSYNCDIR
    OP_STATFS
    OP_SETXATTR
    OP_GETXATTR
    OP_LISTXATTR
    OP_REMOVEXATTR
    OP_ACCESS
    OP_CREATE
    OP_GETLK
    OP_SETLK
    OP_BMAP
    OP_IOCTL
    OP_POLL
    OP_RETRIEVE_REPLY
    OP_FLOCK
    OP_FALLOCATE
    OP_COPY_FILE_RANGE
    OP_LSEEK
    OP_TMPFILE
    OP_STATX
    OPS                     # how many


# What fh points to: one open file or directory.
cdef struct handle_t:
    node_t* node            # the tree's node that it holds open, or NULL
    content_t* content      # what reads are served from, or NULL: they go to the handler
    listing_t* listing      # what readdir is served from, or NULL
    size_t end              # of the listing, when it was opened
    uint32_t read           # atomic; at least once
    bint by_handler         # a handler opened it: a read of it may wait for Python
    PyObject* fi            # the FileInfo that handlers see, or NULL: none has seen it [GIL]
    handle_t* next          # in the engine's list [engine.lock]
    handle_t* prev


# One request: its arguments, wherever it waits. Which fields are set depends on op; names and data point into the
# buffer that it was received in.
cdef struct request_t:
    fuse_req_t req
    engine_t* engine
    worker_t* worker        # whose buffer it came in; NULL once it has left that
    int op
    int64_t answered        # atomic; whoever sets it answers
    int64_t interrupted     # atomic
    uint64_t unique
    uint64_t ino
    uint64_t ino2
    const char* name
    const char* name2
    const char* data
    size_t size
    int64_t off
    int64_t off2
    int64_t length
    handle_t* handle        # of fh; NULL: opened without one
    handle_t* handle2
    uint64_t lock_owner
    uint64_t nlookup
    int flags               # open's, rename's, setxattr's, readdir's ...; see dispatch
    int to_set
    uint32_t mode
    uint32_t rdev
    uint32_t release_flags
    uint32_t write_flags
    uint32_t poll_events
    bint has_fi
    stat_t attr
    flock_t lock
    fuse_pollhandle* ph
    void* arg
    uint32_t uid
    uint32_t gid
    uint32_t umask
    int32_t pid
    int64_t began           # CLOCK_MONOTONIC ns
    PyObject* fi            # a reference, from the call of open or create to its answer [GIL]
    request_t* next         # in a queue or in a flight [engine.lock]
    flight_t* flight        # whose fact this asks a handler for, or NULL
    bint unshared           # left a flight, to be asked on its own
    PyObject* context       # the Context that handlers see [GIL]
    void* mem               # the buffer, once it belongs to the request (free)
    # the answer, once a handler gave it: an errno, or out_size bytes at out
    int error
    bint silent             # there is none to give (forget)
    const char* out
    size_t out_size
    PyObject* keep          # keeps out alive [GIL]
    handle_t* opened        # by this request: goes again if the kernel no longer wants it
    uint64_t looked_up      # by this request, likewise
    char small[192]         # where most answers lie; must be last: it is not cleared


# Identical requests that wait for one answer: the first one's.
cdef struct flight_t:
    int op                  # with ino and name: which fact
    uint64_t ino
    char* name              # owned; NULL where the fact has none
    int64_t began           # an answer counts as fresh if it was when the flight began
    request_t* waiters      # [engine.lock]
    flight_t* next          # [engine.lock]


cdef struct counter_t:
    int64_t requests
    int64_t hits            # answered without Python
    int64_t errors
    int64_t ns              # from receiving to answering, all of them


cdef struct worker_t:
    engine_t* engine
    request_t request       # the one in hand; req NULL once it has been answered or has moved on
    fuse_buf buf            # mem is libfuse's malloc
    char* scratch           # scratch_size bytes, for replies that are put together
    counter_t counters[42]  # OPS; written by its thread alone
    int64_t bytes_read
    int64_t bytes_written
    worker_t* next          # all workers [engine.lock]
    worker_t* idle          # stack of parked ones [engine.lock]
    bint woken              # [engine.lock]
    bint help               # woken to receive beside the leader [engine.lock]
    pthread_cond_t cond
    int64_t in_python       # atomic
    int64_t python_since    # CLOCK_MONOTONIC ns; 0: nothing to measure


cdef enum:
    SCRATCH = (1 << 20) + 4096


# What is asked of the kernel at INIT (0: libfuse's default), then what was agreed.
cdef struct connection_t:
    uint32_t max_write
    uint32_t max_read
    uint32_t max_readahead
    uint32_t max_background
    uint32_t congestion_threshold
    uint32_t time_gran
    uint32_t want           # FUSE_CAP_*
    uint32_t unwanted
    uint32_t capable        # offered by kernel and libfuse
    uint32_t proto_major
    uint32_t proto_minor
    bint passthrough        # wanted
    int error               # why there was no agreement


cdef struct engine_t:
    fuse_session* se
    tree_t* tree            # NULL: none
    bint handled[42]        # OPS; there is a Python handler
    bint coalesced[42]
    bint immutable
    bint passthrough        # negotiated, and not refused for lack of rights [backing_lock]
    int fd                  # the device
    int wake_fd             # eventfd: ends the poll of the leader
    int timer_fd            # wakes the guard when the leader stays in Python
    int guard_fd            # eventfd: the guard is to look for work
    int attention_fd        # eventfd: the service thread has something to do
    int64_t stop            # atomic
    int64_t spin_ns
    int64_t expected_ns[42] # OPS, atomic; how long Python is expected to take
    pthread_mutex_t lock    # below the tree's
    worker_t* workers       # [lock]
    worker_t* leader        # who receives, or is in Python for a moment [lock]
    worker_t* guard         # who takes over [lock]
    worker_t* parked        # [lock]
    int64_t leader_busy     # atomic; since when the leader is in Python, 0: it is not
    int64_t helping         # atomic; a second receiver is at work; set with [lock]
    int64_t idle            # parked and guarding [lock]
    int64_t threads         # workers that run [lock]
    int64_t max_threads
    bint parallel           # more than one CPU: a second receiver may help
    request_t* queue        # requests that wait for a thread with the GIL [lock]
    request_t* queue_tail
    flight_t* flights       # [lock]
    handle_t handles        # list head of open handles [lock]
    pthread_mutex_t backing_lock    # held over the ioctl
    pthread_mutex_t fill_lock   # held while a page cache is filled, and taken before an open is answered
    int64_t by_handlers     # atomic; open files that handlers opened
    int64_t prefilled       # atomic; files whose bytes went to the page cache with their first open
    int64_t backing_opened  # opens of files that the kernel reads by itself [backing_lock]
    int64_t backing_refused # and of those that it does not [backing_lock]
    const char* no_passthrough  # why the kernel does not read files by itself, or why it refused the first [backing_lock]
    notice_t* notices       # what the kernel is to be told [lock]
    notice_t* notices_tail
    int64_t interrupts      # atomic; a waiting request was interrupted
    int64_t notifying       # atomic; threads that write notifications
    PyObject* owner         # the Engine, borrowed
    connection_t connection


cdef struct notice_t:
    int kind
    uint64_t ino
    size_t length
    notice_t* next
    char name[1]
