"""What everyday commands cost the site, as the table in docs/xkcdfs.md says it."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xkcdfs.demo import Site

pytestmark = pytest.mark.mount

DOCS = Path(__file__).parents[2] / "docs" / "xkcdfs.md"
ROWS = [
    (command, bool(again), int(requests), int(connections))
    for command, again, requests, connections in re.findall(
        r"^\| `([^`]+)`(, again)? \| (\d+) \| (\d+) \|$", DOCS.read_text(), re.MULTILINE
    )
]


def test_the_table_is_there() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize(("command", "again", "requests", "connections"), ROWS)
def test_requests(
    mount: Callable[..., Any],
    site: Site,
    tmp_path: Path,
    command: str,
    again: bool,
    requests: int,
    connections: int,
) -> None:
    for word in ("tree", "file", "getfattr"):
        if command.startswith(word) and not shutil.which(word):
            pytest.skip(f"the program {word} is not installed")
    mount(site)
    for _ in range(1 + again):
        site.forget()
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
        assert done.returncode == 0 or "autorun" in command, done.stderr
    assert site.requests.total() == requests
    assert site.connections <= connections


LOOK = """
import os, sys
with open("/proc/self/comm", "w") as name:
    name.write(sys.argv[2])
codes = []
for number in range(1, 61):
    try:
        with open(f"{sys.argv[1]}/{number}", "rb") as file:
            codes.append(0 if file.read(8) else -1)
    except OSError as error:
        codes.append(error.errno)
print(*codes)
"""


def test_a_file_manager_looks_into_few(mount: Callable[..., Any], small_site: Site) -> None:
    """Some read the beginning of every file before they show one, since the names have no suffix."""

    def look(name: str) -> list[int]:
        command = [sys.executable, "-c", LOOK, mounted.path, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return list(map(int, done.stdout.split()))

    small_site.forget()
    mounted = mount(small_site)
    assert look("pcmanfm") == 32 * [0] + 28 * [errno.EAGAIN]
    assert sum(small_site.requests.values()) == 2 + 2 * 32
    assert look("feh") == 60 * [0]
    asked = sum(small_site.requests.values())
    assert look("Thunar") == 60 * [0], "what is in the cache"
    assert sum(small_site.requests.values()) == asked
