from cpython.object cimport PyObject
from libc.stdint cimport int64_t


cdef struct content_t:
    int64_t refs            # atomic; one per node and one per open handle that serves from it
    const char* data        # the bytes, when fd is -1
    int64_t size            # bytes; fixed for the content's life
    PyObject* owner         # keeps data alive; dropped only by reap(), with the GIL
    content_t* next         # in the list of the dead
    content_t* lru_prev     # the tree's cache order [tree.lru_lock]; NULL when not evictable
    content_t* lru_next
    void* node              # the node that the cache order counts it for [tree.lru_lock]
    int fd                  # the file that holds the bytes, or -1
    int64_t ctime_ns        # of that file when it was opened; no program can set it
    bint unbacked           # the kernel will not read the file by itself [engine.backing_lock]


cdef class Content:
    cdef content_t* ptr


# Any object that can be served, as a new reference. GIL held; may open a file.
cdef content_t* content_from(object source) except NULL
# Takes over the reference.
cdef Content content_wrap(content_t* content)
cdef void content_ref(content_t* content) noexcept nogil
# True when the last reference went and reap() has work to do.
cdef bint content_unref(content_t* content) noexcept nogil
# Has nobody written to the file that holds the bytes?
cdef bint content_untouched(content_t* content) noexcept nogil
# Free what dead contents held. GIL held; runs destructors.
cdef int reap() except -1
