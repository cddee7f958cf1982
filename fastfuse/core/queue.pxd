from fastfuse.core.state cimport engine_t, request_t, worker_t

# engine.lock is held.
cdef void wake(worker_t* w) noexcept nogil
# Wake a parked worker, if there is one. engine.lock is held.
cdef worker_t* unpark(engine_t* e) noexcept nogil
# Let the guard look for work.
cdef void wake_guard(engine_t* e) noexcept nogil
cdef void move_request(request_t* to, request_t* old) noexcept nogil
# engine.lock is held.
cdef void append_to_queue(engine_t* e, request_t* r) noexcept nogil
# The worker's request, with the buffer that it came in. engine.lock is held. False: out of memory.
cdef bint put_in_queue(engine_t* e, worker_t* w) noexcept nogil
