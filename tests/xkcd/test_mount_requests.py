"""What everyday commands cost the site, as the table in docs/xkcdfs.md says it."""

from __future__ import annotations

import re
import shutil
import subprocess
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
