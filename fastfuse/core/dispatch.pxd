from fastfuse.core.libfuse cimport fuse_lowlevel_ops
from fastfuse.core.state cimport engine_t, worker_t

# The callbacks of the operations that the engine serves (what a handler or the tree can answer), and no others.
cdef void fill_ops(fuse_lowlevel_ops* ops, engine_t* e) noexcept nogil
# The worker whose requests libfuse calls back for in this thread.
cdef void set_worker(worker_t* w) noexcept nogil
