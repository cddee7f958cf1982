from fastfuse.core.state cimport request_t, worker_t


cdef extern from "Python.h":
    bint is_coroutine "PyCoro_CheckExact"(object)


# A buffer lent to a handler: `write` sees the kernel's bytes where they were received.
cdef class Loan:
    cdef const char* at     # NULL once the bytes are gone [self]
    cdef Py_ssize_t size
    cdef int exports        # [self]
    cdef void* mem          # the whole buffer, once it is the loan's own (free)
    # The call is over: *buf becomes the loan's if somebody kept a view of it (and NULL), else its bytes are gone.
    cdef void end(self, void** buf) noexcept


# Call the handler with the request's arguments. A write's bytes are lent. GIL held; raises what the handler raises.
cdef object invoke(object handler, request_t* r, Loan loan)
# Turn what the handler gave into the request's answer (r.error or r.out); raises TypeError and the like. GIL held.
cdef int conclude(request_t* r, object result, object handlers) except -1
# Turn an exception into the request's answer, and log it if nobody raised it on purpose. GIL held.
cdef void conclude_error(request_t* r, object error) noexcept
# May the caller answer? One answer per request, whoever comes first: a handler, an interrupt, the end of the session.
cdef bint claim(request_t* r) noexcept nogil
# Send the answer. False: the kernel no longer wants it, and undo() is due.
cdef bint send(request_t* r) noexcept nogil
# Give back what an answer handed out that the kernel did not take. GIL held.
cdef int undo(request_t* r, object handlers) except -1
# The handle of a file that was released.
cdef void release_handle(request_t* r) noexcept
# Drop the references that the request holds. GIL held.
cdef void clear(request_t* r) noexcept
# The Context outlives the request.
cdef void end_context(request_t* r) noexcept
# The Context looks at the request where it is now.
cdef void end_context_moved(request_t* r, request_t* to) noexcept
