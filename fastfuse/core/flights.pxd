from fastfuse.core.libfuse cimport fuse_req_t
from fastfuse.core.state cimport engine_t, flight_t, request_t, worker_t

# May the request share its answer with others?
cdef bint shared(engine_t* e, request_t* r) noexcept nogil
# Join the flight of the worker's request, or begin one. True: it is for this worker to run.
cdef bint join_flight(engine_t* e, worker_t* w) noexcept nogil
# The handler has published, or failed with error. False: what it said is not in the tree.
cdef bint land_flight(engine_t* e, worker_t* w, flight_t* f, int error) noexcept nogil
# The handler wants to see each request.
cdef void scatter_flight(engine_t* e, flight_t* f) noexcept nogil
# Answer those who got a signal with EINTR.
cdef void answer_interrupted(engine_t* e) noexcept nogil
# Answer, and free, a list of requests.
cdef void answer_all(request_t* waiter, int error) noexcept nogil
# libfuse's callback for a request that the service thread looks after.
cdef void on_waiter_interrupt(fuse_req_t req, void* data) noexcept nogil
