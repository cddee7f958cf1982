"""Flights: identical requests that wait for one answer, each fact asked for once."""

from libc.errno cimport EINTR, EIO, ESTALE
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport strcmp, strdup
from posix.fcntl cimport O_ACCMODE, O_RDONLY, O_TRUNC

from fastfuse.core.calls cimport claim, send
from fastfuse.core.hits cimport call_service, serve
from fastfuse.core.libfuse cimport *
from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *
from fastfuse.core.queue cimport append_to_queue, move_request, unpark, wake_guard


# May the request share its answer with others? Not an open for writing.
cdef bint shared(engine_t* e, request_t* r) noexcept nogil:
    return e.coalesced[r.op] and not (r.op == OP_OPEN and (r.flags & O_ACCMODE != O_RDONLY or r.flags & O_TRUNC))


cdef inline bint same_fact(flight_t* f, request_t* r) noexcept nogil:
    return f.op == r.op and f.ino == r.ino and (f.name is NULL or strcmp(f.name, r.name) == 0)


cdef void on_waiter_interrupt(fuse_req_t req, void* data) noexcept nogil:
    cdef request_t* r = <request_t*>data
    atomic_store(&r.interrupted, 1)
    atomic_store(&r.engine.interrupts, 1)
    call_service(r.engine)


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


cdef void answer_all(request_t* waiter, int error) noexcept nogil:
    cdef request_t* following
    while waiter is not NULL:
        following = waiter.next
        if claim(waiter):
            fuse_reply_err(waiter.req, error)
        free(waiter.mem)
        free(waiter)
        waiter = following


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
