"""The engine: the session of one mount, from INIT to the end, and the way of a miss through a handler to an answer."""

import asyncio
import errno as errno_module
import logging
import os

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.errno cimport ENOENT, ENOSYS, ENOTCONN, EROFS, ESTALE, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strdup

from fastfuse.core.calls cimport (
    Loan, claim, clear, conclude, conclude_error, end_context_moved, invoke, is_coroutine, release_handle, send, undo,
)
from fastfuse.core.content cimport reap
from fastfuse.core.dispatch cimport fill_ops, set_worker
from fastfuse.core.flights cimport (
    answer_all, answer_interrupted, land_flight, on_waiter_interrupt, scatter_flight,
)
from fastfuse.core.handshake cimport handshake, on_init
from fastfuse.core.hits cimport handle_free, node_of, serve_published
from fastfuse.core.libfuse cimport *
from fastfuse.core.notices cimport on_notice, tell_kernel
from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *
from fastfuse.core.tree cimport Tree, tree_unmounted
from fastfuse.core.workers cimport HANDOVER, STOP, learn, next_request, stop

from fastfuse.core.calls import OPERATIONS
from fastfuse.errors import PUBLISHED, UNSHARED, FuseError

log = logging.getLogger("fastfuse")

cdef enum:
    SPARE = 2       # idle workers to keep while one goes to Python: the next guard, and one behind it

# 3.13: int fuse_lowlevel_notify_expire_entry(struct fuse_session *, fuse_ino_t, const char *, size_t)
ctypedef int (*expire_entry_t)(fuse_session*, fuse_ino_t, const char*, size_t) noexcept nogil

cdef struct ops_t:
    fuse_lowlevel_ops ops
    void* younger[4]        # room for operations that the headers do not know yet


cdef void on_interrupt(fuse_req_t req, void* data) noexcept nogil:
    atomic_store(&(<request_t*>data).interrupted, 1)


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


# What is left of handles at the end leads to the tree: the garbage collector may not take that away before.
@cython.no_gc_clear
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
                  object event_loop, int spin_us=50, int max_threads=256, bint immutable=False,
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
        pthread_mutex_init(&e.fill_lock, NULL)
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
            if is_coroutine(result):
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
            if loan is not None:
                loan.end(&r.mem if r.mem is not NULL else &w.buf.mem)
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
            raise FuseError(ENOSYS, "this libfuse has no fuse_lowlevel_notify_expire_entry (it came with 3.13)")
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
        cdef bint told = False
        waiting.fd = e.attention_fd
        waiting.events = POLLIN
        while not atomic_load(&e.stop):
            with nogil:
                poll(&waiting, 1, -1)
                read_fd(e.attention_fd, &count, sizeof(count))
                tell_kernel(e)
                answer_interrupted(e)
            reap()
            if e.backing_refused and not told:
                told = True
                log.info("files are read through this process, not by the kernel itself (passthrough: %s)",
                         os.fsdecode(e.no_passthrough))
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
            # Who claims it first answers it, and until then it stays: req is looked at afterwards.
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
                "why": os.fsdecode(e.no_passthrough) if e.no_passthrough is not NULL else "",
            },
            "prefilled": atomic_load(&e.prefilled),
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
