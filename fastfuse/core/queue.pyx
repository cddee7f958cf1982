"""Who waits: workers for something to do, requests for a worker with time for Python."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *


cdef void wake(worker_t* w) noexcept nogil:
    w.woken = True
    pthread_cond_signal(&w.cond)


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


cdef void move_request(request_t* to, request_t* old) noexcept nogil:
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
