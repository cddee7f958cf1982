"""Imports go down the layers only, pattern matching does no I/O, one .pxd declares libfuse."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the lowest up. A name stands for that module and, if it is a package, for all below it.
LAYERS = (
    {"fastfuse.errors"},
    {"fastfuse.core"},
    {"fastfuse.operations", "fastfuse.session", "fastfuse.mountpoint", "fastfuse.command"},
    {"fastfuse.routes"},
    {"fastfuse.mafs", "fastfuse.pytest_plugin"},
    {"fastfuse.__init__"},
    {"xkcdfs"},
)
# The modules that match patterns, and all that they may use: what does no I/O, or not as used here.
MATCHING = tuple(
    f"fastfuse/routes/{name}.py" for name in ("binding", "converters", "patterns", "router")
)
PURE = {
    "fastfuse.errors",
    "fastfuse.routes.binding",
    "fastfuse.routes.converters",
    "fastfuse.routes.patterns",
    "fastfuse.routes.router",
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "inspect",
    "itertools",
    "keyword",
    "math",
    "operator",
    "re",
    "stat",
    "string",
    "types",
    "typing",
    "uuid",
}
IO_FUNCTIONS = {"open", "print", "input", "exec", "eval", "__import__"}
PLUGIN = "fastfuse/pytest_plugin.py"  # loaded by pytest, so it may import that
COMPILED = {"cython", "cpython", "libc", "posix"}  # what a .pyx may cimport besides our own
TYPING = {"typing_extensions"}  # for type checkers, which always know it: never imported at run time

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+c?import[ \t]+(?:\((?P<names>[^)]*)\)|(?P<line>.+))"
    r"|c?import[ \t]+(?P<modules>.+))$",
    re.MULTILINE,
)


def sources(root: Path) -> Iterator[Path]:
    for package in ("fastfuse", "xkcdfs"):
        for path in sorted((root / package).rglob("*")):
            if path.suffix in {".py", ".pyx", ".pxd"}:
                yield path


def module_of(path: Path, root: Path) -> str:
    """'fastfuse.core.tree' of fastfuse/core/tree.pyx; 'fastfuse.__init__' of a package's own."""
    return ".".join(path.relative_to(root).with_suffix("").parts)


def without_text(source: str) -> str:
    """Cython *source* with its comments and triple-quoted strings taken out."""
    return re.sub(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|#.*', "", source)


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, names taken from it) for each import in *path*, relative ones with their dots."""
    text = path.read_text()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text, str(path))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, []) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield "." * node.level + (node.module or ""), [alias.name for alias in node.names]
        return
    for found in CYTHON_IMPORT.finditer(without_text(text)):
        taken = found["modules"] or found["names"] or found["line"]
        names = [item.split()[0] for item in taken.split(",") if item.strip()]
        if found["base"]:
            yield found["base"], names
        else:
            yield from ((name, []) for name in names)


def targets(path: Path, root: Path) -> set[str]:
    """The modules that *path* imports: ours by their full names, others by their first word."""
    ours = {module_of(source, root) for source in sources(root)}
    reached = set()
    for base, names in imports(path):
        dots = len(base) - len(base.lstrip("."))
        if dots:
            parents = module_of(path, root).split(".")[:-dots]
            base = ".".join([*parents, *filter(None, [base[dots:]])])
        for name in names or [""]:
            full = f"{base}.{name}" if name else base
            for module in (full, f"{full}.__init__", base, f"{base}.__init__"):
                if module in ours:
                    reached.add(module)
                    break
            else:
                first = base.split(".")[0]
                reached.add(base if first in {"fastfuse", "xkcdfs"} else first)
    return reached


def layer(module: str) -> int | None:
    for height, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return height
    return None


def layer_violations(root: Path) -> list[str]:
    """Each import that goes up, leaves the table of layers, or brings a dependency to fastfuse."""
    found = []
    for path in sources(root):
        here = layer(module_of(path, root))
        if here is None:
            found.append(f"{path.relative_to(root)} is in no layer")
            continue
        for target in sorted(targets(path, root)):
            if target.split(".")[0] in {"fastfuse", "xkcdfs"}:
                there = layer(target)
                wrong = there is None or there > here
            else:
                allowed = target in sys.stdlib_module_names or target in COMPILED | TYPING
                allowed = allowed or (target == "pytest" and path == root / PLUGIN)
                wrong = not allowed and not path.is_relative_to(root / "xkcdfs")
            if wrong:
                found.append(f"{path.relative_to(root)} imports {target}")
    return found


def io_in(path: Path, root: Path) -> list[str]:
    """The modules and built-in functions by which *path* could do I/O."""
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(), str(path)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return sorted(targets(path, root) - PURE | calls & IO_FUNCTIONS)


def libfuse_declared_in(root: Path) -> list[str]:
    return [
        str(path.relative_to(root))
        for path in sources(root)
        if path.suffix != ".py"
        and re.search(r'cdef\s+extern\s+from\s+["<]+fuse', without_text(path.read_text()))
    ]


def test_imports_go_down() -> None:
    assert list(sources(ROOT))
    assert layer_violations(ROOT) == []


@pytest.mark.parametrize("name", MATCHING)
def test_pattern_matching_does_no_io(name: str) -> None:
    assert io_in(ROOT / name, ROOT) == []


def test_one_pxd_declares_libfuse() -> None:
    assert len(libfuse_declared_in(ROOT)) == 1


MADE_UP = {
    "fastfuse/__init__.py": "from .session import Session\n",
    "fastfuse/errors.py": "import os\n",
    "fastfuse/core/__init__.py": "",
    "fastfuse/core/libfuse.pxd": 'cdef extern from "fuse_lowlevel.h" nogil:\n    pass\n',
    "fastfuse/core/tree.pxd": "from libc.stdint cimport uint64_t\n",
    "fastfuse/core/tree.pyx": (
        '"""\nfrom xkcdfs import text\n"""\n# import requests\n'
        "from fastfuse.core cimport libfuse\nfrom fastfuse.errors import FuseError\n"
    ),
    "fastfuse/session.py": "from . import errors\nfrom .core import tree\n",
    "fastfuse/routes/__init__.py": "",
    "fastfuse/routes/patterns.py": "import re\nfrom ..errors import FuseError\n",
    "xkcdfs/__init__.py": "",
    "xkcdfs/client.py": "import requests\nfrom fastfuse import Session, errors\n",
}


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    for name, text in MADE_UP.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_checks_pass_a_good_tree(made_up: Path) -> None:
    assert layer_violations(made_up) == []
    assert io_in(made_up / "fastfuse/routes/patterns.py", made_up) == []
    assert libfuse_declared_in(made_up) == ["fastfuse/core/libfuse.pxd"]


@pytest.mark.parametrize(
    ("name", "line", "target"),
    [
        ("fastfuse/errors.py", "from .core import tree", "fastfuse.core.tree"),
        ("fastfuse/errors.py", "def late():\n    import fastfuse.session", "fastfuse.session"),
        ("fastfuse/core/tree.pyx", "from fastfuse.session import Session", "fastfuse.session"),
        ("fastfuse/core/tree.pyx", "from ..routes import (\n    patterns,\n    x,\n)", None),
        ("fastfuse/core/tree.pyx", "import os, xkcdfs.client", "xkcdfs.client"),
        ("fastfuse/core/tree.pxd", "from fastfuse.routes cimport x", "fastfuse.routes.__init__"),
        ("fastfuse/core/tree.pyx", "import numpy as np", "numpy"),
        ("fastfuse/session.py", "from .routes.patterns import match", "fastfuse.routes.patterns"),
        ("fastfuse/session.py", "from . import Session", "fastfuse.__init__"),
        ("fastfuse/session.py", "import fastfuse.unheard_of", "fastfuse.unheard_of"),
        ("fastfuse/routes/patterns.py", "import xkcdfs", "xkcdfs.__init__"),
        ("fastfuse/routes/patterns.py", "import requests.adapters", "requests"),
    ],
)
def test_an_import_upwards_is_found(
    made_up: Path, name: str, line: str, target: str | None
) -> None:
    with (made_up / name).open("a") as file:
        file.write(f"{line}\n")
    violations = layer_violations(made_up)
    if target is None:
        assert violations == [
            f"{name} imports fastfuse.routes.{module}" for module in ("__init__", "patterns")
        ]
    else:
        assert violations == [f"{name} imports {target}"]


def test_a_module_in_no_layer_is_found(made_up: Path) -> None:
    (made_up / "fastfuse/helpers.py").touch()
    assert layer_violations(made_up) == ["fastfuse/helpers.py is in no layer"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import socket", "socket"),
        ("from pathlib import Path", "pathlib"),
        ("from ..core import tree", "fastfuse.core.tree"),
        ("open('x')", "open"),
    ],
)
def test_io_in_patterns_is_found(made_up: Path, line: str, what: str) -> None:
    patterns = made_up / "fastfuse/routes/patterns.py"
    patterns.write_text(f"{patterns.read_text()}{line}\n")
    assert io_in(patterns, made_up) == [what]


def test_a_second_declaration_of_libfuse_is_found(made_up: Path) -> None:
    (made_up / "fastfuse/core/types.pxd").write_text("cdef extern from <fuse.h>:\n    pass\n")
    (made_up / "fastfuse/core/tree.pxd").write_text('cdef extern from "fuse_opt.h":\n    pass\n')
    assert len(libfuse_declared_in(made_up)) == 3
