# What the core needs of the C library, the compiler and Linux besides libfuse.

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_rwlock_t:
        pass
    ctypedef struct pthread_rwlockattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_signal(pthread_cond_t*)
    int pthread_cond_broadcast(pthread_cond_t*)
    int pthread_rwlockattr_init(pthread_rwlockattr_t*)
    int pthread_rwlockattr_destroy(pthread_rwlockattr_t*)
    int pthread_rwlockattr_setkind_np(pthread_rwlockattr_t*, int)
    int PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
    int pthread_rwlock_init(pthread_rwlock_t*, pthread_rwlockattr_t*)
    int pthread_rwlock_destroy(pthread_rwlock_t*)
    int pthread_rwlock_rdlock(pthread_rwlock_t*)
    int pthread_rwlock_tryrdlock(pthread_rwlock_t*)
    int pthread_rwlock_wrlock(pthread_rwlock_t*)
    int pthread_rwlock_trywrlock(pthread_rwlock_t*)
    int pthread_rwlock_unlock(pthread_rwlock_t*)


cdef extern from "<time.h>" nogil:
    """
    #include <stdint.h>
    static inline int64_t ff_monotonic_ns(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    }
    static inline int64_t ff_wall_clock_ns(void) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    }
    #if defined(__x86_64__) || defined(__i386__)
    #define ff_pause() __builtin_ia32_pause()
    #else
    #define ff_pause() ((void)0)
    #endif
    #define ff_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define ff_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define ff_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)
    #define ff_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
    /* A counter that one thread writes and others look at. */
    #define ff_bump(p, v) __atomic_store_n((p), *(p) + (v), __ATOMIC_RELAXED)
    /* What a thread did before it answered a request is seen by the one that gets the next: the kernel orders them,
       which ThreadSanitizer has to be told. */
    #ifdef __SANITIZE_THREAD__
    void __tsan_acquire(void *);
    void __tsan_release(void *);
    #define ff_before_answer(p) __tsan_release(p)
    #define ff_after_request(p) __tsan_acquire(p)
    /* The kernel has copied the bytes when its caller goes on; that the system call returns later means nothing. */
    void __tsan_ignore_thread_begin(void);
    void __tsan_ignore_thread_end(void);
    #else
    #define __tsan_ignore_thread_begin() ((void)0)
    #define __tsan_ignore_thread_end() ((void)0)
    #define ff_before_answer(p) ((void)0)
    #define ff_after_request(p) ((void)0)
    #endif
    #define ff_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    """
    int64_t monotonic_ns "ff_monotonic_ns"()
    int64_t wall_clock_ns "ff_wall_clock_ns"()
    void cpu_pause "ff_pause"()
    # Atomics on int64_t: the compiler's own, so that they also work on plain struct fields.
    int64_t atomic_load "ff_load"(int64_t*)
    void atomic_store "ff_store"(int64_t*, int64_t)
    int64_t atomic_add "ff_add"(int64_t*, int64_t)          # the new value
    int64_t atomic_exchange "ff_exchange"(int64_t*, int64_t)  # the old value
    uint32_t atomic_or "ff_or"(uint32_t*, uint32_t)          # the old value
    uint32_t atomic_load32 "ff_load"(uint32_t*)
    void atomic_store32 "ff_store"(uint32_t*, uint32_t)
    void bump "ff_bump"(int64_t*, int64_t)
    void before_answer "ff_before_answer"(void*)
    void after_request "ff_after_request"(void*)
    void kernel_copies "__tsan_ignore_thread_begin"()
    void kernel_copied "__tsan_ignore_thread_end"()


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned, int)
    int EFD_CLOEXEC
    int EFD_NONBLOCK


cdef extern from "<sys/timerfd.h>" nogil:
    """
    static inline int ff_timer_arm(int fd, int64_t ns) {
        struct itimerspec spec = {{0, 0}, {ns / 1000000000, ns % 1000000000}};
        return timerfd_settime(fd, 0, &spec, 0);
    }
    """
    int timerfd_create(int, int)
    int CLOCK_MONOTONIC
    int timer_arm "ff_timer_arm"(int, int64_t)
    int TFD_CLOEXEC
    int TFD_NONBLOCK


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)
    short POLLIN


cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int, unsigned long, ...)


cdef extern from "<sys/socket.h>" nogil:
    int socketpair(int, int, int, int*)
    int AF_UNIX
    int SOCK_SEQPACKET
    int SOCK_CLOEXEC


cdef extern from "<unistd.h>" nogil:
    ssize_t read_fd "read"(int, void*, size_t)
    ssize_t write_fd "write"(int, const void*, size_t)
    ssize_t pread(int, void*, size_t, int64_t)
    int close(int)
    int usleep(unsigned)
    int dup3(int, int, int)


cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_DUPFD_CLOEXEC
    int F_GETFL
    int F_SETFL
    int O_NONBLOCK
    int O_CLOEXEC

