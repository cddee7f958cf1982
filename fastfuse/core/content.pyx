"""Contents: immutable, reference-counted bytes that C can serve, in memory or in an fd."""

import os
import pathlib

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from fastfuse.core.libfuse cimport fstat, stat_t
from fastfuse.core.platform cimport after_request, atomic_add, close


cdef extern from "Python.h":
    Py_buffer* PyMemoryView_GET_BUFFER(object)

cdef extern from *:
    """
    #define ff_pop_all(head) __atomic_exchange_n((head), NULL, __ATOMIC_ACQ_REL)
    static inline void ff_push(void **head, void *item, void **next) {
        void *old = __atomic_load_n(head, __ATOMIC_RELAXED);
        do { *next = old; }
        while (!__atomic_compare_exchange_n(head, &old, item, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    }
    """
    void* pop_all "ff_pop_all"(void** head) nogil
    void push "ff_push"(void** head, void* item, void** next) nogil

# Contents whose last reference went in a thread without the GIL. One list for the process, as the GIL is.
cdef void* dead = NULL


cdef void content_ref(content_t* content) noexcept nogil:
    atomic_add(&content.refs, 1)


cdef bint content_unref(content_t* content) noexcept nogil:
    if atomic_add(&content.refs, -1) > 0:
        return False
    after_request(content)
    if content.owner is NULL:
        if content.fd >= 0:
            close(content.fd)
        free(content)
        return False
    push(&dead, content, <void**>&content.next)
    return True


cdef int reap() except -1:
    cdef content_t* content = <content_t*>pop_all(&dead)
    cdef content_t* following
    while content is not NULL:
        following = content.next
        Py_XDECREF(content.owner)
        free(content)
        content = following
    return 0


cdef content_t* allocate(object owner) except NULL:
    cdef content_t* content = <content_t*>calloc(1, sizeof(content_t))
    if content is NULL:
        raise MemoryError
    content.refs = 1
    content.fd = -1
    if owner is not None:
        Py_INCREF(owner)
        content.owner = <PyObject*>owner
    return content


cdef content_t* from_buffer(object source) except NULL:
    cdef content_t* content
    cdef Py_buffer* view
    if PyBytes_CheckExact(source):
        content = allocate(source)
        content.data = PyBytes_AS_STRING(source)
        content.size = PyBytes_GET_SIZE(source)
        return content
    owner = memoryview(source)
    view = PyMemoryView_GET_BUFFER(owner)
    if not owner.c_contiguous:
        raise ValueError(f"a content must be C-contiguous, this {type(source).__name__} is not")
    content = allocate(owner)
    content.data = <const char*>view.buf
    content.size = view.len
    return content


cdef content_t* from_fd(int fd) except NULL:
    """The regular file behind *fd*, as large as it is now. Takes over *fd*."""
    cdef content_t* content
    try:
        st = os.fstat(fd)
        content = allocate(None)
    except BaseException:
        os.close(fd)
        raise
    content.fd = fd
    content.size = st.st_size
    content.ctime_ns = st.st_ctime_ns
    return content


cdef bint content_untouched(content_t* content) noexcept nogil:
    cdef stat_t st
    return content.fd < 0 or (
        fstat(content.fd, &st) == 0 and st.st_size == content.size
        and st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec == content.ctime_ns)


cdef content_t* content_from(object source) except NULL:
    if isinstance(source, Content):
        content_ref((<Content>source).ptr)
        return (<Content>source).ptr
    if isinstance(source, pathlib.Path):
        return from_fd(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
    if isinstance(source, str):
        raise TypeError("a content is bytes, not str: encode it")
    return from_buffer(source)


cdef Content content_wrap(content_t* content):
    cdef Content self = Content.__new__(Content)
    self.ptr = content
    return self


cdef class Content:
    """Bytes that are served in C, without the GIL: held, not copied, until nobody has them open.

    *source* is anything with the buffer protocol (its buffer must be C-contiguous and must not change while it is
    served), or a `pathlib.Path`, opened here and read with pread(2). Raises OSError (Path), TypeError, ValueError.
    """

    def __init__(self, source: object) -> None:
        if self.ptr is NULL:
            self.ptr = content_from(source)

    def __dealloc__(self):
        if self.ptr is not NULL and content_unref(self.ptr):
            reap()

    @staticmethod
    def from_fd(fd: int) -> Content:
        """The regular file behind *fd*, which is duplicated: the caller keeps its own. Raises OSError."""
        return content_wrap(from_fd(os.dup(fd)))

    @staticmethod
    def in_memfd(source: object) -> Content:
        """A copy of *source* in a memfd(2), which the kernel can read by itself (passthrough). Raises OSError."""
        fd = os.memfd_create("fastfuse", os.MFD_CLOEXEC)
        try:
            with memoryview(source) as view, view.cast("B") as left:
                done = 0
                while done < len(left):
                    done += os.write(fd, left[done:])
            return Content.from_fd(fd)
        finally:
            os.close(fd)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.ptr.size

    def __len__(self) -> int:
        return self.ptr.size

    def __bytes__(self) -> bytes:
        if self.ptr.fd >= 0:
            return os.pread(self.ptr.fd, self.ptr.size, 0)
        return self.ptr.data[:self.ptr.size]
