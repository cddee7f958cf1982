"""FileSystem: routes that can be mounted."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fastfuse import command
from fastfuse.core.content import Content
from fastfuse.core.tree import Tree
from fastfuse.core.types import FOREVER
from fastfuse.errors import FuseError
from fastfuse.routes.calling import drive
from fastfuse.routes.changing import Changing
from fastfuse.routes.converters import ConverterLike
from fastfuse.routes.extras import Numbers, Xattrs
from fastfuse.routes.patterns import Pattern
from fastfuse.routes.registration import KINDS, Routes
from fastfuse.routes.results import result
from fastfuse.routes.router import Resolution, Router
from fastfuse.routes.serving import Reading, Serving
from fastfuse.routes.testing import TestClient
from fastfuse.session import Session

H = TypeVar("H", bound=Callable[[], object])
S = TypeVar("S", bound=Serving)

#: What a file system can do besides being read, and the kinds of routes that it takes. The kernel is
#: told of no operation that nobody handles, and then never asks for it.
PARTS: tuple[tuple[type[Reading], frozenset[str]], ...] = (
    (Numbers, frozenset({"statfs"})),
    (Xattrs, frozenset({"xattr", "setxattr", "removexattr"})),
    (
        Changing,
        frozenset(KINDS) - {"read", "list", "stat", "readlink", "open", "release", "statfs", "xattr"},
    ),
)


class FileSystem(Routes):
    """A file system of decorated functions.

        fs = FileSystem()

        @fs.read("/hello/:name")
        def hello(name):
            return f"Hello, {name}!"

        fs.run()

    *ttl* is that of routes without their own. *negative_ttl*: for how long the kernel believes that
    a name does not exist. *cache_size* bounds the bytes of what read handlers gave; the least
    recently opened goes first, and what is open stays. *immutable*: there are no routes, only what
    is published before the mount; then opening a file costs the kernel no request.
    """

    def __init__(
        self,
        *,
        ttl: float = 1.0,
        negative_ttl: float = 1.0,
        cache_size: int = 256 << 20,
        immutable: bool = False,
        converters: Mapping[str, ConverterLike] | None = None,
    ) -> None:
        super().__init__(ttl=ttl, converters=converters)
        self.immutable = immutable
        self.tree = Tree(cache_size=cache_size)
        self.tree.set_negative_timeout(negative_ttl)
        self._in_use = False
        self._inits: list[Callable[[], object]] = []
        self._destroys: list[Callable[[], object]] = []

    def add(self, kind: str, pattern: str, handler: Callable[..., Any], **settings: Any) -> None:
        """As Routes.add. Raises RuntimeError once the file system has been mounted or tested."""
        self._check_open(f"route {pattern!r}")
        super().add(kind, pattern, handler, **settings)

    def include(self, prefix: str, other: Routes) -> None:
        """As Routes.include. Raises RuntimeError once the file system has been mounted or tested."""
        self._check_open(f"routes below {prefix!r}")
        super().include(prefix, other)

    def _check_open(self, what: str) -> None:
        if self._in_use:
            raise RuntimeError(f"{what}: too late, the file system is in use")

    @property
    def operations(self) -> Serving:
        """The Operations that the routes make, for a `Session`. From here on the routes are fixed."""
        return self._fixed if self.immutable else self._routed

    @functools.cached_property
    def _fixed(self) -> Serving:
        return self._hooked(Serving(self._routed.tree))

    @functools.cached_property
    def _routed(self) -> Reading:
        routes = self.router.routes
        if self.immutable and routes:
            raise ValueError(f"an immutable file system has no routes, but {routes[0]}")
        self._in_use = True
        kinds = {route.kind for route in routes}
        parts = [part for part, wanted in PARTS if kinds & wanted]
        made: Reading = type("RouteOperations", (*parts, Reading), {})(self.router, self.tree)
        made.say_root()
        return self._hooked(made)

    def _hooked(self, operations: S) -> S:
        operations.inits, operations.destroys = self._inits, self._destroys
        return operations

    def init(self, function: H) -> H:
        """Register a function () to be called after the mount, before the first request."""
        self._inits.append(function)
        return function

    def destroy(self, function: H) -> H:
        """Register a function () to be called after the last request."""
        self._destroys.append(function)
        return function

    # ---- facts

    def publish(
        self,
        path: str | os.PathLike[str],
        content: Any,
        *,
        mode: int = 0o444,
        mtime_ns: int | None = None,
        encoding: str | None = "utf-8",
    ) -> None:
        """Put a file in, for good, whatever the routes say; missing directories are made.

        *content* is what a read handler may give, as far as its size is known at once. Raises
        TypeError for a stream, and as Tree.publish.
        """
        what = f"publish({os.fspath(path)!r})"
        made = drive(result(content, encoding, what))
        if not isinstance(made, Content):
            raise TypeError(f"{what}: the size of {content!r} is not known")
        self.tree.publish(os.fspath(path), made, mode=mode, mtime_ns=mtime_ns)

    def invalidate(self, pattern: str | None = None, *, path: str | os.PathLike[str] | None = None) -> None:
        """End what handlers said of all paths that *pattern* matches, or of one *path*.

        It ends here and in the kernel. What is open stays as it was opened.
        """
        if (pattern is None) == (path is None):
            raise TypeError("invalidate takes a pattern or a path")
        self._routed.change()
        if path is not None:
            self._invalidate_path(os.fspath(path))
            return
        assert pattern is not None
        parsed = Pattern.parse(pattern, self.router.converters)
        if not parsed.names and str(parsed) == pattern and "*" not in pattern:
            self._invalidate_path(parsed.path())
            return
        router: Router[None] = Router(self.router.converters)
        router.add(parsed, "invalidate", None)
        self._invalidate_below(1, router.resolve("/"))

    def _invalidate_path(self, path: str) -> None:
        ino = self.tree.find(path)
        if ino is not None:
            self._routed.end(ino, tell=True)
            return
        above, _, name = path.rstrip("/").rpartition("/")
        parent = self.tree.find(above or "/")
        if parent is not None:
            self.tree.forget_entry(parent, os.fsencode(name))

    def _invalidate_below(self, ino: int, resolution: Resolution[None]) -> None:
        if resolution.get("invalidate") is not None:
            self._routed.end(ino, tell=True)
        children: Sequence[tuple[bytes, int]] = ()
        with contextlib.suppress(FuseError):  # it has gone meanwhile
            children = self.tree.children(ino)
        for name, child in children:
            below = resolution.child(os.fsdecode(name))
            if below:
                self._invalidate_below(child, below)

    def test(self) -> TestClient:
        """A client that asks the file system as the kernel would, without a mount.

        What `init` registered is not called.
        """
        return TestClient(self._routed)

    # ---- mounting

    def session(self, mountpoint: str | os.PathLike[str], **settings: Any) -> Session:
        """A Session of this file system; *settings* are Session's."""
        return Session(self.operations, mountpoint, **self.settings(**settings))

    @contextlib.contextmanager
    def mounted(self, mountpoint: str | os.PathLike[str], **settings: Any) -> Iterator[pathlib.Path]:
        """A with-block in which the file system is mounted; gives the mountpoint's real path."""
        with self.session(mountpoint, **settings) as session:
            yield pathlib.Path(session.mountpoint)

    def mount(self, mountpoint: str | os.PathLike[str], *, foreground: bool = True, **settings: Any) -> None:
        """Mount and serve until the end: see command.mount."""
        command.mount(self.operations, mountpoint, foreground, **self.settings(**settings))

    def run(
        self,
        argv: Sequence[str] | None = None,
        *,
        parser: argparse.ArgumentParser | None = None,
        **settings: Any,
    ) -> None:
        """Mount as the command line says: see command.run. Raises SystemExit if that fails."""
        status = command.run(self.operations, argv, parser=parser, **self.settings(**settings))
        if status:
            raise SystemExit(status)

    def settings(self, **settings: Any) -> dict[str, Any]:
        """The *settings* of a Session, with the mount options that they leave open.

        fsname and subtype are the program's name; default_permissions lets the kernel check modes
        and owners; ro, if no route can change anything. Where links lead to is cached by the kernel
        if no route lets that end.
        """
        given = [option for word in settings.pop("options", ()) for option in word.split(",")]
        program = pathlib.PurePath(sys.argv[0] if sys.argv else "").stem.replace(",", "_")
        name = program if program not in ("", "-c") else "fastfuse"
        options = [f"fsname={name}", f"subtype={name}", "default_permissions"]
        if not self._changes():
            options.append("ro")
        names = {option.partition("=")[0] for option in given}
        options = [option for option in options if option.partition("=")[0] not in names]
        if self.immutable:
            settings = {"immutable": True, **settings}
        if all(route.value.ttl == FOREVER for route in self.router.routes if route.kind == "readlink"):
            settings["want"] = {*settings.get("want", ()), "cache_symlinks"}
        return {**settings, "options": [*options, *given]}

    def _changes(self) -> bool:
        return isinstance(self._routed, Changing)
