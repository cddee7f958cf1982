"""Notices: what the tree says that the kernel must be told, kept until the service thread tells it."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastfuse.core.hits cimport call_service
from fastfuse.core.libfuse cimport (
    FUSE_DEV_IOC_BACKING_CLOSE, fuse_lowlevel_notify_inval_entry, fuse_lowlevel_notify_inval_inode,
)
from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *
from fastfuse.core.tree cimport NOTICE_ATTR, NOTICE_BACKING, NOTICE_ENTRY, NOTICE_INODE, notice_kind


cdef void on_notice(void* to, notice_kind kind, uint64_t ino, const char* name, size_t length) noexcept nogil:
    cdef engine_t* e = <engine_t*>to
    cdef notice_t* notice
    cdef uint32_t id = <uint32_t>ino
    if atomic_load(&e.stop):
        return
    if kind == NOTICE_BACKING:
        ioctl(e.fd, FUSE_DEV_IOC_BACKING_CLOSE, &id)
        return
    if kind == NOTICE_ATTR:
        # Waits for nothing, so it may come before the answer to the request in hand.
        fuse_lowlevel_notify_inval_inode(e.se, ino, -1, 0)
        return
    pthread_mutex_lock(&e.lock)
    notice = e.notices_tail
    if notice is not NULL and kind == NOTICE_INODE and notice.kind == NOTICE_INODE and notice.ino == ino:
        pthread_mutex_unlock(&e.lock)
        return
    notice = <notice_t*>malloc(sizeof(notice_t) + length)
    if notice is not NULL:
        notice.kind = kind
        notice.ino = ino
        notice.length = length
        notice.next = NULL
        if length:
            memcpy(notice.name, name, length)
        notice.name[length] = 0
        if e.notices_tail is NULL:
            e.notices = notice
        else:
            e.notices_tail.next = notice
        e.notices_tail = notice
    pthread_mutex_unlock(&e.lock)
    call_service(e)


cdef void tell_kernel(engine_t* e) noexcept nogil:
    cdef notice_t* notice
    while not atomic_load(&e.stop):
        pthread_mutex_lock(&e.lock)
        notice = e.notices
        if notice is not NULL:
            e.notices = notice.next
            if e.notices is NULL:
                e.notices_tail = NULL
        pthread_mutex_unlock(&e.lock)
        if notice is NULL:
            break
        if notice.kind == NOTICE_ENTRY:
            fuse_lowlevel_notify_inval_entry(e.se, notice.ino, notice.name, notice.length)
        else:
            fuse_lowlevel_notify_inval_inode(e.se, notice.ino, 0, 0)
        free(notice)
