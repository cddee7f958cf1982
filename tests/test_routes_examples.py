"""The examples that are made of routes, run as the programs that they are."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parent.parent


@pytest.fixture
def start(mountpoint: Path) -> Iterator[Callable[..., Path]]:
    """``start(name, *args)`` runs an example in the background; it is mounted when that returns."""

    def run(name: str, *args: object) -> Path:
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), str(mountpoint), *map(str, args)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return mountpoint

    yield run
    subprocess.run(["fusermount3", "-u", str(mountpoint)], check=False, timeout=30, capture_output=True)


def shell(root: Path, line: str) -> str:
    done = subprocess.run(line, shell=True, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def test_hello(start: Callable[..., Path]) -> None:
    root = start("hello_routes")
    assert shell(root, "ls hello; cat hello/world hello/you") == "moon\nworld\nHello, world!\nHello, you!\n"


DOCUMENT = {"name": "demo", "sizes": [1, 2.5, None], "nested": {"deep": {"yes": True}}, "empty": {}}


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_document_as_a_tree(start: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    document = tmp_path / f"document{suffix}"
    if suffix == ".yaml":
        yaml = pytest.importorskip("yaml", reason="the package PyYAML is not installed")
        document.write_text(yaml.safe_dump(DOCUMENT))
        load = lambda: yaml.safe_load(document.read_text())  # noqa: E731
    else:
        document.write_text(json.dumps(DOCUMENT))
        load = lambda: json.loads(document.read_text())  # noqa: E731
    root = start("json_tree", document)
    assert shell(root, "find . | sort") == (
        ".\n./empty\n./name\n./nested\n./nested/deep\n./nested/deep/yes\n./sizes\n./sizes/0\n./sizes/1\n./sizes/2\n"
    )
    assert shell(root, "cat name nested/deep/yes sizes/*; wc -c < name") == "demo\ntrue\n1\n2.5\nnull\n5\n"
    done = shell(
        root,
        "echo changed > name; echo 7 > sizes/0; echo '[1, {\"a\": 2}]' > new; mkdir -p made/below; echo text > made/x;"
        "mv made moved; rm nested/deep/yes sizes/2; rmdir nested/deep empty; echo 8 > sizes/2",
    )
    assert done == ""
    for _ in range(500):  # the kernel is told by a thread of its own
        if (root / "new").is_dir():
            break
        time.sleep(0.01)
    assert shell(root, "cat new/1/a") == "2\n"
    assert load() == {
        "name": "changed",
        "sizes": [7, 2.5, 8],
        "nested": {},
        "new": [1, {"a": 2}],
        "moved": {"below": {}, "x": "text"},
    }
    refused = shell(root, "rmdir moved; rm sizes/0; cat nowhere; echo 1 > sizes/9; cat name/x")
    for reason in ("not empty", "Invalid argument", "No such file", "Not a directory"):
        assert reason in refused
    assert load()["sizes"] == [7, 2.5, 8]


def test_a_database_as_rows(start: Callable[..., Path], tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE item (name TEXT, price REAL, picture BLOB)")
        connection.execute("CREATE TABLE odd (a PRIMARY KEY) WITHOUT ROWID")
        connection.executemany("INSERT INTO item VALUES (?, ?, ?)", [("tea", 2.5, b"\0\xff"), ("milk, fresh", 1, None)])
    root = start("sqlite_rows", database)
    assert sorted(os.listdir(root)) == ["item"]
    assert sorted(os.listdir(root / "item")) == ["1", "2", "schema.sql", "table.csv"]
    assert sorted(os.listdir(root / "item/1")) == ["name", "picture", "price"]
    assert (root / "item/1/name").read_text() == "tea\n"
    assert (root / "item/1/picture").read_bytes() == b"\0\xff"
    assert (root / "item/2/picture").read_bytes() == b""
    assert shell(root, "head -n 2 item/table.csv | cut -d, -f1-3") == "rowid,name,price\n1,tea,2.5\n"
    assert "CREATE TABLE item" in (root / "item/schema.sql").read_text()
    assert shell(root, "echo 3 > item/1/price; cat item/1/price; rmdir item/2; ls item") == (
        "3.0\n1\nschema.sql\ntable.csv\n"
    )
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT name, price FROM item").fetchall() == [("tea", 3.0)]
    for path in ("other", "odd", "item/9", "item/x", "item/1/colour"):
        assert not (root / path).exists(), path


def test_markdown_as_pages(start: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "notes"
    (source / "sub").mkdir(parents=True)
    (source / "index.md").write_text("# Notes & more\n\nSee [the other](sub/other.md), *now*.\n\n- one\n- two\n")
    (source / "sub/other.md").write_text("Plain `code`.\n")
    (source / "picture.png").write_bytes(b"\x89PNG")
    root = start("markdown_html", source)
    assert shell(root, "find . -type f | sort") == "./index.html\n./picture.png\n./sub/other.html\n"
    page = (root / "index.html").read_text()
    assert "<h1>Notes &amp; more</h1>" in page and "<em>now</em>" in page and "<li>two</li>" in page
    assert (root / "picture.png").read_bytes() == b"\x89PNG"
    assert "<code>code</code>" in (root / "sub/other.html").read_text()
    assert not (root / "index.md").exists()
    (source / "sub/other.md").write_text("Changed and longer.\n")
    os.utime(source / "sub/other.md", (5, 5))
    assert shell(root, "sleep 1.1; grep -c 'Changed and longer' sub/other.html").strip() == "1"


def test_live_statistics(start: Callable[..., Path]) -> None:
    root = start("proc_stats")
    assert len((root / "load").read_text().split()) == 3
    assert json.loads((root / "memory.json").read_text())["MemTotal"] > 0
    assert float((root / "uptime").read_text()) > 0
    assert shell(root, "echo 0.02 > interval; cat interval; head -n 3 clock | wc -l") == "0.02\n3\n"
    user = shell(root, "id -un").strip()
    assert user in os.listdir(root / "users")
    mine = root / "users" / user / str(os.getpid())
    assert mine.name in os.listdir(mine.parent)
    assert "pytest" in (mine / "command").read_text()
    assert not (root / "users/nobody-of-that-name").exists()
    assert not (mine.parent / "999999999").exists()
