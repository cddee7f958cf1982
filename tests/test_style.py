"""The rules of text and documentation that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:work|home|root)\b(?!-)")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    """The text files of the checkout, those not yet added included, and what they say."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout that can be read: {error}")
    found = {}
    for name in listing.decode().split("\0"):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            found[path] = content.decode()
    return found


def lines_with(pattern: re.Pattern[str], texts: dict[Path, str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path, text in texts.items()
        for number, line in enumerate(text.split("\n"), 1)
        if pattern.search(line)
    ]


def test_no_trailing_whitespace(texts: dict[Path, str]) -> None:
    assert texts
    assert lines_with(re.compile(r"\s$"), texts) == []


def test_no_paths_of_one_machine(texts: dict[Path, str]) -> None:
    # Put together here, so that this file passes its own check.
    assert all(MACHINE_PATH.search(f"see {top}/x") for top in ("/" + "work", "/" + "home"))
    assert lines_with(MACHINE_PATH, texts) == []


def test_public_names_have_docstrings() -> None:
    modules = sorted((ROOT / "fastfuse").rglob("*.py"))
    assert modules
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in modules
        for node in ast.parse(path.read_text(), str(path)).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert bare == []


def test_links_lead_to_files(texts: dict[Path, str]) -> None:
    pages = {path: text for path, text in texts.items() if path.suffix == ".md"}
    assert ROOT / "README.md" in pages
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path, text in pages.items()
        for target in LINK.findall(text)
        if not (path.parent / target).exists()
    ]
    assert broken == []
