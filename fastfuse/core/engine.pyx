"""The engine: one mount's session, its workers, and the way from a miss through a handler to an answer.

Workers are Python threads that own their state. One of them, the leader, receives; it answers hits without the GIL. For
a miss it goes to Python itself, so that a fast handler costs no hop between threads. Before a handler that is known to
be slow, or not known yet, it hands the lead over to the guard, the next worker; and if one that used to be fast is not,
the guard takes the lead. Others are parked. With nobody to take over, a miss is put in a queue: the leader never goes
to Python when that would leave nobody to receive.
"""

import asyncio
import errno as errno_module
import inspect
import logging
import os

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.errno cimport EAGAIN, EINTR, EIO, ENOENT, ENOSYS, ENOTCONN, EOPNOTSUPP, EROFS, ESTALE, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strcmp, strdup
from posix.fcntl cimport O_ACCMODE, O_RDONLY, O_TRUNC

from fastfuse.core.calls cimport (
    Loan, claim, clear, conclude, conclude_error, end_context_moved, invoke, release_handle, send, undo,
)
from fastfuse.core.content cimport reap
from fastfuse.core.dispatch cimport fill_ops, set_worker
from fastfuse.core.hits cimport call_service, handle_free, node_of, serve, serve_published
from fastfuse.core.libfuse cimport *
from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *
from fastfuse.core.tree cimport (
    NOTICE_ATTR, NOTICE_ENTRY, NOTICE_INODE, Tree, node_t, notice_kind, tree_t, tree_unmounted,
)

from fastfuse.core.calls import OPERATIONS
from fastfuse.errors import PUBLISHED, UNSHARED, FuseError

log = logging.getLogger("fastfuse")

cdef enum:
    STOP            # the session ends
    PYTHON          # the worker's request needs Python
    BACKLOG = 8     # requests without a pause, after which a second worker helps to receive
    HANDOVER = 50_000       # ns: who is expected to be in Python for longer hands the lead over before
    PATIENCE = 10_000_000   # ns: after which the guard takes it. Not less: arming a timer earlier than all others
                            # costs 9 us on a virtual machine, against 0.4 us (the clock's interrupt is set anew)
    SPARE = 2       # idle workers to keep while one goes to Python: the next guard, and one behind it
    FEATURES = 64 + 16  # struct fuse_init_out and its header

# 3.12: int fuse_lowlevel_notify_expire_entry(struct fuse_session *, fuse_ino_t, const char *, size_t)
ctypedef int (*expire_entry_t)(fuse_session*, fuse_ino_t, const char*, size_t) noexcept nogil

cdef struct ops_t:
    fuse_lowlevel_ops ops
    void* younger[4]        # room for operations that the headers do not know yet


# ---- beginning --------------------------------------------------------------------------------------------------

cdef void on_init(void* userdata, fuse_conn_info* conn) noexcept nogil:
    cdef connection_t* c = &(<engine_t*>userdata).connection
    if c.max_write:
        conn.max_write = c.max_write
    if c.max_read:
        conn.max_read = c.max_read
    if c.max_readahead:
        conn.max_readahead = c.max_readahead
    # The kernel's 12 would let a dozen slow handlers hold up all direct and read-ahead requests.
    conn.max_background = c.max_background if c.max_background else 128
    conn.congestion_threshold = c.congestion_threshold if c.congestion_threshold else conn.max_background * 3 // 4
    if c.time_gran:
        conn.time_gran = c.time_gran
    conn.want = (conn.want | (c.want & conn.capable)) & ~c.unwanted
    c.capable = conn.capable
    c.want = conn.want
    c.proto_major = conn.proto_major
    c.proto_minor = conn.proto_minor
    c.max_write = conn.max_write
    c.max_read = conn.max_read
    c.max_readahead = conn.max_readahead
    c.max_background = conn.max_background
    c.congestion_threshold = conn.congestion_threshold
    c.time_gran = conn.time_gran


# Answer INIT, the first request. libfuse writes its answer into a socket pair, where what it does not know to ask for is
# added. Returns an errno.
cdef int handshake(engine_t* e) noexcept nogil:
    cdef pollfd waiting
    cdef fuse_buf buf
    cdef fuse_init_in* asked
    cdef char reply[4096]
    cdef uint32_t* out = <uint32_t*>(reply + sizeof(fuse_out_header))
    cdef int pair[2]
    cdef int saved, n
    cdef uint64_t offered
    memset(&buf, 0, sizeof(buf))
    waiting.fd = e.fd
    waiting.events = POLLIN
    while poll(&waiting, 1, 10000) < 0 and errno == EINTR:
        pass
    n = fuse_session_receive_buf(e.se, &buf)
    if n <= 0 or (<fuse_in_header*>buf.mem).opcode != FUSE_INIT:
        free(buf.mem)
        return -n if n < 0 else EIO
    asked = <fuse_init_in*>(<char*>buf.mem + sizeof(fuse_in_header))
    offered = asked.flags
    if asked.flags & FUSE_INIT_EXT:
        offered |= <uint64_t>asked.flags2 << 32
    if socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0:
        free(buf.mem)
        return errno
    saved = fcntl(e.fd, F_DUPFD_CLOEXEC, 0)
    dup3(pair[1], e.fd, O_CLOEXEC)
    fuse_session_process_buf(e.se, &buf)
    dup3(saved, e.fd, O_CLOEXEC)
    close(saved)
    n = <int>read_fd(pair[0], reply, sizeof(reply))
    close(pair[0])
    close(pair[1])
    free(buf.mem)
    if n < <int>(sizeof(fuse_out_header) + 40) or (<fuse_out_header*>reply).error:
        return -(<fuse_out_header*>reply).error if n > 0 else EIO
    # struct fuse_init_out: flags is word 3, flags2 word 8, max_stack_depth word 9.
    if offered & FUSE_PARALLEL_DIROPS:
        out[3] |= FUSE_PARALLEL_DIROPS
    e.passthrough = (e.connection.passthrough and offered & FUSE_PASSTHROUGH != 0
                     and not out[3] & FUSE_WRITEBACK_CACHE)
    if e.passthrough:
        out[3] |= FUSE_INIT_EXT
        out[8] |= <uint32_t>(FUSE_PASSTHROUGH >> 32)
        out[9] = 2          # the backing may itself be stacked (overlayfs)
    return 0 if write_fd(e.fd, reply, n) == n else errno


# ---- receiving --------------------------------------------------------------------------------------------------

cdef void wake(worker_t* w) noexcept nogil:
    w.woken = True
    pthread_cond_signal(&w.cond)


cdef void stop(engine_t* e) noexcept nogil:
    cdef uint64_t one = 1
    cdef worker_t* w
    atomic_store(&e.stop, 1)
    fuse_session_exit(e.se)
    write_fd(e.wake_fd, &one, sizeof(one))
    call_service(e)
    pthread_mutex_lock(&e.lock)
    w = e.workers
    while w is not NULL:
        wake(w)
        w = w.next
    pthread_mutex_unlock(&e.lock)


# The lock is held.
cdef worker_t* unpark(engine_t* e) noexcept nogil:
    cdef worker_t* w = e.parked
    if w is not NULL:
        e.parked = w.idle
        e.idle -= 1
        wake(w)
    return w


cdef void wake_guard(engine_t* e) noexcept nogil:
    cdef uint64_t one = 1
    write_fd(e.guard_fd, &one, sizeof(one))


# How long does Python take for an operation, until its answer goes? A slow one is believed at once, fast ones only
# after many.
cdef void learn(engine_t* e, worker_t* w, int op) noexcept nogil:
    cdef int64_t took, before
    cdef int64_t* expected = &e.expected_ns[op]     # a guess: two threads may overwrite each other's
    if w is NULL or w.python_since == 0:
        return
    took = monotonic_ns() - w.python_since
    w.python_since = 0
    before = atomic_load(expected)
    if took > before:
        atomic_store(expected, took if took < 100 * HANDOVER else 100 * HANDOVER)
    else:
        atomic_store(expected, before - (before - took) // 8)


# Wait until there is something to do: lead, help, a queued request, or the end.
cdef int find_work(engine_t* e, worker_t* w) noexcept nogil:
    cdef pollfd waiting[3]
    cdef request_t* r
    cdef int64_t busy, now
    cdef uint64_t fired
    cdef int result = -1
    w.python_since = 0      # what took long without an answer is no measure
    pthread_mutex_lock(&e.lock)
    while result < 0:
        if atomic_load(&e.stop) and e.queue is NULL:
            result = STOP
        elif e.leader is w and not atomic_load(&e.stop):
            atomic_store(&e.leader_busy, 0)
            break
        elif e.queue is not NULL:
            r = e.queue
            e.queue = r.next
            if e.queue is NULL:
                e.queue_tail = NULL
            move_request(&w.request, r)
            w.request.worker = w
            free(r)
            if e.guard is NULL:
                unpark(e)           # to guard, now that this one goes
            result = PYTHON
        elif e.leader is NULL:
            e.leader = w
            if w.help:
                w.help = False
                atomic_store(&e.helping, 0)
            if e.guard is NULL:
                unpark(e)
            break
        elif w.help:
            break
        elif e.guard is NULL:
            e.guard = w
            e.idle += 1
            pthread_mutex_unlock(&e.lock)
            waiting[0].fd = e.timer_fd
            waiting[1].fd = e.wake_fd
            waiting[2].fd = e.guard_fd
            waiting[0].events = waiting[1].events = waiting[2].events = POLLIN
            poll(waiting, 3, -1)
            read_fd(e.timer_fd, &fired, sizeof(fired))
            read_fd(e.guard_fd, &fired, sizeof(fired))
            now = monotonic_ns()
            pthread_mutex_lock(&e.lock)
            e.idle -= 1
            e.guard = NULL
            busy = atomic_load(&e.leader_busy)
            if busy and now - busy >= PATIENCE:
                atomic_store(&e.leader_busy, 0)
                e.leader = NULL
            elif busy:
                timer_arm(e.timer_fd, PATIENCE - (now - busy))
        else:
            w.woken = False
            w.idle = e.parked
            e.parked = w
            e.idle += 1
            while not w.woken:
                pthread_cond_wait(&w.cond, &e.lock)
    pthread_mutex_unlock(&e.lock)
    return result


cdef inline void move_request(request_t* to, request_t* old) noexcept nogil:
    memcpy(to, old, sizeof(request_t) - sizeof(old.small))


# The lock is held.
cdef void append_to_queue(engine_t* e, request_t* r) noexcept nogil:
    r.next = NULL
    if e.queue_tail is NULL:
        e.queue = r
    else:
        e.queue_tail.next = r
    e.queue_tail = r


# Leave the leader's request to whoever has time for Python.
cdef bint put_in_queue(engine_t* e, worker_t* w) noexcept nogil:
    cdef request_t* r = <request_t*>malloc(sizeof(request_t))
    if r is NULL:
        return False
    move_request(r, &w.request)
    r.worker = NULL
    if r.mem is NULL:
        r.mem = w.buf.mem
        w.buf.mem = NULL
    w.request.req = NULL
    append_to_queue(e, r)
    unpark(e)
    return True


cdef inline bint same_fact(flight_t* f, request_t* r) noexcept nogil:
    return f.op == r.op and f.ino == r.ino and (f.name is NULL or strcmp(f.name, r.name) == 0)


# Join the flight that asks for the same fact, or begin one. True: it is for this worker to run.
cdef bint join_flight(engine_t* e, worker_t* w) noexcept nogil:
    cdef request_t* r = &w.request
    cdef request_t* waiter = <request_t*>malloc(sizeof(request_t))
    cdef flight_t* f
    cdef bint first = False
    if waiter is NULL:
        fuse_reply_err(r.req, EIO)
        r.req = NULL
        return False
    move_request(waiter, r)
    waiter.worker = NULL
    pthread_mutex_lock(&e.lock)
    f = e.flights
    while f is not NULL and not same_fact(f, r):
        f = f.next
    if f is NULL:
        f = <flight_t*>calloc(1, sizeof(flight_t))
        f.op = r.op
        f.ino = r.ino
        f.began = r.began
        f.name = strdup(r.name) if r.name is not NULL else NULL
        f.next = e.flights
        e.flights = f
        first = True
        r.flight = f
        r.name = f.name
    waiter.flight = f
    waiter.name = f.name
    waiter.next = f.waiters
    f.waiters = waiter
    # With the lock, or the flight might land, and the waiter be gone, before it listens.
    fuse_req_interrupt_func(waiter.req, on_waiter_interrupt, waiter)
    pthread_mutex_unlock(&e.lock)
    if not first:
        r.req = NULL
    return first


cdef void on_interrupt(fuse_req_t req, void* data) noexcept nogil:
    atomic_store(&(<request_t*>data).interrupted, 1)


cdef void on_waiter_interrupt(fuse_req_t req, void* data) noexcept nogil:
    cdef request_t* r = <request_t*>data
    atomic_store(&r.interrupted, 1)
    atomic_store(&r.engine.interrupts, 1)
    call_service(r.engine)


# May the request share its answer with others? Not an open for writing.
cdef inline bint shared(engine_t* e, request_t* r) noexcept nogil:
    return e.coalesced[r.op] and not (r.op == OP_OPEN and (r.flags & O_ACCMODE != O_RDONLY or r.flags & O_TRUNC))


# A request that Python must see. True: by this worker, now.
cdef bint take_miss(engine_t* e, worker_t* w, bint leads) noexcept nogil:
    cdef bint mine = True, hand = False
    if shared(e, &w.request) and not join_flight(e, w):
        return False
    w.python_since = monotonic_ns()
    if not leads:
        return True
    pthread_mutex_lock(&e.lock)
    if e.guard is NULL:
        mine = not put_in_queue(e, w)
    elif atomic_load(&e.expected_ns[w.request.op]) < HANDOVER:
        atomic_store(&e.leader_busy, w.python_since)
    else:
        e.leader = NULL
        hand = True
    pthread_mutex_unlock(&e.lock)
    if hand:
        wake_guard(e)
        w.python_since = monotonic_ns()
    elif mine:
        timer_arm(e.timer_fd, PATIENCE)
    return mine


# Receive and answer hits, until a request needs Python.
cdef int receive(engine_t* e, worker_t* w) noexcept nogil:
    cdef pollfd waiting[2]
    cdef int64_t now = monotonic_ns(), spin_until = now + e.spin_ns
    cdef int streak = 0, n
    cdef bint leads
    pthread_mutex_lock(&e.lock)
    leads = e.leader is w
    pthread_mutex_unlock(&e.lock)
    waiting[0].fd = e.fd
    waiting[1].fd = e.wake_fd
    waiting[0].events = waiting[1].events = POLLIN
    while not atomic_load(&e.stop):
        n = fuse_session_receive_buf(e.se, &w.buf)
        if n == -EAGAIN:
            if not leads:
                # One thread is enough to wait.
                pthread_mutex_lock(&e.lock)
                w.help = False
                atomic_store(&e.helping, 0)
                pthread_mutex_unlock(&e.lock)
                return -1
            streak = 0
            now = monotonic_ns()
            if now < spin_until:
                cpu_pause()
            else:
                poll(waiting, 2, -1)
                spin_until = monotonic_ns() + e.spin_ns
            continue
        if n == -EINTR:
            continue
        if n <= 0:
            stop(e)         # unmounted
            break
        w.request.req = NULL
        w.request.op = OPS
        w.request.began = now = monotonic_ns()
        fuse_session_process_buf(e.se, &w.buf)
        if w.request.op < OPS:
            bump(&w.counters[w.request.op].requests, 1)
            if w.request.req is not NULL:
                if take_miss(e, w, leads):
                    if not leads:
                        pthread_mutex_lock(&e.lock)
                        w.help = False
                        atomic_store(&e.helping, 0)
                        pthread_mutex_unlock(&e.lock)
                    return PYTHON
            else:
                now = monotonic_ns()
                bump(&w.counters[w.request.op].ns, now - w.request.began)
        spin_until = now + e.spin_ns
        streak += 1
        if streak == BACKLOG and leads and e.parallel and not atomic_load(&e.helping):
            pthread_mutex_lock(&e.lock)
            if e.parked is not NULL and not atomic_load(&e.helping):
                atomic_store(&e.helping, 1)
                unpark(e).help = True
            pthread_mutex_unlock(&e.lock)
            streak = 0
    return STOP


# The worker's life without the GIL: PYTHON when it has a request for a handler, or STOP.
cdef int next_request(engine_t* e, worker_t* w) noexcept nogil:
    cdef int result
    while True:
        result = find_work(e, w)
        if result < 0:
            result = receive(e, w)
        if result >= 0:
            return result


# ---- telling the kernel -----------------------------------------------------------------------------------------

cdef void on_notice(void* to, notice_kind kind, uint64_t ino, const char* name, size_t length) noexcept nogil:
    cdef engine_t* e = <engine_t*>to
    cdef notice_t* notice
    if atomic_load(&e.stop):
        return
    if kind == NOTICE_ATTR:
        # Waits for nothing, so it may come before the answer to the request in hand.
        fuse_lowlevel_notify_inval_inode(e.se, ino, -1, 0)
        return
    pthread_mutex_lock(&e.lock)
    notice = e.notices_tail
    if notice is not NULL and kind == NOTICE_INODE and notice.kind == NOTICE_INODE and notice.ino == ino:
        pthread_mutex_unlock(&e.lock)
        return
    notice = <notice_t*>malloc(sizeof(notice_t) + length)
    if notice is not NULL:
        notice.kind = kind
        notice.ino = ino
        notice.length = length
        notice.next = NULL
        if length:
            memcpy(notice.name, name, length)
        notice.name[length] = 0
        if e.notices_tail is NULL:
            e.notices = notice
        else:
            e.notices_tail.next = notice
        e.notices_tail = notice
    pthread_mutex_unlock(&e.lock)
    call_service(e)


cdef void tell_kernel(engine_t* e) noexcept nogil:
    cdef notice_t* notice
    while not atomic_load(&e.stop):
        pthread_mutex_lock(&e.lock)
        notice = e.notices
        if notice is not NULL:
            e.notices = notice.next
            if e.notices is NULL:
                e.notices_tail = NULL
        pthread_mutex_unlock(&e.lock)
        if notice is NULL:
            break
        if notice.kind == NOTICE_ENTRY:
            fuse_lowlevel_notify_inval_entry(e.se, notice.ino, notice.name, notice.length)
        else:
            fuse_lowlevel_notify_inval_inode(e.se, notice.ino, 0, 0)
        free(notice)


# Waiters that got a signal need not wait: their fact is published all the same.
cdef void answer_interrupted(engine_t* e) noexcept nogil:
    cdef flight_t* f
    cdef request_t** link
    cdef request_t* waiter
    cdef request_t* gone = NULL
    if not atomic_exchange(&e.interrupts, 0):
        return
    pthread_mutex_lock(&e.lock)
    f = e.flights
    while f is not NULL:
        link = &f.waiters
        while link[0] is not NULL:
            waiter = link[0]
            if atomic_load(&waiter.interrupted):
                link[0] = waiter.next
                waiter.next = gone
                gone = waiter
            else:
                link = &waiter.next
        f = f.next
    pthread_mutex_unlock(&e.lock)
    answer_all(gone, EINTR)


cdef void answer_all(request_t* waiter, int error) noexcept nogil:
    cdef request_t* following
    while waiter is not NULL:
        following = waiter.next
        if claim(waiter):
            fuse_reply_err(waiter.req, error)
        free(waiter.mem)
        free(waiter)
        waiter = following


# The flight is over: nobody joins it any more. The lock is held; whoever waits is the caller's.
cdef request_t* end_flight(engine_t* e, flight_t* f) noexcept nogil:
    cdef flight_t** link = &e.flights
    cdef request_t* waiters = f.waiters
    while link[0] is not f:
        link = &link[0].next
    link[0] = f.next
    return waiters


cdef void free_flight(flight_t* f) noexcept nogil:
    free(f.name)            # also the name in its requests
    free(f)


# The handler wants to see each request: they go into the queue one by one.
cdef void scatter_flight(engine_t* e, flight_t* f) noexcept nogil:
    cdef request_t* waiter
    cdef request_t* following
    pthread_mutex_lock(&e.lock)
    waiter = end_flight(e, f)
    pthread_mutex_unlock(&e.lock)
    while waiter is not NULL:
        following = waiter.next
        fuse_req_interrupt_func(waiter.req, <fuse_interrupt_func_t>NULL, NULL)
        waiter.flight = NULL
        waiter.unshared = True
        waiter.name = NULL
        pthread_mutex_lock(&e.lock)
        append_to_queue(e, waiter)
        if unpark(e) is NULL:
            wake_guard(e)
        pthread_mutex_unlock(&e.lock)
        waiter = following
    free_flight(f)


# The flight's handler is done: error, or what it published.
cdef bint land_flight(engine_t* e, worker_t* w, flight_t* f, int error) noexcept nogil:
    cdef request_t* waiter
    cdef request_t* following
    cdef int64_t began = f.began
    cdef bint served = True
    pthread_mutex_lock(&e.lock)
    waiter = end_flight(e, f)
    pthread_mutex_unlock(&e.lock)
    while waiter is not NULL:
        following = waiter.next
        waiter.worker = w
        if claim(waiter):
            waiter.error = error
            if error:
                send(waiter)
            # What was fresh when the flight began is an answer, however short its life.
            elif not serve(waiter, began):
                # Somebody ended the fact at once, or the cache is too small for it: on ESTALE the kernel asks again.
                served = False
                fuse_reply_err(waiter.req, ESTALE)
        free(waiter)
        waiter = following
    free_flight(f)
    return served


# ---- handlers ---------------------------------------------------------------------------------------------------

# What the kernel gets for an operation that nobody handles.
cdef int unhandled(request_t* r) noexcept nogil:
    if r.op == OP_LOOKUP or r.op == OP_GETATTR or r.op == OP_READLINK:
        return ENOENT
    if r.op == OP_OPEN and r.engine.tree is not NULL and node_of(r) is not NULL:
        return EROFS        # opened for writing: for reading it would have been a hit
    if r.op == OP_OPEN or r.op == OP_OPENDIR:
        # Of an inode that is not the tree's: yes, as libfuse says for who has no open.
        memset(r.small, 0, sizeof(fuse_open_out))
        r.out = r.small
        r.out_size = sizeof(fuse_open_out)
        return 0
    if r.op == OP_RELEASE or r.op == OP_RELEASEDIR:
        return 0
    return ENOSYS


cdef class Call:
    """A coroutine handler's request, from its start to its answer, on the event loop."""

    cdef request_t request
    cdef Engine engine
    cdef object loop
    cdef object coroutine
    cdef object task
    cdef bint cancelled
    cdef Loan loan
    cdef char* name         # a copy of the request's

    def __dealloc__(self):
        free(self.name)

    def start(self) -> None:
        self.task = self.loop.create_task(self.coroutine)
        self.coroutine = None
        self.task.add_done_callback(self.done)
        if atomic_load(&self.request.interrupted):
            self.task.cancel()

    def interrupt(self) -> None:
        """From any thread: let the loop cancel the coroutine if the request was interrupted."""
        if atomic_load(&self.request.interrupted) and self.task is not None and not self.cancelled:
            self.cancelled = True
            try:
                self.loop.call_soon_threadsafe(self.task.cancel)
            except RuntimeError:
                pass            # the loop is closed: close() answers

    def done(self, task: object) -> None:
        cdef request_t* r = &self.request
        try:
            if task.cancelled():
                raise FuseError(errno_module.EINTR)
            self.engine.finish(r, task.result(), NULL)
        except BaseException as error:
            conclude_error(r, error)
            self.engine.finish(r, None, NULL, True)
        self.engine.calls.discard(self)


cdef class Engine:
    """One mount. *handlers* has a callable or None for each of OPERATIONS; *args* are libfuse's, without the program.

    *coalesce* names operations whose identical requests share one call, *unshared_open* is asked one by one where open
    returned UNSHARED; *spawn* starts a thread that calls its
    argument, *event_loop* gives the loop for coroutine handlers. Raises ValueError when libfuse refuses *args*.
    """

    cdef engine_t* e
    cdef list handlers
    cdef Tree tree
    cdef object spawn
    cdef object event_loop
    cdef object unshared_open
    cdef set calls
    cdef object __weakref__

    def __cinit__(self, list handlers, Tree tree, list args, *, object coalesce=(), object unshared_open=None, object spawn,
                  object event_loop, int spin_us=50, int max_threads=64, bint immutable=False,
                  bint passthrough=True, dict connection=None) -> None:
        cdef engine_t* e = <engine_t*>calloc(1, sizeof(engine_t))
        cdef ops_t ops
        cdef fuse_args words
        cdef char message[256]
        cdef list encoded = [b"fastfuse", *[os.fsencode(word) for word in args]]
        cdef char* argv[64]
        cdef int op
        cdef size_t size
        if e is NULL:
            raise MemoryError
        self.e = e
        e.wake_fd = e.timer_fd = e.guard_fd = e.attention_fd = e.fd = -1
        self.handlers = handlers
        self.tree = tree
        self.spawn = spawn
        self.unshared_open = unshared_open
        self.event_loop = event_loop
        self.calls = set()
        e.owner = <PyObject*>self
        e.tree = tree.t if tree is not None else NULL
        e.handles.next = e.handles.prev = &e.handles
        e.spin_ns = spin_us * 1000
        e.max_threads = max_threads + 1     # the leader, and as many in Python
        e.parallel = len(os.sched_getaffinity(0)) > 1
        if not e.parallel:
            e.spin_ns = 0
        e.immutable = immutable
        for op in range(OPS):
            e.handled[op] = handlers[op] is not None
            e.coalesced[op] = OPERATIONS[op] in coalesce
            e.expected_ns[op] = HANDOVER        # until it is known
        if e.tree is not NULL:
            e.tree.ask = e.handled[OP_LOOKUP]
        asked = dict(connection or {})
        e.connection.max_write = asked.pop("max_write", 0)
        e.connection.max_read = asked.pop("max_read", 0)
        e.connection.max_readahead = asked.pop("max_readahead", 0)
        e.connection.max_background = asked.pop("max_background", 0)
        e.connection.congestion_threshold = asked.pop("congestion_threshold", 0)
        e.connection.time_gran = asked.pop("time_gran", 0)
        e.connection.want = asked.pop("want", 0)
        e.connection.unwanted = asked.pop("unwanted", 0)
        if asked:
            raise TypeError(f"no such connection settings: {', '.join(asked)}")
        e.connection.passthrough = passthrough
        pthread_mutex_init(&e.lock, NULL)
        pthread_mutex_init(&e.backing_lock, NULL)
        e.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        e.attention_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        e.guard_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        e.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
        if e.wake_fd < 0 or e.attention_fd < 0 or e.guard_fd < 0 or e.timer_fd < 0:
            raise OSError(errno, os.strerror(errno))
        memset(&ops, 0, sizeof(ops))
        ops.ops.init = on_init
        fill_ops(&ops.ops, e)
        # The operations up to lseek, and those that the running libfuse has beyond.
        size = <char*>&ops.ops.lseek - <char*>&ops + sizeof(void*)
        size += (fuse_version() >= 317) * sizeof(void*) + (fuse_version() >= 318) * sizeof(void*)
        if len(encoded) > 64:
            raise ValueError("too many arguments")
        for op, word in enumerate(encoded):
            argv[op] = <char*><bytes>word
        words.argc = len(encoded)
        words.argv = argv
        words.allocated = 0
        message[0] = 0
        want_log(message, sizeof(message))
        e.se = fuse_session_new(&words, &ops.ops, size, e)
        want_log(NULL, 0)
        if e.se is NULL:
            raise ValueError(f"libfuse refuses {' '.join(args)}: {os.fsdecode(message).strip()}")

    def __dealloc__(self):
        cdef engine_t* e = self.e
        cdef worker_t* w
        cdef handle_t* handle
        cdef notice_t* notice
        if e is NULL:
            return
        if e.se is not NULL:
            fuse_session_destroy(e.se)
        while e.handles.next is not NULL and e.handles.next is not &e.handles:
            handle = e.handles.next
            Py_XDECREF(handle.fi)
            handle.fi = NULL
            handle_free(e, handle)
        while e.workers is not NULL:
            w = e.workers
            e.workers = w.next
            Py_XDECREF(w.garbage[0])
            Py_XDECREF(w.garbage[1])
            pthread_cond_destroy(&w.cond)
            free(w.buf.mem)
            free(w.scratch)
            free(w)
        while e.notices is not NULL:
            notice = e.notices
            e.notices = notice.next
            free(notice)
        for fd in (e.wake_fd, e.timer_fd, e.guard_fd, e.attention_fd):
            if fd >= 0:
                close(fd)
        free(e)
        reap()

    def mount(self, mountpoint: str) -> None:
        """Mount, and agree with the kernel on how to talk. Raises OSError."""
        cdef engine_t* e = self.e
        cdef bytes path = os.fsencode(mountpoint)
        cdef const char* at = path
        cdef char message[256]
        cdef int result
        message[0] = 0
        with nogil:
            want_log(message, sizeof(message))
            result = fuse_session_mount(e.se, at)
            want_log(NULL, 0)
        if result != 0:
            raise FuseError(errno_module.EPERM, f"cannot mount on {mountpoint}: {os.fsdecode(message).strip()}")
        e.fd = fuse_session_fd(e.se)
        fcntl(e.fd, F_SETFL, fcntl(e.fd, F_GETFL) | O_NONBLOCK)
        with nogil:
            result = handshake(e)
        if result:
            with nogil:
                fuse_session_unmount(e.se)
            raise FuseError(result, f"no agreement with the kernel on {mountpoint}: {os.strerror(result)}")
        if e.tree is not NULL:
            self.tree.lock()
            e.tree.notice_to = e
            e.tree.notice = on_notice
            self.tree.unlock(False)

    # ---- threads

    def work(self) -> None:
        """A worker's life: returns when the session stops. Runs without the GIL but for handlers."""
        cdef engine_t* e = self.e
        cdef worker_t* w = <worker_t*>calloc(1, sizeof(worker_t))
        cdef int what
        cdef bint sent = True
        if w is NULL:
            raise MemoryError
        w.scratch = <char*>malloc(SCRATCH)
        w.engine = e
        pthread_cond_init(&w.cond, NULL)
        set_worker(w)
        pthread_mutex_lock(&e.lock)
        w.next = e.workers
        e.workers = w
        pthread_mutex_unlock(&e.lock)
        while True:
            with nogil:
                what = next_request(e, w)
            if what == STOP:
                break
            atomic_store(&w.in_python, 1)
            Py_XDECREF(w.garbage[0])
            Py_XDECREF(w.garbage[1])
            w.garbage[0] = w.garbage[1] = NULL
            try:
                self.run(w)
            except BaseException as error:
                log.error("a request was lost", exc_info=error)
            atomic_store(&w.in_python, 0)
        pthread_mutex_lock(&e.lock)
        if e.leader is w:
            e.leader = NULL
        e.threads -= 1
        pthread_mutex_unlock(&e.lock)

    def start(self) -> None:
        """Start the first workers: a leader, a guard, and one to help or take the next miss."""
        cdef int i
        for i in range(min(1 + SPARE, self.e.max_threads)):
            self.e.threads += 1
            self.spawn(self.work)

    cdef int run(self, worker_t* w) except -1:
        """Answer the worker's request with Python. GIL held, and let go of while the answer is sent."""
        cdef engine_t* e = self.e
        cdef request_t* r = &w.request
        cdef Loan loan = None
        cdef Call call
        cdef object result
        cdef bint more
        reap()
        pthread_mutex_lock(&e.lock)
        more = e.idle < SPARE and e.threads < e.max_threads and not atomic_load(&e.stop)
        if more:
            e.threads += 1
        pthread_mutex_unlock(&e.lock)
        if more:
            try:
                self.spawn(self.work)
            except RuntimeError as error:
                log.warning("no more threads: %s", error)
                pthread_mutex_lock(&e.lock)
                e.threads -= 1
                pthread_mutex_unlock(&e.lock)
        handler = self.unshared_open if r.unshared else self.handlers[r.op]
        try:
            if handler is None:
                r.error = unhandled(r)
                self.finish(r, None, w, True)
                return 0
            if r.flight is NULL:
                with nogil:
                    fuse_req_interrupt_func(r.req, on_interrupt, r)
                if r.op == OP_WRITE:
                    loan = Loan.__new__(Loan)
                    loan.at = r.data
                    loan.size = r.size
            result = invoke(handler, r, loan)
            if inspect.iscoroutine(result):
                call = Call.__new__(Call)
                call.engine = self
                call.coroutine = result
                self.hand_over(w, r, call, loan)
                return 0
            self.finish(r, result, w)
        except BaseException as error:
            conclude_error(r, error)
            self.finish(r, None, w, True)
        finally:
            if loan is not None and loan.exports and loan.mem is NULL:
                # The handler kept a view of what it was lent: the buffer is the loan's now.
                loan.mem = r.mem if r.mem is not NULL else w.buf.mem
                if r.mem is NULL:
                    w.buf.mem = NULL
                r.mem = NULL
            free(r.mem)
            r.mem = NULL
        return 0

    cdef int hand_over(self, worker_t* w, request_t* r, Call call, Loan loan) except -1:
        """The request goes on without its worker."""
        if r.flight is NULL:
            with nogil:
                fuse_req_interrupt_func(r.req, <fuse_interrupt_func_t>NULL, NULL)
        memcpy(&call.request, r, sizeof(request_t) - sizeof(r.small))
        if r.flight is NULL and r.name is not NULL:
            call.request.name = call.name = strdup(r.name)
        call.request.worker = NULL
        call.request.mem = NULL
        call.loan = loan
        end_context_moved(r, &call.request)
        r.fi = NULL
        self.calls.add(call)
        if r.flight is NULL:
            with nogil:
                fuse_req_interrupt_func(call.request.req, on_waiter_interrupt, &call.request)
        r.req = NULL
        try:
            call.loop = self.event_loop()
            call.loop.call_soon_threadsafe(call.start)
        except BaseException as error:
            call.coroutine.close()
            conclude_error(&call.request, error)
            self.finish(&call.request, None, NULL, True)
            self.calls.discard(call)
        return 0

    cdef int finish(self, request_t* r, object result, worker_t* w, bint failed=False) except -1:
        """Answer with *result*, or with r.error if the handler *failed*. w is NULL on the event loop."""
        cdef engine_t* e = self.e
        cdef flight_t* f = r.flight
        cdef bint sent = True, claimed
        cdef int error
        if f is not NULL:
            if not failed and result is UNSHARED and self.unshared_open is not None and r.op == OP_OPEN:
                r.flight = NULL
                r.req = NULL
                clear(r)
                with nogil:
                    scatter_flight(e, f)
                return 0
            if not failed and result is not PUBLISHED:
                conclude_error(r, TypeError(f"a coalesced {OPERATIONS[r.op]} returns PUBLISHED, not {result!r}"))
                failed = True
            error = r.error if failed else 0
            what = f"{OPERATIONS[r.op]} of inode {r.ino}"
            r.flight = NULL
            r.req = NULL
            clear(r)
            with nogil:
                learn(e, w, r.op)
                sent = land_flight(e, w, f, error)
            if not sent:
                log.warning("%s said PUBLISHED, but the tree does not have it (any more)", what)
            return 0
        if not failed:
            if result is PUBLISHED and r.op != OP_CREATE:
                claimed = claim(r)
                with nogil:
                    learn(e, w, r.op)
                    sent = not claimed or serve_published(r, r.began)
                if not sent:
                    log.warning("%s of inode %d said PUBLISHED, but the tree does not have it (any more)",
                                OPERATIONS[r.op], r.ino)
                    fuse_reply_err(r.req, ESTALE)
                r.req = NULL
                clear(r)
                return 0
            try:
                conclude(r, result, self.handlers)
            except BaseException as problem:
                conclude_error(r, problem)
        if r.op == OP_RELEASE or r.op == OP_RELEASEDIR:
            release_handle(r)
        with nogil:
            learn(e, w, r.op)
            claimed = claim(r)
            sent = claimed and send(r)
            if w is not NULL:
                bump(&w.counters[r.op].errors, r.error != 0)
                bump(&w.counters[r.op].ns, monotonic_ns() - r.began)
        if not sent:
            undo(r, self.handlers)
        r.req = NULL
        clear(r)
        return 0

    # ---- telling the kernel, from any thread

    # Begin to write to the device; False once the session stops, after which it is closed.
    cdef bint begin_notify(self) noexcept:
        atomic_add(&self.e.notifying, 1)
        if atomic_load(&self.e.stop):
            atomic_add(&self.e.notifying, -1)
            return False
        return True

    cdef int end_notify(self, int result, str what) except -1:
        atomic_add(&self.e.notifying, -1)
        if result < 0:
            raise FuseError(-result, f"{what}: {os.strerror(-result)}")
        return 0

    def inval_inode(self, uint64_t ino, int64_t off, int64_t length) -> None:
        cdef int result = -ENOTCONN
        if self.begin_notify():
            with nogil:
                result = fuse_lowlevel_notify_inval_inode(self.e.se, ino, off, length)
            self.end_notify(result, f"inval_inode({ino})")

    def inval_entry(self, uint64_t parent, bytes name) -> None:
        cdef const char* at = name
        cdef size_t length = len(name)
        cdef int result
        if self.begin_notify():
            with nogil:
                result = fuse_lowlevel_notify_inval_entry(self.e.se, parent, at, length)
            self.end_notify(result, f"inval_entry({parent}, {name!r})")

    def expire_entry(self, uint64_t parent, bytes name) -> None:
        cdef const char* at = name
        cdef size_t length = len(name)
        cdef int result
        cdef expire_entry_t expire = <expire_entry_t>ff_symbol(b"fuse_lowlevel_notify_expire_entry")
        if expire is NULL:
            raise FuseError(ENOSYS, "this libfuse has no fuse_lowlevel_notify_expire_entry (it came with 3.12)")
        if self.begin_notify():
            with nogil:
                result = expire(self.e.se, parent, at, length)
            self.end_notify(result, f"expire_entry({parent}, {name!r})")

    def delete(self, uint64_t parent, uint64_t child, bytes name) -> None:
        cdef const char* at = name
        cdef size_t length = len(name)
        cdef int result
        if self.begin_notify():
            with nogil:
                result = fuse_lowlevel_notify_delete(self.e.se, parent, child, at, length)
            self.end_notify(result, f"delete({parent}, {child}, {name!r})")

    def store(self, uint64_t ino, int64_t offset, object data) -> None:
        cdef const unsigned char[::1] view = data
        cdef fuse_bufvec vec
        cdef int result = 0
        memset(&vec, 0, sizeof(vec))
        vec.count = 1
        vec.buf[0].size = view.shape[0]
        if view.shape[0] and self.begin_notify():
            vec.buf[0].mem = <void*>&view[0]
            with nogil:
                result = fuse_lowlevel_notify_store(self.e.se, ino, offset, &vec, 0)
            self.end_notify(result, f"store({ino})")

    def retrieve(self, uint64_t ino, size_t size, int64_t offset, uint64_t cookie) -> None:
        cdef int result
        if self.begin_notify():
            with nogil:
                result = fuse_lowlevel_notify_retrieve(self.e.se, ino, size, offset, <void*>cookie)
            self.end_notify(result, f"retrieve({ino})")

    # ---- beside the workers

    def service(self) -> None:
        """The service thread's life: tells the kernel, answers the interrupted, drops what nobody has open."""
        cdef engine_t* e = self.e
        cdef pollfd waiting
        cdef uint64_t count
        waiting.fd = e.attention_fd
        waiting.events = POLLIN
        while not atomic_load(&e.stop):
            with nogil:
                poll(&waiting, 1, -1)
                read_fd(e.attention_fd, &count, sizeof(count))
                tell_kernel(e)
                answer_interrupted(e)
            reap()
            if e.backing_error:
                why = "not agreed" if e.backing_error == EOPNOTSUPP else os.strerror(e.backing_error)
                log.info("files are read through this process, not by the kernel itself (passthrough: %s)", why)
                e.backing_error = 0
            for call in list(self.calls):
                call.interrupt()

    def run_coroutine(self, coroutine: object) -> None:
        """Run what no request waits for on the event loop. From any thread."""
        asyncio.run_coroutine_threadsafe(coroutine, self.event_loop())

    def stop(self) -> None:
        """Let every worker return. From any thread, more than once."""
        with nogil:
            stop(self.e)

    def stopped(self) -> bool:
        return atomic_load(&self.e.stop) != 0

    def running(self) -> int:
        """Workers that have not returned, and coroutines that have not answered."""
        return self.e.threads + len(self.calls)

    def abandon(self) -> int:
        """Answer what handlers still have, with ENOTCONN; what they say later is dropped. Returns how many."""
        cdef engine_t* e = self.e
        cdef worker_t* w
        cdef request_t* left
        cdef flight_t* f
        cdef request_t* waiter
        cdef Call call
        cdef int count = 0
        pthread_mutex_lock(&e.lock)
        w = e.workers
        while w is not NULL:
            if atomic_load(&w.in_python) and w.request.flight is NULL and w.request.req is not NULL:
                if claim(&w.request):
                    fuse_reply_err(w.request.req, ENOTCONN)
                    count += 1
            w = w.next
        left = e.queue
        e.queue = e.queue_tail = NULL
        f = e.flights
        while f is not NULL:
            while f.waiters is not NULL:
                waiter = f.waiters
                f.waiters = waiter.next
                waiter.next = left
                left = waiter
            f = f.next
        pthread_mutex_unlock(&e.lock)
        waiter = left
        while waiter is not NULL:
            count += 1
            waiter = waiter.next
        answer_all(left, ENOTCONN)
        for call in list(self.calls):
            if call.request.flight is NULL and claim(&call.request):
                fuse_reply_err(call.request.req, ENOTCONN)
                count += 1
            atomic_store(&call.request.interrupted, 1)
            call.interrupt()
        return count

    def stats(self) -> dict:
        """See Session.stats."""
        cdef engine_t* e = self.e
        cdef worker_t* w
        cdef int op
        cdef int64_t requests, hits, errors, ns, bytes_read = 0, bytes_written = 0
        cdef dict operations = {}
        pthread_mutex_lock(&e.lock)
        workers = e.workers
        pthread_mutex_unlock(&e.lock)
        for op in range(OPS):
            requests = hits = errors = ns = 0
            w = workers         # workers are only ever added, in front
            while w is not NULL:
                requests += atomic_load(&w.counters[op].requests)
                hits += atomic_load(&w.counters[op].hits)
                errors += atomic_load(&w.counters[op].errors)
                ns += atomic_load(&w.counters[op].ns)
                w = w.next
            if requests:
                operations[OPERATIONS[op]] = {"requests": requests, "hits": hits, "errors": errors, "ns": ns}
        w = workers
        while w is not NULL:
            bytes_read += atomic_load(&w.bytes_read)
            bytes_written += atomic_load(&w.bytes_written)
            w = w.next
        c = e.connection
        return {
            "operations": operations,
            "bytes_read": bytes_read,
            "bytes_written": bytes_written,
            "threads": e.threads,
            "passthrough": {
                "negotiated": bool(e.passthrough), "opened": e.backing_opened, "refused": e.backing_refused,
            },
            "tree": self.tree.stats() if self.tree is not None else None,
            "connection": {
                "protocol": (c.proto_major, c.proto_minor), "max_write": c.max_write,
                "max_read": c.max_read, "max_readahead": c.max_readahead, "max_background": c.max_background,
                "congestion_threshold": c.congestion_threshold, "time_gran": c.time_gran,
                "capable": c.capable, "want": c.want,
            },
        }

    def unmount(self) -> None:
        """Unmount, and close the device. After stop(), and after the workers that run C have returned."""
        cdef engine_t* e = self.e
        cdef int tries
        for tries in range(1000):
            if atomic_load(&e.notifying) == 0:
                break
            with nogil:
                usleep(1000)
        with nogil:
            fuse_session_unmount(e.se)
        if e.tree is not NULL:
            self.tree.lock()
            e.tree.notice = NULL
            self.tree.unlock(False)
            with nogil:
                tree_unmounted(e.tree)
        if self.running() == 0:
            # They lead back to whoever owns this engine: without them it ends when nobody names it any more.
            self.spawn = self.event_loop = None
        reap()
