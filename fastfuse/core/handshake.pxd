from fastfuse.core.libfuse cimport fuse_conn_info
from fastfuse.core.state cimport engine_t

# libfuse's callback.
cdef void on_init(void* userdata, fuse_conn_info* conn) noexcept nogil
# Answer INIT; waits for it. An errno, or 0.
cdef int handshake(engine_t* e) noexcept nogil
