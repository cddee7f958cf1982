"""MagicFS's interface (the package mafs 0.2.1) on routes: `import fastfuse.mafs as mafs`.

What differs is what failed: see docs/magicfs.md. Handlers are called as there: read, write, list and
readlink at each open, opendir and readlink; one at a time unless `threads` is asked for, while what
is known is served meanwhile.
"""

from __future__ import annotations

import argparse
import builtins
import os
import stat
from collections.abc import Callable
from typing import Any, TypeVar

from fastfuse import command
from fastfuse.routes.filesystem import FileSystem

__all__ = ["FileNotFoundError", "FileType", "MagicFS"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

FileNotFoundError = builtins.FileNotFoundError

STAT_TTL = 1.0  # seconds, libfuse's default


class FileType:
    """Types for st_mode."""

    REGULAR = stat.S_IFREG
    DIRECTORY = stat.S_IFDIR
    FOLDER = stat.S_IFDIR
    LINK = stat.S_IFLNK


class MagicFS:
    """A file system of callbacks (path, ps). Routes are those of FileSystem, and lenient:

    the slash in front may be missing, and a colon within a name that begins with none is a colon.

    filesystem: the FileSystem behind it.
    """

    def __init__(self) -> None:
        self.filesystem = FileSystem(ttl=0, negative_ttl=0)
        self._arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._args: argparse.Namespace | None = None

    def mount(self, mountpoint: str | os.PathLike[str], foreground: bool = False, threads: bool = False) -> None:
        """Mount, in the background unless *foreground*; *threads*: callbacks run side by side."""
        self.filesystem.mount(mountpoint, foreground=foreground, threads=64 if threads else 1)

    def run(self) -> None:
        """Mount as the command line says. Raises SystemExit if that fails."""
        threads = 64 if self.args.threads else 1
        status = command.serve(self.filesystem.operations, self.args, **self.filesystem.settings(threads=threads))
        if status:
            raise SystemExit(status)

    def add_argument(self, *args: Any, **kwargs: Any) -> None:
        """Add an argument of argparse to the command line."""
        self._arguments.append((args, kwargs))

    @property
    def args(self) -> argparse.Namespace:
        """The command line, parsed at the first look."""
        if self._args is None:
            parser = argparse.ArgumentParser()
            parser.add_argument("mountpoint", help="an empty directory")
            parser.add_argument("-fg", "--foreground", action="store_true", help="stay in the foreground")
            parser.add_argument("-t", "--threads", action="store_true", help="let callbacks run side by side")
            parser.add_argument("-o", dest="options", action="append", default=[], help="mount options")
            parser.add_argument("-d", "--debug", action="store_true", help="log each request")
            for args, kwargs in self._arguments:
                parser.add_argument(*args, **kwargs)
            self._args = parser.parse_args()
        return self._args

    def _on(self, kind: str, route: str, func: Callable[..., Any], **settings: Any) -> None:
        # Called by position, as there: the names of the parameters are the program's own.
        def call(path: str, ps: Any) -> Any:
            return func(path, ps)

        self.filesystem.add(kind, _pattern(route), call, **settings)

    def onread(self, route: str, func: Callable[..., Any], encoding: str | None = "utf-8") -> None:
        """Read with *func*; see Routes.read for what it may give."""
        self._on("read", route, func, encoding=encoding)

    def onwrite(self, route: str, func: Callable[..., Any], encoding: str | None = "utf-8") -> None:
        """Write with what *func* gives: None, a file, or a function of (text) or (bytes, offset)."""
        self._on("write", route, func, encoding=encoding)

    def onlist(self, route: str, func: Callable[..., Any]) -> None:
        """List the names that *func* gives."""
        self._on("list", route, func)

    def onstat(self, route: str, func: Callable[..., Any]) -> None:
        """Take the attributes that *func* gives: None, or a dict of st_* over the defaults."""
        self._on("stat", route, func, ttl=STAT_TTL)

    def onreadlink(self, route: str, func: Callable[..., Any]) -> None:
        """Link to where *func* says."""
        self._on("readlink", route, func)

    def read(self, route: str, encoding: str | None = "utf-8") -> Callable[[F], F]:
        """Decorate a callback: see onread."""
        return self._decorator(self.onread, route, encoding)

    def write(self, route: str, encoding: str | None = "utf-8") -> Callable[[F], F]:
        """Decorate a callback: see onwrite."""
        return self._decorator(self.onwrite, route, encoding)

    def list(self, route: str) -> Callable[[F], F]:
        """Decorate a callback: see onlist."""
        return self._decorator(self.onlist, route)

    def stat(self, route: str) -> Callable[[F], F]:
        """Decorate a callback: see onstat."""
        return self._decorator(self.onstat, route)

    def readlink(self, route: str) -> Callable[[F], F]:
        """Decorate a callback: see onreadlink."""
        return self._decorator(self.onreadlink, route)

    def file(self, route: str, encoding: str | None = "utf-8") -> Callable[[C], C]:
        """Decorate a class whose functions `read` and `write` are callbacks."""

        def register(made: C) -> C:
            if hasattr(made, "read"):
                self.onread(route, made.read, encoding)
            if hasattr(made, "write"):
                self.onwrite(route, made.write, encoding)
            return made

        return register

    def _decorator(self, on: Callable[..., None], route: str, *args: Any) -> Callable[[F], F]:
        def register(func: F) -> F:
            on(route, func, *args)
            return func

        return register


def _pattern(route: str) -> str:
    normal = os.path.normpath(route).strip("/")
    if normal in ("", "."):
        return "/"
    return "".join(
        "/" + (name if name.startswith((":", "*")) else name.replace(":", "::")) for name in normal.split("/")
    )
