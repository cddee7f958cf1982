"""The one exception that says why a document could not be had."""

from __future__ import annotations

import errno
import os

__all__ = ["FetchError"]


class FetchError(OSError):
    """A URL could not be had: `url`, `cause` (a text), and `errno` as the caller of open() is to
    see it: ENOENT (404, 410), ENETUNREACH (offline), EHOSTUNREACH (the site is
    down and is not asked for a while), ECONNREFUSED, ETIMEDOUT, EBUSY (429), EACCES (401, 403,
    451), EFBIG (over the size limit), EINVAL (no usable URL), EIO (all else)."""

    def __init__(self, url: str, cause: str, code: int = errno.EIO) -> None:
        super().__init__(code, os.strerror(code))
        self.url = url
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.url}: {self.cause}"

    @property
    def missing(self) -> bool:
        """Whether the site said that there is no such document."""
        return self.errno == errno.ENOENT
