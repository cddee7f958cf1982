"""Testing: a file system asked without a mount, as the kernel would ask it."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from errno import EEXIST, EINVAL, EISDIR, ELOOP, ENOTDIR, EROFS
from typing import Any, cast

from fastfuse.core.content import Content
from fastfuse.core.types import Attr, Context, FileInfo, StatVFS
from fastfuse.errors import PUBLISHED, UNSHARED, FuseError
from fastfuse.operations import Operations
from fastfuse.routes.serving import Reading

PIECE = 1 << 17  # bytes of one read or write


@dataclass
class Caller:
    """Who asks, in the place of a Context."""

    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    pid: int = field(default_factory=os.getpid)
    umask: int = 0o022
    interrupted: bool = False


class TestClient:
    """Asks a file system's operations what the kernel would ask; see `FileSystem.test`.

    Paths are absolute in the file system. Errors are the OSErrors that a program would get.
    Permissions are not checked. Links are followed where open(2) and stat(2) do.
    """

    __test__ = False  # for pytest: no test itself

    def __init__(self, operations: Reading, caller: Caller | None = None) -> None:
        self.operations = operations
        self._tree = operations.tree
        self.caller = caller or Caller()
        self._context = cast(Context, self.caller)
        self._loop: asyncio.AbstractEventLoop | None = None  # of async handlers

    def close(self) -> None:
        """End the event loop, if async handlers needed one. Also done by a with-block."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def __enter__(self) -> TestClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- looking

    def read(self, path: str) -> bytes:
        """All that the file holds. Raises OSError."""
        with self.open(path) as file:
            return file.read()

    def read_text(self, path: str, encoding: str = "utf-8") -> str:
        """The same as text."""
        return self.read(path).decode(encoding)

    def list(self, path: str = "/") -> Sequence[str]:
        """The names in a directory, sorted. Raises OSError."""
        ino = self._find(path)
        if not stat.S_ISDIR(self._tree.stat(ino).mode):
            raise _error(ENOTDIR, path)
        if self._tree.listing(ino) is None:
            self._call("opendir", ino, FileInfo())
        return sorted(os.fsdecode(name) for name, _ in self._tree.listing(ino, stale=True) or ())

    def stat(self, path: str, *, follow_symlinks: bool = True) -> Attr:
        """The attributes. Raises OSError."""
        ino = self._find(path, follow=follow_symlinks)
        attr = self._tree.stat(ino)
        attr.ino = ino
        return attr

    def exists(self, path: str) -> bool:
        """Whether there is such a path."""
        try:
            self._find(path)
        except FileNotFoundError:
            return False
        return True

    def readlink(self, path: str) -> str:
        """Where a link points to. Raises OSError."""
        ino = self._find(path, follow=False)
        if not stat.S_ISLNK(self._tree.stat(ino).mode):
            raise _error(EINVAL, path)
        if self._tree.content(ino) is None:
            self._call("readlink", ino)
        return os.fsdecode(bytes(self._tree.content(ino, stale=True) or b""))

    def getxattr(self, path: str, name: str) -> bytes:
        """An extended attribute. Raises OSError."""
        return cast(bytes, self._call("getxattr", self._find(path), os.fsencode(name)))

    def listxattr(self, path: str) -> Sequence[str]:
        """The names of all of them. Raises OSError."""
        return [os.fsdecode(name) for name in self._call("listxattr", self._find(path))]

    def statfs(self, path: str = "/") -> StatVFS | os.statvfs_result:
        """What df shows. Raises OSError."""
        return cast(StatVFS, self._call("statfs", self._find(path)))

    # ---- changing

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> OpenFile:
        """As os.open; O_CREAT and O_EXCL as there. Raises OSError."""
        if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
            self._check("write")
        fi = FileInfo(flags=flags & ~(os.O_CREAT | os.O_EXCL))
        try:
            ino = self._find(path)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            parent, name = self._parent(path)
            self._call("create", parent, name, stat.S_IFREG | mode, fi)
            return OpenFile(self, self._tree.child(parent, name) or 0, fi, None)
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(EEXIST, path)
        return self._open(path, ino, fi)

    def _open(self, path: str, ino: int, fi: FileInfo) -> OpenFile:
        if stat.S_ISDIR(self._tree.stat(ino).mode):
            raise _error(EISDIR, path)
        changes = fi.flags & os.O_ACCMODE != os.O_RDONLY or fi.flags & os.O_TRUNC
        content = None if changes else self._tree.content(ino)
        if content is None:
            answer = self._call("open", ino, fi)
            if answer is UNSHARED:
                answer = self._call("open_unshared", ino, fi)
            content = self._tree.content(ino, stale=True) if answer is PUBLISHED else answer
        return OpenFile(self, ino, fi, content)

    def write(self, path: str, data: bytes | str) -> None:
        """Replace what the file holds; it is made if need be. Raises OSError."""
        self._write(path, data, os.O_TRUNC)

    def append(self, path: str, data: bytes | str) -> None:
        """Write at the end; it is made if need be. Raises OSError."""
        self._write(path, data, os.O_APPEND)

    def _write(self, path: str, data: bytes | str, flags: int) -> None:
        with self.open(path, os.O_WRONLY | os.O_CREAT | flags) as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def truncate(self, path: str, size: int) -> None:
        """As os.truncate. Raises OSError."""
        self._setattr(path, Attr(size=size), 8)

    def chmod(self, path: str, mode: int) -> None:
        """As os.chmod. Raises OSError."""
        self._setattr(path, Attr(mode=mode), 1)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """As os.chown, -1 where one stays. Raises OSError."""
        bits = (2 if uid != -1 else 0) | (4 if gid != -1 else 0)
        self._setattr(path, Attr(uid=max(uid, 0), gid=max(gid, 0)), bits)

    def utime(self, path: str, ns: tuple[int, int]) -> None:
        """As os.utime. Raises OSError."""
        self._setattr(path, Attr(atime_ns=ns[0], mtime_ns=ns[1]), 16 | 32)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """As os.mkdir. Raises OSError."""
        self._call("mkdir", *self._missing(path), stat.S_IFDIR | mode)

    def symlink(self, target: str, path: str) -> None:
        """As os.symlink. Raises OSError."""
        self._call("symlink", os.fsencode(target), *self._missing(path))

    def unlink(self, path: str) -> None:
        """As os.unlink. Raises OSError."""
        if stat.S_ISDIR(self.stat(path, follow_symlinks=False).mode):
            raise _error(EISDIR, path)
        self._call("unlink", *self._parent(path))

    def rmdir(self, path: str) -> None:
        """As os.rmdir. Raises OSError."""
        if not stat.S_ISDIR(self.stat(path, follow_symlinks=False).mode):
            raise _error(ENOTDIR, path)
        self._call("rmdir", *self._parent(path))

    def rename(self, path: str, newpath: str, flags: int = 0) -> None:
        """As renameat2(2). Raises OSError."""
        self._find(path, follow=False)
        if flags & 1 and self.exists(newpath):
            raise _error(EEXIST, newpath)
        self._call("rename", *self._parent(path), *self._parent(newpath), flags)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        """As os.setxattr. Raises OSError."""
        self._call("setxattr", self._find(path), os.fsencode(name), value, flags)

    def removexattr(self, path: str, name: str) -> None:
        """As os.removexattr. Raises OSError."""
        self._call("removexattr", self._find(path), os.fsencode(name))

    def _setattr(self, path: str, attr: Attr, to_set: int) -> None:
        self._call("setattr", self._find(path), attr, to_set, None)

    # ---- walking

    def _check(self, name: str) -> None:
        if getattr(type(self.operations), name) is getattr(Operations, name):
            raise _error(EROFS, name)

    def _call(self, name: str, *args: Any) -> Any:
        self._check(name)
        try:
            answer = getattr(self.operations, name)(self._context, *args)
            if not asyncio.iscoroutine(answer):
                return answer
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
            return asyncio.run_coroutine_threadsafe(answer, self._loop).result()
        except FuseError as error:
            assert error.errno is not None
            raise OSError(error.errno, error.strerror) from error

    def _names(self, path: str) -> Iterator[bytes]:
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path!r}")
        return (os.fsencode(name) for name in path.split("/") if name)

    def _find(self, path: str, *, follow: bool = True, links: int = 40) -> int:
        tree = self._tree
        names = list(self._names(path))
        ino = 1
        if not tree.fresh(ino):
            self._call("getattr", ino, None)
        for depth, name in enumerate(names):
            mode = tree.stat(ino).mode
            if not stat.S_ISDIR(mode):
                raise _error(ENOTDIR, path)
            ino = self._lookup(ino, name)
            if stat.S_ISLNK(tree.stat(ino).mode) and (follow or depth < len(names) - 1):
                if links == 0:
                    raise _error(ELOOP, path)
                above = "/" + "/".join(map(os.fsdecode, names[:depth]))
                target = os.path.join(above, self.readlink(f"{above}/{os.fsdecode(name)}"))
                rest = map(os.fsdecode, names[depth + 1 :])
                whole = os.path.normpath("/".join((target, *rest)))
                return self._find(whole, follow=follow, links=links - 1)
        return ino

    def _lookup(self, parent: int, name: bytes) -> int:
        found = self._tree.child(parent, name)
        if found is None or not self._tree.fresh(found):
            self._call("lookup", parent, name)
            found = self._tree.child(parent, name)
            assert found is not None
        return found

    def _parent(self, path: str) -> tuple[int, bytes]:
        above, _, name = path.rstrip("/").rpartition("/")
        return self._find(above or "/"), os.fsencode(name)

    def _missing(self, path: str) -> tuple[int, bytes]:
        if self.exists(path):
            raise _error(EEXIST, path)
        return self._parent(path)


class OpenFile:
    """A file that a TestClient has opened; a context manager that closes it."""

    def __init__(self, client: TestClient, ino: int, fi: FileInfo, content: Content | None) -> None:
        self._client = client
        self._ino = ino
        self._fi = fi
        self._content = content
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Bytes from the position on; all of them without *size*."""
        data = bytearray()
        while size < 0 or len(data) < size:
            part = self.pread(PIECE if size < 0 else min(PIECE, size - len(data)), self._position)
            if not part:
                break
            data += part
            self._position += len(part)
        return bytes(data)

    def pread(self, size: int, off: int) -> bytes:
        """One read request."""
        if self._content is not None:
            return bytes(self._content)[off : off + size]
        return bytes(self._client._call("read", self._ino, size, off, self._fi))

    def write(self, data: bytes) -> int:
        """Write at the position."""
        for start in range(0, len(data), PIECE):
            self.pwrite(data[start : start + PIECE], self._position)
            self._position += len(data[start : start + PIECE])
        return len(data)

    def pwrite(self, data: bytes, off: int) -> int:
        """One write request."""
        return cast(int, self._client._call("write", self._ino, memoryview(data), off, self._fi))

    def seek(self, off: int) -> None:
        """Set the position."""
        self._position = off

    def truncate(self, size: int) -> None:
        """As os.ftruncate."""
        self._client._call("setattr", self._ino, Attr(size=size), 8, self._fi)

    def fsync(self) -> None:
        """As os.fsync."""
        self._client._call("fsync", self._ino, False, self._fi)

    def close(self) -> None:
        """Raises the error that close(2) would give."""
        try:
            if self._fi.fh and self._fi.flags & os.O_ACCMODE != os.O_RDONLY:
                self._client._call("flush", self._ino, self._fi)
        finally:
            if self._fi.fh:
                self._client._call("release", self._ino, self._fi)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
