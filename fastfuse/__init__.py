"""fastfuse: file systems in Python on libfuse3, answered in C wherever the answer is known."""

from fastfuse.core.content import Content
from fastfuse.core.tree import Tree
from fastfuse.core.types import (
    FOREVER,
    Attr,
    Context,
    DirEntry,
    Entry,
    FileInfo,
    Flock,
    StatVFS,
)
from fastfuse.errors import PUBLISHED, UNSHARED, FuseError, IoctlRetry
from fastfuse.mountpoint import MountError
from fastfuse.operations import Operations
from fastfuse.routes.filesystem import FileSystem
from fastfuse.routes.registration import Routes
from fastfuse.session import Session

__all__ = [
    "FOREVER",
    "PUBLISHED",
    "UNSHARED",
    "Attr",
    "Content",
    "Context",
    "DirEntry",
    "Entry",
    "FileInfo",
    "FileSystem",
    "Flock",
    "FuseError",
    "IoctlRetry",
    "MountError",
    "Operations",
    "Routes",
    "Session",
    "StatVFS",
    "Tree",
]
