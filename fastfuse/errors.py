"""What handlers raise and return beside their values."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence


class FuseError(OSError):
    """Raised by a handler: the program that made the request gets *errno*. Nothing is logged.

    *errno* is a number of the errno module (the kernel takes 1 to 511). Raises ValueError for anything else.
    """

    def __new__(cls, errno: int, message: str = "") -> FuseError:
        if not isinstance(errno, int) or not 0 < errno < 512:
            raise ValueError(f"an errno is a number from 1 to 511, not {errno!r}")
        return super().__new__(cls, errno, message or os.strerror(errno))

    def __init__(self, errno: int, message: str = "") -> None:
        super().__init__(errno, message or os.strerror(errno))


class Published(enum.Enum):
    """What a handler returns when its answer is in the tree now: the request is served from there."""

    PUBLISHED = enum.auto()


class Unshared(enum.Enum):
    """What a coalesced `open` returns when its answer is no fact: `open_unshared` is then called for each request."""

    UNSHARED = enum.auto()


PUBLISHED = Published.PUBLISHED
UNSHARED = Unshared.UNSHARED


class IoctlRetry:
    """What an ioctl handler returns to be called again with memory of the caller: (address, size) pairs.

    The kernel copies what *in_iov* names into the next call's *in_buf*, and that call's answer to *out_iov*. Only for
    unrestricted ioctls (CUSE). Source: fuse_reply_ioctl_retry.
    """

    def __init__(self, in_iov: Sequence[tuple[int, int]], out_iov: Sequence[tuple[int, int]]) -> None:
        self.in_iov = tuple(in_iov)
        self.out_iov = tuple(out_iov)
