"""Registration: handlers, by kind and pattern."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastfuse.core.types import FOREVER
from fastfuse.routes.binding import Call, bind
from fastfuse.routes.converters import ConverterLike
from fastfuse.routes.patterns import Pattern, RouteError
from fastfuse.routes.router import Router

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

#: What every handler can take, and what those of a kind can take besides.
COMMON = ("path", "ps", "ctx")
KINDS: Mapping[str, tuple[str, ...]] = {
    "read": (),
    "list": (),
    "stat": (),
    "readlink": (),
    "write": ("data", "text", "offset", "flags"),
    "create": ("mode", "flags"),
    "mkdir": ("mode",),
    "symlink": ("target",),
    "unlink": (),
    "rmdir": (),
    "rename": ("newpath", "flags"),
    "truncate": ("size",),
    "chmod": ("mode",),
    "chown": ("uid", "gid"),
    "utime": ("atime_ns", "mtime_ns"),
    "xattr": (),
    "setxattr": ("name", "value", "flags"),
    "removexattr": ("name",),
    "open": ("flags",),
    "release": ("flags",),
    "statfs": (),
}


@dataclass(frozen=True, eq=False)
class Handler:
    """A handler as it was registered; how long what it says holds, in seconds."""

    call: Call
    ttl: float
    encoding: str | None
    complete: bool

    @property
    def is_generator(self) -> bool:
        """Whether a call runs nothing yet and gives parts, one after the other."""
        function = self.call.handler
        return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

    def takes(self, name: str) -> bool:
        """Whether the handler has a parameter *name* of those that it was given."""
        return name in self.call.positional or name in self.call.keywords


class Routes:
    """A set of handlers; a `FileSystem`, or a part of one that `include` puts in.

    Each method `kind(pattern)` is a decorator that registers a handler and returns it unchanged. A
    handler is `def` or `async def` and takes, by name, what it wants of: the pattern's parameters,
    `path`, `ps` (all parameters, a namedtuple), `ctx` (who asks: see Context), and what is listed
    with its kind. Patterns are those of fastfuse.routes.patterns; *converters* adds to theirs.

    *ttl* is how many seconds what a handler said is believed, by the kernel too; 0: it is asked
    each time. Raises RouteError for a route that cannot work or collides with another one.
    """

    def __init__(self, *, ttl: float = 1.0, converters: Mapping[str, ConverterLike] | None = None) -> None:
        self.ttl = _checked(ttl)
        self.router: Router[Handler] = Router(converters)

    def add(
        self,
        kind: str,
        pattern: str,
        handler: Callable[..., Any],
        *,
        ttl: float | None = None,
        encoding: str | None = "utf-8",
        complete: bool = False,
    ) -> None:
        """Register *handler*; the decorators do it with this."""
        if kind not in KINDS:
            raise RouteError(f"route {pattern!r}: no kind {kind!r}; there are {', '.join(KINDS)}")
        parsed = Pattern.parse(pattern, self.router.converters)
        call = bind(handler, parsed, (*COMMON, *KINDS[kind]))
        life = self.ttl if ttl is None else _checked(ttl)
        self.router.add(parsed, kind, Handler(call, life, encoding, complete))

    def _decorator(self, kind: str, pattern: str, **settings: Any) -> Callable[[F], F]:
        def register(handler: F) -> F:
            self.add(kind, pattern, handler, **settings)
            return handler

        return register

    def read(self, pattern: str, *, ttl: float | None = None, encoding: str | None = "utf-8") -> Callable[[F], F]:
        """What a file holds. The handler gives one of:

        str (encoded), anything with the buffer protocol, None (nothing); a `pathlib.Path`, an open
        file or an fd (which is closed); a list or tuple of parts; a generator or other iterable,
        also async, whose parts are made while they are read; a function of (size, offset).

        *ttl* 0: asked at each open, and not for the size before it.
        """
        return self._decorator("read", pattern, ttl=ttl, encoding=encoding)

    def list(self, pattern: str, *, ttl: float | None = None, complete: bool = False) -> Callable[[F], F]:
        """What a directory holds besides the names that patterns spell out.

        The handler gives an iterable, maybe async, of names or of (name, attributes), which are
        what `stat` gives and save asking it. *complete*: other names do not exist.
        """
        return self._decorator("list", pattern, ttl=ttl, complete=complete)

    def stat(self, pattern: str, *, ttl: float | None = None) -> Callable[[F], F]:
        """The attributes of a path; FileNotFoundError: there is no such file.

        The handler gives a dict of st_mode, st_size, st_mtime ... over the defaults, an
        os.stat_result, an Attr, or None.
        """
        return self._decorator("stat", pattern, ttl=ttl)

    def readlink(self, pattern: str, *, ttl: float | None = None) -> Callable[[F], F]:
        """Where a symbolic link points to: str, bytes or a path."""
        return self._decorator("readlink", pattern, ttl=ttl)

    def write(self, pattern: str, *, encoding: str | None = "utf-8") -> Callable[[F], F]:
        """What becomes of what is written to a file.

        A handler that takes `text` or `data` is called when a program closes or syncs the file it
        has changed, with all of it (str or bytes); one that takes `data` and `offset` with each
        piece. Any other is called when the file is opened (with the `flags` of open(2)) and gives
        a function of all the text (bytes, if *encoding* is None), a function of (bytes, offset), a
        file to write to, or None, and nothing is kept.
        """
        return self._decorator("write", pattern, encoding=encoding)

    def create(self, pattern: str) -> Callable[[F], F]:
        """Make a file; also takes `mode` and the `flags` of open(2)."""
        return self._decorator("create", pattern)

    def mkdir(self, pattern: str) -> Callable[[F], F]:
        """Make a directory; also takes `mode`."""
        return self._decorator("mkdir", pattern)

    def symlink(self, pattern: str) -> Callable[[F], F]:
        """Make a symbolic link; also takes `target`, a str."""
        return self._decorator("symlink", pattern)

    def unlink(self, pattern: str) -> Callable[[F], F]:
        """Remove a file or link."""
        return self._decorator("unlink", pattern)

    def rmdir(self, pattern: str) -> Callable[[F], F]:
        """Remove a directory. Raise FuseError(ENOTEMPTY) if it is not empty."""
        return self._decorator("rmdir", pattern)

    def rename(self, pattern: str) -> Callable[[F], F]:
        """Move a path that *pattern* matches; also takes `newpath` and renameat2(2)'s `flags`."""
        return self._decorator("rename", pattern)

    def truncate(self, pattern: str) -> Callable[[F], F]:
        """Change a file's `size`, for `write` handlers that take pieces; the others need none."""
        return self._decorator("truncate", pattern)

    def chmod(self, pattern: str) -> Callable[[F], F]:
        """Change the permissions to `mode`."""
        return self._decorator("chmod", pattern)

    def chown(self, pattern: str) -> Callable[[F], F]:
        """Change the owner to `uid` and `gid`, -1 where it stays."""
        return self._decorator("chown", pattern)

    def utime(self, pattern: str) -> Callable[[F], F]:
        """Change the times to `atime_ns` and `mtime_ns`, None where one stays."""
        return self._decorator("utime", pattern)

    def xattr(self, pattern: str) -> Callable[[F], F]:
        """The extended attributes: a mapping of names ("user.title") to str or bytes."""
        return self._decorator("xattr", pattern)

    def setxattr(self, pattern: str) -> Callable[[F], F]:
        """Set the extended attribute `name` to `value`, bytes; also takes setxattr(2)'s `flags`."""
        return self._decorator("setxattr", pattern)

    def removexattr(self, pattern: str) -> Callable[[F], F]:
        """Remove the extended attribute `name`."""
        return self._decorator("removexattr", pattern)

    def open(self, pattern: str) -> Callable[[F], F]:
        """Called at each open of a file, with its `flags`; what it raises is open(2)'s error."""
        return self._decorator("open", pattern)

    def release(self, pattern: str) -> Callable[[F], F]:
        """Called when an open file's last descriptor is closed, with the `flags` of its open."""
        return self._decorator("release", pattern)

    def statfs(self, pattern: str = "/") -> Callable[[F], F]:
        """The numbers that df shows: a StatVFS, an os.statvfs_result or a dict of f_blocks ..."""
        return self._decorator("statfs", pattern)

    def file(self, pattern: str, *, ttl: float | None = None, encoding: str | None = "utf-8") -> Callable[[C], C]:
        """Make one object of the class, and register its methods that are named like a kind."""

        def register(made: C) -> C:
            handlers = [(kind, getattr(made, kind)) for kind in KINDS if hasattr(made, kind)]
            if not handlers:
                raise RouteError(f"route {pattern!r}: {made.__name__} has no method of any kind")
            instance = made()
            for kind, _ in handlers:
                self.add(kind, pattern, getattr(instance, kind), ttl=ttl, encoding=encoding)
            return made

        return register

    def include(self, prefix: str, other: Routes) -> None:
        """Put the routes that *other* has now below *prefix*, whose parameters are in `ps` then."""
        self.router.include(prefix, other.router)


def _checked(ttl: float) -> float:
    if not 0 <= ttl <= FOREVER:
        raise ValueError(f"a ttl is a number of seconds, not {ttl!r}")
    return ttl
