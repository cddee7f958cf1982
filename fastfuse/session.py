"""Session: one mount, from mounting to unmounting."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from fastfuse.core.calls import OPERATIONS
from fastfuse.core.engine import Engine
from fastfuse.mountpoint import check_options, device, prepare, set_read_ahead, unmount
from fastfuse.operations import Operations, handlers_of

log = logging.getLogger("fastfuse")

#: FUSE_CAP_* of fuse_common.h: what can be asked of the connection.
CAPABILITIES = {
    "async_read": 1 << 0,
    "posix_locks": 1 << 1,
    "atomic_o_trunc": 1 << 3,
    "export_support": 1 << 4,
    "dont_mask": 1 << 6,
    "flock_locks": 1 << 10,
    "auto_inval_data": 1 << 12,
    "readdirplus": 1 << 13,
    "readdirplus_auto": 1 << 14,
    "async_dio": 1 << 15,
    "writeback_cache": 1 << 16,
    "parallel_dirops": 1 << 18,
    "posix_acl": 1 << 19,
    "handle_killpriv": 1 << 20,
    "cache_symlinks": 1 << 23,
    "explicit_inval_data": 1 << 25,
}

GRACE = 0.3  # seconds that handlers have to finish when the session ends


class Session:
    """One mount of *ops* on the directory *mountpoint*.

    *options* are mount options ("ro", "allow_other", "fsname=x", ...: mount.fuse3(8)). *threads* bounds how many plain
    handlers run at once. *spin_us*: how long a worker looks for the next request before it sleeps (0 on one CPU).
    *immutable*: everything is in the tree for good, so that open and close cost the kernel no request. *passthrough*:
    let the kernel read contents in files by itself where it can. *want* and *unwanted* name CAPABILITIES;
    cache_symlinks is wanted where only the tree knows links: the kernel keeps their targets until it is told. The other
    settings are those of struct fuse_conn_info, in bytes or requests, None for libfuse's own. *read_ahead* is in bytes,
    None for the kernel's 128 KiB; to set it takes root, and others go without. *debug* has libfuse print every request
    and answer on standard error.

    A session is used once: `run()`, or `with session:`, or mount, start and close one by one. Any thread may call any
    method. Raises ValueError for options that make no sense.
    """

    def __init__(
        self,
        ops: Operations,
        mountpoint: str | os.PathLike[str],
        *,
        options: Sequence[str] = (),
        threads: int = 256,
        spin_us: int = 50,
        immutable: bool = False,
        passthrough: bool = True,
        want: Collection[str] = (),
        unwanted: Collection[str] = (),
        max_write: int | None = None,
        max_readahead: int | None = None,
        max_background: int | None = None,
        congestion_threshold: int | None = None,
        time_gran: int | None = None,
        read_ahead: int | None = 1 << 20,
        debug: bool = False,
    ) -> None:
        if threads < 1:
            raise ValueError("threads is at least 1")
        if immutable:
            check_immutable(ops)
        options = [option for word in options for option in word.split(",")]
        check_options(options)
        self.ops = ops
        self.mountpoint = os.fspath(mountpoint)
        self._read_ahead = read_ahead
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._state = "new"  # mounted, started, closed [_lock]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: threading.Thread | None = None
        self._device: str | None = None
        connection = {
            "max_write": max_write,
            # The kernel hears it as a mount option; libfuse wants to hear it here too.
            "max_read": next((int(option[9:]) for option in options if option.startswith("max_read=")), None),
            "max_readahead": max_readahead,
            "max_background": max_background,
            "congestion_threshold": congestion_threshold,
            "time_gran": time_gran,
            "want": capabilities({*want, *({"cache_symlinks"} if links_stay(ops) else ())}),
            "unwanted": capabilities(unwanted),
        }
        self._engine = Engine(
            handlers_of(ops, OPERATIONS),
            ops.tree,
            [*(["-o", ",".join(options)] if options else []), *(["-d"] if debug else [])],
            coalesce=ops.coalesce,
            unshared_open=handlers_of(ops, ("open_unshared",))[0],
            spawn=self._spawn,
            event_loop=self._event_loop,
            spin_us=spin_us,
            max_threads=threads,
            immutable=immutable,
            passthrough=passthrough,
            connection={name: value for name, value in connection.items() if value is not None},
        )

    # ---- life

    def mount(self) -> None:
        """Mount; requests wait until `start`. Nothing runs yet, so a process may still fork. Raises MountError."""
        with self._lock:
            if self._state != "new":
                raise RuntimeError(f"this session is {self._state}")
            self.mountpoint = prepare(self.mountpoint)
            self._engine.mount(self.mountpoint)
            self._device = device(self.mountpoint)
            self._state = "mounted"
        if self._read_ahead is not None:
            set_read_ahead(self.mountpoint, self._read_ahead)

    def start(self) -> None:
        """Start the workers: from here on requests are answered."""
        with self._lock:
            if self._state != "mounted":
                raise RuntimeError(f"this session is {self._state}, not mounted")
            self._state = "started"
        self.ops.init()
        self._engine.start()
        self._spawn(self._serve)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the session ends (unmounted from outside, or `exit`); False after *timeout* seconds."""
        return self._ended.wait(timeout)

    def exit(self) -> None:
        """Let the session end. Returns at once."""
        self._engine.stop()

    def close(self) -> None:
        """End the session: every request in flight is answered, at the latest with ENOTCONN, then it is unmounted.

        Takes less than a second, whatever handlers do; what they return later is dropped.
        """
        with self._lock:
            was, self._state = self._state, "closed"
        if was in ("new", "closed"):
            return
        engine = self._engine
        engine.stop()
        deadline = time.monotonic() + GRACE
        while engine.running() and time.monotonic() < deadline:
            time.sleep(0.001)
        abandoned = engine.abandon()
        if abandoned:
            log.warning("%s: %d requests were given up", self.mountpoint, abandoned)
        engine.unmount()
        if self._device is not None and device(self.mountpoint) == self._device:
            unmount(self.mountpoint)  # libfuse leaves it there when the connection was aborted
        if self._own_loop is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._own_loop.join(2 * GRACE)
        self._ended.set()
        if was == "started":
            self.ops.destroy()

    def run(self) -> None:
        """Mount, serve until the end, unmount."""
        self.mount()
        try:
            self.start()
            self.wait()
        finally:
            self.close()

    async def serve(self) -> None:
        """As `run`, on the running event loop, which then runs the coroutine handlers. Cancel it to unmount."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self.mount)
        try:
            self.start()
            await asyncio.to_thread(self._ended.wait)
        finally:
            self._engine.stop()
            await asyncio.shield(asyncio.to_thread(self.close))

    def __enter__(self) -> Session:
        self.mount()
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- telling the kernel

    def inval_inode(self, ino: int, off: int = 0, length: int = 0) -> None:
        """Drop the kernel's pages of *ino* from byte *off* (length 0: to the end) and its attributes (off < 0: only).

        Waits for reads and writes of those pages that are under way: not from their own handlers. Raises OSError
        (ENOENT: the kernel does not know the inode). Source: fuse_lowlevel_notify_inval_inode.
        """
        self._engine.inval_inode(ino, off, length)

    def inval_entry(self, parent: int, name: bytes) -> None:
        """Let the kernel look *name* up again, also where it believed that there is none. Raises OSError."""
        self._engine.inval_entry(parent, name)

    def expire_entry(self, parent: int, name: bytes) -> None:
        """As inval_entry, but what is mounted or open below stays reachable. libfuse 3.13 and Linux 6.2; ENOSYS."""
        self._engine.expire_entry(parent, name)

    def delete(self, parent: int, child: int, name: bytes) -> None:
        """Tell those who watch (inotify) that *name*, the inode *child*, is gone. Raises OSError."""
        self._engine.delete(parent, child, name)

    def store(self, ino: int, offset: int, data: bytes) -> None:
        """Put bytes into the kernel's page cache, as if they had been read. Raises OSError."""
        self._engine.store(ino, offset, data)

    def retrieve(self, ino: int, size: int, offset: int, cookie: int) -> None:
        """Ask for bytes of the kernel's page cache: `Operations.retrieve_reply` gets them, with *cookie*."""
        self._engine.retrieve(ino, size, offset, cookie)

    # ---- looking

    def stats(self) -> dict[str, Any]:
        """Counters since the start.

        operations: for each with requests, their number (requests), those answered without Python (hits), errors by
        handlers, and ns in total; bytes read and written; threads; passthrough: contents read by the kernel itself
        (opened) or not (refused), and why not; prefilled: small files whose bytes went into the page cache with their
        first open; tree: see `Tree.stats`; connection: what was agreed with the kernel.
        """
        stats: dict[str, Any] = self._engine.stats()
        return stats

    # ---- threads

    def _spawn(self, life: Callable[[], None]) -> None:
        threading.Thread(target=life, name="fastfuse", daemon=True).start()

    def _serve(self) -> None:
        self._engine.service()
        self._ended.set()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._own_loop = threading.Thread(target=self._run_loop, name="fastfuse-asyncio", daemon=True)
                self._own_loop.start()
            return self._loop

    def _run_loop(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left, timeout=GRACE))
        finally:
            self._loop.close()


def links_stay(ops: Operations) -> bool:
    """Whether nobody but the tree, which tells the kernel of changes, says where symbolic links lead to."""
    return ops.tree is not None and handlers_of(ops, ("readlink",)) == [None]


def check_immutable(ops: Operations) -> None:
    """All must be in the tree with its content, and nobody left to ask. Raises ValueError naming what is not."""
    if ops.tree is None:
        raise ValueError("immutable: there is no tree")
    asked = [name for name, handler in zip(OPERATIONS, handlers_of(ops, OPERATIONS), strict=True) if handler]
    changing = sorted(set(asked) - {"getxattr", "listxattr", "statfs", "ioctl"})
    if changing:
        raise ValueError(f"immutable: {', '.join(changing)} of {type(ops).__name__} may say something else")
    path = ops.tree.unfinished()
    if path is not None:
        raise ValueError(f"immutable: {os.fsdecode(path)} is not published with its content")


def capabilities(names: Collection[str]) -> int:
    """The FUSE_CAP_* bits of *names*. Raises ValueError for a name that is none."""
    unknown = set(names) - set(CAPABILITIES)
    if unknown:
        raise ValueError(f"unknown capabilities {sorted(unknown)}; known are: {' '.join(CAPABILITIES)}")
    bits = 0
    for name in names:
        bits |= CAPABILITIES[name]
    return bits
