from fastfuse.core.state cimport engine_t, worker_t

cdef enum:
    STOP            # the session ends
    PYTHON          # the worker's request needs Python
    HANDOVER = 50_000       # ns: who is expected to be in Python for longer hands the lead over before

# A worker's life without the GIL: PYTHON when it has a request for a handler, or STOP.
cdef int next_request(engine_t* e, worker_t* w) noexcept nogil
# Python is done with the worker's request: note how long it took for op.
cdef void learn(engine_t* e, worker_t* w, int op) noexcept nogil
# Let every worker return.
cdef void stop(engine_t* e) noexcept nogil
