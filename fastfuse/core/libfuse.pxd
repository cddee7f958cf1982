# libfuse3's low-level API and the kernel's own structures: the one place that names them.
#
# Replies that carry a `struct fuse_file_info` are never sent through libfuse: its bit-fields moved between 3.14.1
# and 3.17 under one soname. Entries, attributes and opens are answered with the kernel's structures (linux/fuse.h,
# a stable ABI) through fuse_reply_buf. Of fuse_file_info only fields that never moved are read.

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from posix.types cimport dev_t, gid_t, mode_t, off_t, pid_t, uid_t


cdef extern from "<sys/stat.h>" nogil:
    cdef struct timespec_t "timespec":
        int64_t tv_sec
        long tv_nsec

    cdef struct stat_t "stat":
        uint64_t st_ino
        mode_t st_mode
        uint64_t st_nlink
        uid_t st_uid
        gid_t st_gid
        dev_t st_rdev
        off_t st_size
        int64_t st_blocks
        int64_t st_blksize
        timespec_t st_atim
        timespec_t st_mtim
        timespec_t st_ctim

    int fstat(int, stat_t*)


cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len


cdef extern from "<sys/statvfs.h>" nogil:
    cdef struct statvfs_t "statvfs":
        unsigned long f_bsize
        unsigned long f_frsize
        uint64_t f_blocks
        uint64_t f_bfree
        uint64_t f_bavail
        uint64_t f_files
        uint64_t f_ffree
        uint64_t f_favail
        unsigned long f_fsid
        unsigned long f_flag
        unsigned long f_namemax


cdef extern from "<fcntl.h>" nogil:
    cdef struct flock_t "flock":
        short l_type
        short l_whence
        off_t l_start
        off_t l_len
        pid_t l_pid


cdef extern from "<linux/fuse.h>" nogil:
    """
    /* Newer than the oldest headers that this builds with (values: linux/fuse.h 7.40). */
    #ifndef FUSE_DEV_IOC_BACKING_OPEN
    struct fuse_backing_map { int32_t fd; uint32_t flags; uint64_t padding; };
    #define FUSE_DEV_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
    #define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)
    #endif
    #ifndef FOPEN_PASSTHROUGH
    #define FOPEN_PASSTHROUGH (1 << 7)
    #endif
    #ifndef FUSE_PASSTHROUGH
    #define FUSE_PASSTHROUGH (1ULL << 37)
    #endif
    #ifndef FUSE_INIT_EXT
    #define FUSE_INIT_EXT (1 << 30)
    #endif
    """
    cdef struct fuse_attr:
        uint64_t ino
        uint64_t size
        uint64_t blocks
        uint64_t atime
        uint64_t mtime
        uint64_t ctime
        uint32_t atimensec
        uint32_t mtimensec
        uint32_t ctimensec
        uint32_t mode
        uint32_t nlink
        uint32_t uid
        uint32_t gid
        uint32_t rdev
        uint32_t blksize

    cdef struct fuse_entry_out:
        uint64_t nodeid
        uint64_t generation
        uint64_t entry_valid
        uint64_t attr_valid
        uint32_t entry_valid_nsec
        uint32_t attr_valid_nsec
        fuse_attr attr

    cdef struct fuse_attr_out:
        uint64_t attr_valid
        uint32_t attr_valid_nsec
        uint32_t dummy
        fuse_attr attr

    cdef struct fuse_open_out:
        uint64_t fh
        uint32_t open_flags

    cdef struct fuse_dirent:
        uint64_t ino
        uint64_t off
        uint32_t namelen
        uint32_t type
        char* name

    cdef struct fuse_direntplus:
        fuse_entry_out entry_out
        fuse_dirent dirent

    cdef struct fuse_file_lock:
        uint64_t start
        uint64_t end
        uint32_t type
        uint32_t pid

    cdef struct fuse_lk_out:
        fuse_file_lock lk

    cdef struct fuse_bmap_out:
        uint64_t block

    cdef struct fuse_lseek_out:
        uint64_t offset

    cdef struct fuse_ioctl_out:
        int32_t result
        uint32_t flags
        uint32_t in_iovs
        uint32_t out_iovs

    cdef struct fuse_ioctl_iovec:
        uint64_t base
        uint64_t len

    cdef struct fuse_kstatfs:
        uint64_t blocks
        uint64_t bfree
        uint64_t bavail
        uint64_t files
        uint64_t ffree
        uint32_t bsize
        uint32_t namelen
        uint32_t frsize

    cdef struct fuse_statfs_out:
        fuse_kstatfs st

    cdef struct fuse_in_header:
        uint32_t len
        uint32_t opcode
        uint64_t unique
        uint64_t nodeid
        uint32_t uid
        uint32_t gid
        uint32_t pid

    cdef struct fuse_out_header:
        uint32_t len
        int32_t error
        uint64_t unique

    cdef struct fuse_init_in:
        uint32_t major
        uint32_t minor
        uint32_t max_readahead
        uint32_t flags
        uint32_t flags2

    cdef struct fuse_release_in:
        uint32_t release_flags

    cdef struct fuse_write_in:
        uint32_t write_flags

    cdef struct fuse_backing_map:
        int32_t fd
        uint32_t flags

    enum:
        FUSE_IOCTL_RETRY
        FUSE_IOCTL_MAX_IOV
        FUSE_INIT
        FUSE_NAME_OFFSET
        FUSE_NAME_OFFSET_DIRENTPLUS
        FUSE_RELEASE_FLUSH
        FUSE_RELEASE_FLOCK_UNLOCK
        FUSE_WRITE_CACHE
        FUSE_PARALLEL_DIROPS
        FUSE_INIT_EXT
        FUSE_WRITEBACK_CACHE
        FOPEN_DIRECT_IO
        FOPEN_KEEP_CACHE
        FOPEN_NONSEEKABLE
        FOPEN_CACHE_DIR
        FOPEN_STREAM
        FOPEN_NOFLUSH
        FOPEN_PARALLEL_DIRECT_WRITES
        FOPEN_PASSTHROUGH

    const uint64_t FUSE_PASSTHROUGH
    const unsigned long FUSE_DEV_IOC_BACKING_OPEN
    const unsigned long FUSE_DEV_IOC_BACKING_CLOSE


cdef extern from "<fuse_lowlevel.h>" nogil:
    """
    #include <dlfcn.h>
    /* Symbols younger than the oldest libfuse: NULL where this process's libfuse lacks them. */
    static inline void *ff_symbol(const char *name) { return dlsym(RTLD_DEFAULT, name); }

    /* What libfuse has to say goes to standard error, but for the thread that wants it for an exception's text. */
    #include <stdarg.h>
    #include <stdio.h>
    static __thread char *ff_wanted;
    static __thread size_t ff_wanted_size;
    static void ff_log(enum fuse_log_level level, const char *format, va_list args) {
        if (ff_wanted && level <= FUSE_LOG_ERR)
            vsnprintf(ff_wanted, ff_wanted_size, format, args);
        else
            vfprintf(stderr, format, args);
    }
    static inline void ff_want_log(char *at, size_t size) {
        fuse_set_log_func(ff_log);
        ff_wanted = at;
        ff_wanted_size = size;
    }
    """
    void want_log "ff_want_log"(char* to, size_t size)
    void* ff_symbol(const char* name)
    int fuse_version()

    ctypedef uint64_t fuse_ino_t
    cdef struct fuse_req:
        pass
    ctypedef fuse_req* fuse_req_t
    cdef struct fuse_session:
        pass
    cdef struct fuse_pollhandle:
        pass

    cdef struct fuse_args:
        int argc
        char** argv
        int allocated

    cdef struct fuse_ctx:
        uid_t uid
        gid_t gid
        pid_t pid
        mode_t umask

    cdef struct fuse_file_info:
        int flags
        uint64_t fh
        uint64_t lock_owner
        uint32_t poll_events

    cdef struct fuse_conn_info:
        unsigned proto_major
        unsigned proto_minor
        unsigned max_write
        unsigned max_read
        unsigned max_readahead
        unsigned capable
        unsigned want
        unsigned max_background
        unsigned congestion_threshold
        unsigned time_gran

    cdef struct fuse_forget_data:
        fuse_ino_t ino
        uint64_t nlookup

    enum fuse_buf_flags:
        FUSE_BUF_IS_FD

    cdef struct fuse_buf:
        size_t size
        int flags
        void* mem
        int fd
        off_t pos

    cdef struct fuse_bufvec:
        size_t count
        size_t idx
        size_t off
        fuse_buf buf[1]

    cdef struct fuse_lowlevel_ops:
        void (*init)(void*, fuse_conn_info*) noexcept
        void (*destroy)(void*) noexcept
        void (*lookup)(fuse_req_t, fuse_ino_t, const char*) noexcept
        void (*forget)(fuse_req_t, fuse_ino_t, uint64_t) noexcept
        void (*getattr)(fuse_req_t, fuse_ino_t, fuse_file_info*) noexcept
        void (*setattr)(fuse_req_t, fuse_ino_t, stat_t*, int, fuse_file_info*) noexcept
        void (*readlink)(fuse_req_t, fuse_ino_t) noexcept
        void (*mknod)(fuse_req_t, fuse_ino_t, const char*, mode_t, dev_t) noexcept
        void (*mkdir)(fuse_req_t, fuse_ino_t, const char*, mode_t) noexcept
        void (*unlink)(fuse_req_t, fuse_ino_t, const char*) noexcept
        void (*rmdir)(fuse_req_t, fuse_ino_t, const char*) noexcept
        void (*symlink)(fuse_req_t, const char*, fuse_ino_t, const char*) noexcept
        void (*rename)(fuse_req_t, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) noexcept
        void (*link)(fuse_req_t, fuse_ino_t, fuse_ino_t, const char*) noexcept
        void (*open)(fuse_req_t, fuse_ino_t, fuse_file_info*) noexcept
        void (*read)(fuse_req_t, fuse_ino_t, size_t, off_t, fuse_file_info*) noexcept
        void (*write)(fuse_req_t, fuse_ino_t, const char*, size_t, off_t, fuse_file_info*) noexcept
        void (*flush)(fuse_req_t, fuse_ino_t, fuse_file_info*) noexcept
        void (*release)(fuse_req_t, fuse_ino_t, fuse_file_info*) noexcept
        void (*fsync)(fuse_req_t, fuse_ino_t, int, fuse_file_info*) noexcept
        void (*opendir)(fuse_req_t, fuse_ino_t, fuse_file_info*) noexcept
        void (*readdir)(fuse_req_t, fuse_ino_t, size_t, off_t, fuse_file_info*) noexcept
        void (*releasedir)(fuse_req_t, fuse_ino_t, fuse_file_info*) noexcept
        void (*fsyncdir)(fuse_req_t, fuse_ino_t, int, fuse_file_info*) noexcept
        void (*statfs)(fuse_req_t, fuse_ino_t) noexcept
        void (*setxattr)(fuse_req_t, fuse_ino_t, const char*, const char*, size_t, int) noexcept
        void (*getxattr)(fuse_req_t, fuse_ino_t, const char*, size_t) noexcept
        void (*listxattr)(fuse_req_t, fuse_ino_t, size_t) noexcept
        void (*removexattr)(fuse_req_t, fuse_ino_t, const char*) noexcept
        void (*access)(fuse_req_t, fuse_ino_t, int) noexcept
        void (*create)(fuse_req_t, fuse_ino_t, const char*, mode_t, fuse_file_info*) noexcept
        void (*getlk)(fuse_req_t, fuse_ino_t, fuse_file_info*, flock_t*) noexcept
        void (*setlk)(fuse_req_t, fuse_ino_t, fuse_file_info*, flock_t*, int) noexcept
        void (*bmap)(fuse_req_t, fuse_ino_t, size_t, uint64_t) noexcept
        void (*ioctl)(fuse_req_t, fuse_ino_t, unsigned, void*, fuse_file_info*, unsigned,
                      const void*, size_t, size_t) noexcept
        void (*poll)(fuse_req_t, fuse_ino_t, fuse_file_info*, fuse_pollhandle*) noexcept
        void (*retrieve_reply)(fuse_req_t, void*, fuse_ino_t, off_t, fuse_bufvec*) noexcept
        void (*forget_multi)(fuse_req_t, size_t, fuse_forget_data*) noexcept
        void (*flock)(fuse_req_t, fuse_ino_t, fuse_file_info*, int) noexcept
        void (*fallocate)(fuse_req_t, fuse_ino_t, int, off_t, off_t, fuse_file_info*) noexcept
        void (*readdirplus)(fuse_req_t, fuse_ino_t, size_t, off_t, fuse_file_info*) noexcept
        void (*copy_file_range)(fuse_req_t, fuse_ino_t, off_t, fuse_file_info*, fuse_ino_t, off_t,
                                fuse_file_info*, size_t, int) noexcept
        void (*lseek)(fuse_req_t, fuse_ino_t, off_t, int, fuse_file_info*) noexcept

    const char* fuse_pkgversion()

    fuse_session* fuse_session_new(fuse_args*, const fuse_lowlevel_ops*, size_t, void*)
    int fuse_session_mount(fuse_session*, const char*)
    void fuse_session_unmount(fuse_session*)
    void fuse_session_destroy(fuse_session*)
    void fuse_session_exit(fuse_session*)
    int fuse_session_exited(fuse_session*)
    int fuse_session_fd(fuse_session*)
    int fuse_session_receive_buf(fuse_session*, fuse_buf*)
    void fuse_session_process_buf(fuse_session*, const fuse_buf*)

    void* fuse_req_userdata(fuse_req_t)
    const fuse_ctx* fuse_req_ctx(fuse_req_t)
    ctypedef void (*fuse_interrupt_func_t)(fuse_req_t, void*) noexcept
    void fuse_req_interrupt_func(fuse_req_t, fuse_interrupt_func_t, void*)

    int fuse_reply_err(fuse_req_t, int)
    void fuse_reply_none(fuse_req_t)
    int fuse_reply_buf(fuse_req_t, const char*, size_t)
    int fuse_reply_statfs(fuse_req_t, const statvfs_t*)

    int fuse_lowlevel_notify_poll(fuse_pollhandle*)
    int fuse_lowlevel_notify_inval_inode(fuse_session*, fuse_ino_t, off_t, off_t)
    int fuse_lowlevel_notify_inval_entry(fuse_session*, fuse_ino_t, const char*, size_t)
    int fuse_lowlevel_notify_delete(fuse_session*, fuse_ino_t, fuse_ino_t, const char*, size_t)
    int fuse_lowlevel_notify_store(fuse_session*, fuse_ino_t, off_t, fuse_bufvec*, int)
    int fuse_lowlevel_notify_retrieve(fuse_session*, fuse_ino_t, size_t, off_t, void*)
    void fuse_pollhandle_destroy(fuse_pollhandle*)
