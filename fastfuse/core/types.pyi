import os

FOREVER: float

def show(self: object, names: tuple[str, ...]) -> str: ...

class Attr:
    ino: int
    mode: int
    nlink: int
    size: int
    blocks: int | None
    uid: int
    gid: int
    rdev: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    attr_timeout: float
    def __init__(
        self,
        *,
        ino: int = 0,
        mode: int = 0,
        nlink: int = 1,
        size: int = 0,
        blocks: int | None = None,
        uid: int = 0,
        gid: int = 0,
        rdev: int = 0,
        blksize: int = 4096,
        atime_ns: int = 0,
        mtime_ns: int = 0,
        ctime_ns: int = 0,
        attr_timeout: float = 1.0,
    ) -> None: ...
    @staticmethod
    def from_stat(st: os.stat_result, *, attr_timeout: float = 1.0) -> Attr: ...

class Entry:
    @property
    def attr(self) -> Attr: ...
    generation: int
    entry_timeout: float
    def __init__(
        self, attr: Attr, *, generation: int = 0, entry_timeout: float = 1.0
    ) -> None: ...

class DirEntry:
    @property
    def name(self) -> bytes: ...
    off: int
    ino: int
    mode: int
    entry: Entry | None
    def __init__(
        self, name: bytes, off: int, *, ino: int = 0, mode: int = 0, entry: Entry | None = None
    ) -> None: ...

class Context:
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def umask(self) -> int: ...
    @property
    def interrupted(self) -> bool: ...

class FileInfo:
    flags: int
    fh: int
    lock_owner: int
    writepage: bool
    flush: bool
    flock_release: bool
    poll_events: int
    direct_io: bool
    keep_cache: bool
    nonseekable: bool
    cache_readdir: bool
    parallel_direct_writes: bool
    noflush: bool
    def __init__(self, *, flags: int = 0, fh: int = 0) -> None: ...

class StatVFS:
    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_fsid: int
    f_flag: int
    f_namemax: int
    def __init__(
        self,
        *,
        f_bsize: int = 4096,
        f_frsize: int = 4096,
        f_blocks: int = 0,
        f_bfree: int = 0,
        f_bavail: int = 0,
        f_files: int = 0,
        f_ffree: int = 0,
        f_favail: int = 0,
        f_fsid: int = 0,
        f_flag: int = 0,
        f_namemax: int = 255,
    ) -> None: ...

class Flock:
    l_type: int
    l_start: int
    l_len: int
    l_pid: int
    def __init__(
        self, *, l_type: int = 0, l_start: int = 0, l_len: int = 0, l_pid: int = 0
    ) -> None: ...
