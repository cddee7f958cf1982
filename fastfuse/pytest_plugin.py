"""A pytest fixture that mounts: `def test_x(fastfuse_mount): root = fastfuse_mount(fs)`."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastfuse.routes.filesystem import FileSystem


@pytest.fixture
def fastfuse_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., pathlib.Path]]:
    """`fastfuse_mount(fs, **settings)` mounts a FileSystem until the test ends; where it is, a Path.

    *settings* are Session's. Without /dev/fuse the test is skipped.
    """
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("mounting needs /dev/fuse, which is missing or may not be opened by this user")
    with contextlib.ExitStack() as mounts:

        def mount(fs: FileSystem, **settings: Any) -> pathlib.Path:
            return mounts.enter_context(fs.mounted(tmp_path_factory.mktemp("mnt"), **settings))

        yield mount
