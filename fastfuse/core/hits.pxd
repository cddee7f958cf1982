from libc.stdint cimport int64_t, uint64_t

from fastfuse.core.content cimport content_t
from fastfuse.core.libfuse cimport fuse_entry_out
from fastfuse.core.state cimport engine_t, handle_t, request_t
from fastfuse.core.tree cimport node_t


# Answer from the tree, if it knows; False: a handler must be asked. Never blocks for longer than the reply's copy.
cdef bint serve(request_t* r, int64_t now) noexcept nogil
# The same for an operation whose handler has put its answer into the tree.
cdef bint serve_published(request_t* r, int64_t now) noexcept nogil
# The entry (r.ino, r.name), counted as a lookup; *missing: it does not exist.
cdef bint take_entry(request_t* r, fuse_entry_out* out, int64_t now, bint* missing) noexcept nogil
# Make it a negative answer to a lookup, as far as the tree lets the kernel believe one.
cdef int reply_missing(request_t* r) noexcept nogil
# Bytes of a content, from r.off, at most r.size.
cdef int reply_content(request_t* r, content_t* content) noexcept nogil

# The kernel lets go of a node; False: it is not the tree's.
cdef bint forget_node(engine_t* e, uint64_t ino, uint64_t nlookup) noexcept nogil

# The tree's node of r.ino, to be compared with NULL only: it may go at any time.
cdef node_t* node_of(request_t* r) noexcept nogil

cdef handle_t* handle_new(engine_t* e) noexcept nogil
# Let go of what the handle pins. The caller has dropped fi.
cdef void handle_free(engine_t* e, handle_t* handle) noexcept nogil
# Something is left for the service thread.
cdef void call_service(engine_t* e) noexcept nogil
