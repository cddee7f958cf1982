"""INIT, the first request: what kernel, libfuse and this engine agree on."""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastfuse.core.libfuse cimport *
from fastfuse.core.platform cimport *
from fastfuse.core.state cimport *


cdef void on_init(void* userdata, fuse_conn_info* conn) noexcept nogil:
    cdef connection_t* c = &(<engine_t*>userdata).connection
    if c.max_write:
        conn.max_write = c.max_write
    if c.max_read:
        conn.max_read = c.max_read
    if c.max_readahead:
        conn.max_readahead = c.max_readahead
    # The kernel's 12 would let a dozen slow handlers hold up all direct and read-ahead requests.
    conn.max_background = c.max_background if c.max_background else 128
    conn.congestion_threshold = c.congestion_threshold if c.congestion_threshold else conn.max_background * 3 // 4
    if c.time_gran:
        conn.time_gran = c.time_gran
    conn.want = (conn.want | (c.want & conn.capable)) & ~c.unwanted
    c.capable = conn.capable
    c.want = conn.want
    c.proto_major = conn.proto_major
    c.proto_minor = conn.proto_minor
    c.max_write = conn.max_write
    c.max_read = conn.max_read
    c.max_readahead = conn.max_readahead
    c.max_background = conn.max_background
    c.congestion_threshold = conn.congestion_threshold
    c.time_gran = conn.time_gran


# Answer INIT, the first request. libfuse writes its answer into a socket pair, where what it does not know to ask for is
# added. Returns an errno.
cdef int handshake(engine_t* e) noexcept nogil:
    cdef pollfd waiting
    cdef fuse_buf buf
    cdef fuse_init_in* asked
    cdef char reply[4096]
    cdef uint32_t* out = <uint32_t*>(reply + sizeof(fuse_out_header))
    cdef int pair[2]
    cdef int saved, n
    cdef uint64_t offered
    memset(&buf, 0, sizeof(buf))
    waiting.fd = e.fd
    waiting.events = POLLIN
    while poll(&waiting, 1, 10000) < 0 and errno == EINTR:
        pass
    n = fuse_session_receive_buf(e.se, &buf)
    if n <= 0 or (<fuse_in_header*>buf.mem).opcode != FUSE_INIT:
        free(buf.mem)
        return -n if n < 0 else EIO
    asked = <fuse_init_in*>(<char*>buf.mem + sizeof(fuse_in_header))
    offered = asked.flags
    if asked.flags & FUSE_INIT_EXT:
        offered |= <uint64_t>asked.flags2 << 32
    if socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0:
        free(buf.mem)
        return errno
    saved = fcntl(e.fd, F_DUPFD_CLOEXEC, 0)
    dup3(pair[1], e.fd, O_CLOEXEC)
    fuse_session_process_buf(e.se, &buf)
    dup3(saved, e.fd, O_CLOEXEC)
    close(saved)
    n = <int>read_fd(pair[0], reply, sizeof(reply))
    close(pair[0])
    close(pair[1])
    free(buf.mem)
    if n < <int>(sizeof(fuse_out_header) + 40) or (<fuse_out_header*>reply).error:
        return -(<fuse_out_header*>reply).error if n > 0 else EIO
    # struct fuse_init_out: flags is word 3, flags2 word 8, max_stack_depth word 9.
    if offered & FUSE_PARALLEL_DIROPS:
        out[3] |= FUSE_PARALLEL_DIROPS
    if not e.connection.passthrough:
        e.no_passthrough = b"switched off"
    elif not offered & FUSE_PASSTHROUGH:
        e.no_passthrough = b"this kernel does not offer it (Linux 6.9 does)"
    elif out[3] & FUSE_WRITEBACK_CACHE:
        e.no_passthrough = b"it does not go together with the writeback cache"
    else:
        e.passthrough = True
        out[3] |= FUSE_INIT_EXT
        out[8] |= <uint32_t>(FUSE_PASSTHROUGH >> 32)
        out[9] = 2          # the backing may itself be stacked (overlayfs)
    return 0 if write_fd(e.fd, reply, n) == n else errno
