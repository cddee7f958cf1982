"""Workers: Python threads that own their state, and what they do without the GIL.

One of them, the leader, receives; it answers hits. For a miss it goes to Python itself, so that a fast handler costs no
hop between threads. Before a handler that is known to be slow, or not known yet, it hands the lead over to the guard,
the next worker; and if one that used to be fast is not, the guard takes the lead. Others are parked. With nobody to
take over, a miss is put in a queue: the leader never goes to Python when that would leave nobody to receive.
"""

from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from fastfuse.core.flights cimport join_flight, shared
from fastfuse.core.hits cimport call_service
from fastfuse.core.libfuse cimport *
from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *
from fastfuse.core.queue cimport move_request, put_in_queue, unpark, wake, wake_guard

cdef enum:
    BACKLOG = 8     # requests without a pause, after which it is time to look whether more are waiting
    PATIENCE = 10_000_000   # ns: after which the guard takes the lead. Not less: arming a timer earlier than all others
                            # costs 9 us on a virtual machine, against 0.4 us (the clock's interrupt is set anew)


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


# Let a parked worker receive beside the leader, as long as requests wait.
cdef void call_helper(engine_t* e) noexcept nogil:
    pthread_mutex_lock(&e.lock)
    if e.parked is not NULL and not atomic_load(&e.helping):
        atomic_store(&e.helping, 1)
        unpark(e).help = True
    pthread_mutex_unlock(&e.lock)


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
        if streak == BACKLOG:
            streak = 0
            # Not each client that asks again at once is a queue: who shares its CPU with the leader always does.
            if leads and e.parallel and not atomic_load(&e.helping) and poll(waiting, 1, 0) > 0:
                call_helper(e)
        w.request.req = NULL
        w.request.op = OPS
        w.request.began = now = monotonic_ns()
        fuse_session_process_buf(e.se, &w.buf)
        if w.request.op < OPS:
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
