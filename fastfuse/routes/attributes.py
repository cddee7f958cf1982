"""Attributes: what a stat or list handler gave, over the defaults."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from fastfuse.core.types import Attr

#: What the kinds of handlers say of the type of a path.
TYPES: Mapping[str, int] = {
    "read": stat.S_IFREG,
    "write": stat.S_IFREG,
    "list": stat.S_IFDIR,
    "readlink": stat.S_IFLNK,
}

_FIELDS = ("mode", "size", "uid", "gid", "nlink", "rdev", "blocks", "blksize")
_PLAIN = {f"st_{name}" for name in _FIELDS}
_TIMES = ("atime", "mtime", "ctime")


class Said:
    """What a handler said of a path.

    mode: 0 where it said nothing of the type or the permissions. sized: it said the size; guess: or
    what the size may be.
    """

    def __init__(self, given: object) -> None:
        """Raises TypeError for what cannot be attributes."""
        self.sized = True
        self.guess = 0
        self._fields: dict[str, Any] = {}
        if given is None:
            self.sized = False
        elif isinstance(given, os.stat_result):
            given = Attr.from_stat(given)
        if isinstance(given, int):
            given = {"st_mode": given}
        if isinstance(given, Attr):
            self._fields = {name: getattr(given, name) for name in _FIELDS}
            self._fields |= {f"{name}_ns": getattr(given, f"{name}_ns") for name in _TIMES}
        elif isinstance(given, Mapping):
            self._fields = _of_mapping(given)
            self.sized = "size" in self._fields
            self.guess = int(given.get("st_size_guess", 0))
        elif given is not None:
            raise TypeError(f"attributes are a dict, an os.stat_result, an Attr or None: {given!r}")
        self.mode: int = self._fields.pop("mode", 0)

    def attr(self, mode: int, since_ns: int, timeout: float, size: int | None = None) -> Attr:
        """The attributes; *mode* holds the type and the permissions where they are unsaid, *size* is exact."""
        kind = stat.S_IFMT(self.mode) or stat.S_IFMT(mode)
        permissions = stat.S_IMODE(self.mode) or stat.S_IMODE(mode)
        fields: dict[str, Any] = {
            "nlink": 2 if kind == stat.S_IFDIR else 1,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "size": self.guess,
            "mtime_ns": since_ns,
            **self._fields,
        }
        if size is not None:
            fields["size"] = size
        fields.setdefault("ctime_ns", fields["mtime_ns"])
        fields.setdefault("atime_ns", fields["mtime_ns"])
        return Attr(mode=kind | permissions, attr_timeout=timeout, **fields)


def _of_mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    fields = {}
    for key, value in given.items():
        name = key.removeprefix("st_")
        if key in _PLAIN:
            fields[name] = int(value)
        elif name in _TIMES:
            fields.setdefault(f"{name}_ns", round(value * 1_000_000_000))
        elif name.removesuffix("_ns") in _TIMES:
            fields[name] = int(value)
        elif key not in ("st_ino", "st_dev", "st_size_guess"):
            raise TypeError(f"no attribute is named {key!r}")
    return fields
