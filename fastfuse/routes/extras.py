"""Extras: extended attributes and the numbers of the file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from errno import ENODATA, EOPNOTSUPP
from typing import TYPE_CHECKING, Any

from fastfuse.core.types import Context, StatVFS
from fastfuse.errors import FuseError
from fastfuse.routes.calling import drive, run
from fastfuse.routes.places import Place
from fastfuse.routes.serving import Reading

if TYPE_CHECKING:
    from fastfuse.operations import Answer

#: The kernel itself asks for these, of each file and often; no handler is asked about them.
KERNELS = (b"security.", b"system.")


class Xattrs(Reading):
    """Extended attributes, of a mapping by name."""

    def getxattr(self, ctx: Context, ino: int, name: bytes) -> Answer[bytes]:
        """One attribute. Raises FuseError(ENODATA)."""
        return drive(self._getxattr(self.place(ctx, ino), name))

    async def _getxattr(self, place: Place, name: bytes) -> bytes:
        if name.startswith(KERNELS) or place.handler("xattr") is None:
            raise FuseError(ENODATA)
        value = await run(place.what("xattr"), _item, await place.ask("xattr"), name)
        if value is None:
            raise FuseError(ENODATA)
        return value  # type: ignore[no-any-return]

    def listxattr(self, ctx: Context, ino: int) -> Answer[Iterable[bytes]]:
        """All names."""
        return drive(self._listxattr(self.place(ctx, ino)))

    async def _listxattr(self, place: Place) -> Iterable[bytes]:
        if place.handler("xattr") is None:
            return ()
        return await run(place.what("xattr"), _names, await place.ask("xattr"))  # type: ignore[no-any-return]

    def setxattr(self, ctx: Context, ino: int, name: bytes, value: bytes, flags: int) -> Answer[None]:
        """Set one. Raises FuseError(EOPNOTSUPP) without a route."""
        given = {"name": os.fsdecode(name), "value": value, "flags": flags}
        return drive(self._set(self.place(ctx, ino), "setxattr", given))

    def removexattr(self, ctx: Context, ino: int, name: bytes) -> Answer[None]:
        """Remove one. Raises FuseError(EOPNOTSUPP) without a route."""
        return drive(self._set(self.place(ctx, ino), "removexattr", {"name": os.fsdecode(name)}))

    async def _set(self, place: Place, kind: str, given: Mapping[str, Any]) -> None:
        if place.handler(kind) is None:
            raise FuseError(EOPNOTSUPP, f"{place.path}: no route for {kind}")
        await place.ask(kind, **given)


class Numbers(Reading):
    """What df shows."""

    def statfs(self, ctx: Context, ino: int) -> Answer[StatVFS | os.statvfs_result]:
        """The numbers of the route for this path, or of the root's, or nothing."""
        return drive(self._statfs(self.place(ctx, ino), self.place(ctx, 1)))

    async def _statfs(self, place: Place, root: Place) -> StatVFS | os.statvfs_result:
        for asked in (place, root):
            if asked.handler("statfs") is not None:
                given = await asked.ask("statfs")
                return await run(asked.what("statfs"), _numbers, given)  # type: ignore[no-any-return]
        return StatVFS()


def _item(attributes: Mapping[str, str | bytes], name: bytes) -> bytes | None:
    try:
        value = attributes[os.fsdecode(name)]
    except KeyError:
        return None
    return os.fsencode(value)


def _names(attributes: Mapping[str, str | bytes]) -> list[bytes]:
    return [os.fsencode(name) for name in attributes.keys()]  # noqa: SIM118 (may be no dict)


def _numbers(given: Any) -> StatVFS | os.statvfs_result:
    if isinstance(given, (StatVFS, os.statvfs_result)):
        return given
    return StatVFS(**given)
