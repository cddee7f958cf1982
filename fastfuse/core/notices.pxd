from libc.stdint cimport uint64_t

from fastfuse.core.state cimport engine_t
from fastfuse.core.tree cimport notice_kind

# tree_t.notice of a mounted tree.
cdef void on_notice(void* to, notice_kind kind, uint64_t ino, const char* name, size_t length) noexcept nogil
# Tell the kernel what there is to tell. May wait for requests that are under way: for the service thread alone.
cdef void tell_kernel(engine_t* e) noexcept nogil
