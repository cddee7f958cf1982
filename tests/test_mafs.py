"""MagicFS's interface: programs written for it, as programs of their own, and each place where it failed.

The programs here do what those that MagicFS ships do: static and dynamic names and links, a generator and a value to
write, a JSON document, a directory that is watched; and what its tutorial builds step by step.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastfuse import mafs
from fastfuse.routes.patterns import RouteError
from xkcdfs.demo import Site

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parent.parent


@pytest.fixture
def start(tmp_path: Path, mountpoint: Path) -> Iterator[Callable[..., Path]]:
    """``start(source, *args)`` runs a program that imports mafs; it is mounted when that returns."""
    (tmp_path / "alias").mkdir()
    (tmp_path / "alias/mafs.py").write_text("from fastfuse.mafs import *\n")
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}/alias:{ROOT}", "NO_PROXY": "127.0.0.1"}

    def run(source: str, *args: object) -> Path:
        program = tmp_path / "program.py"
        program.write_text(source)
        command = [sys.executable, str(program), str(mountpoint), *map(str, args)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return mountpoint

    yield run
    subprocess.run(["fusermount3", "-u", str(mountpoint)], check=False, timeout=30, capture_output=True)


def shell(root: Path, line: str) -> str:
    done = subprocess.run(line, shell=True, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


PLACES = """
from mafs import MagicFS

fs = MagicFS()

@fs.read('/town/hall')
def hall(path, ps):
    return 'the hall\\n'

@fs.read('/town/square')
def square(path, ps):
    return 'the square\\n'

@fs.read('/town/:street')
def street(path, ps):
    return ps.street + ' street\\n'

@fs.readlink('/shortcut')
def shortcut(path, ps):
    return './town/long way'

fs.run()
"""


def test_names_static_and_dynamic_and_links(start: Callable[..., Path]) -> None:
    root = start(PLACES)
    assert shell(root, "ls; ls town") == "shortcut\ntown\nhall\nsquare\n"
    assert shell(root, "cat town/hall town/square town/high shortcut") == (
        "the hall\nthe square\nhigh street\nlong way street\n"
    )


NUMBERS = """
from mafs import MagicFS

fs = MagicFS()
factor = 3

@fs.read('/squares')
def squares(path, ps):
    for n in range(100):
        yield '{} '.format(n * n)
    yield '\\n'

@fs.read('/multiples')
def multiples(path, ps):
    for n in range(1, 6):
        yield str(n * factor) + ' '

@fs.write('/multiples')
def set_factor(path, ps):
    def store(text):
        global factor
        factor = int(text.strip())
    return store

fs.run()
"""


def test_a_generator_and_a_value_to_write(start: Callable[..., Path], tmp_path: Path) -> None:
    root = start(NUMBERS)
    squares = " ".join(str(n * n) for n in range(100)) + " \n"
    assert shell(root, "cat squares") == squares
    assert shell(root, "wc -c < squares; tail -c 6 squares") == f"{len(squares)}\n{squares[-6:]}"
    assert shell(root, f"cp squares {tmp_path}/copy; cat {tmp_path}/copy") == squares
    assert shell(root, "cat multiples; echo 7 > multiples; cat multiples") == "3 6 9 12 15 7 14 21 28 35 "
    with pytest.raises(OSError, match="Input/output error"):
        (root / "multiples").write_text("seven")
    assert shell(root, "cat multiples") == "7 14 21 28 35 "


DOCUMENT = """
import json
import mafs

fs = mafs.MagicFS()
fs.add_argument('file')

with open(fs.args.file) as file:
    document = json.load(file)

def find(keys):
    found = document
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    return found

@fs.read('/*keys')
def read(path, ps):
    return str(find(ps.keys)) + '\\n'

@fs.list('/')
def root(path, ps):
    return document.keys()

@fs.list('/*keys')
def names(path, ps):
    return find(ps.keys).keys()

@fs.stat('/*keys')
def attributes(path, ps):
    found = find(ps.keys)
    if found is None:
        raise mafs.FileNotFoundError()
    return {'st_mode': 0o755 | mafs.FileType.DIRECTORY} if isinstance(found, dict) else {}

fs.run()
"""


def test_a_json_document(start: Callable[..., Path], tmp_path: Path) -> None:
    document = tmp_path / "document.json"
    document.write_text(json.dumps({"a": {"b": 1, "c": {"d": "text"}}, "e": True}))
    root = start(DOCUMENT, document)
    assert shell(root, "find . -type f | sort") == "./a/b\n./a/c/d\n./e\n"
    assert shell(root, "cat a/b a/c/d e") == "1\ntext\nTrue\n"
    assert shell(root, "ls nowhere a/c/d/e").count("No such file") == 1
    assert shell(root, "ls a/c/d/e").count("Not a directory") == 1


WATCH = """
import os
import mafs

fs = mafs.MagicFS()
fs.add_argument('log')
fs.add_argument('home')

def note(what, path):
    with open(fs.args.log, 'a') as log:
        print(what, path, file=log)
    return os.path.join(fs.args.home, path.strip('/'))

@fs.read('*file', encoding=None)
def read(path, ps):
    return open(note('read', path), 'rb')

@fs.write('*file', encoding=None)
def write(path, ps):
    return open(note('write', path), 'wb')

@fs.stat('*file')
def stat(path, ps):
    found = os.stat(note('stat', path))
    return {name: getattr(found, name) for name in
            ('st_mode', 'st_nlink', 'st_uid', 'st_gid', 'st_size', 'st_atime', 'st_mtime', 'st_ctime')}

@fs.list('/')
@fs.list('*file')
def names(path, ps):
    return os.listdir(note('list', path))

fs.run()
"""


def test_a_directory_that_is_watched(start: Callable[..., Path], tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    (home / "sub").mkdir(parents=True)
    (home / "file").write_bytes(b"\0binary\xff")
    (home / "sub/other").write_text("other")
    root = start(WATCH, log, home)
    assert shell(tmp_path, f"diff -r home {root} && echo same") == "same\n"
    assert shell(root, "echo new > sub/other; cat sub/other") == "new\n"
    assert (home / "sub/other").read_text() == "new\n"
    assert {"read /file", "write /sub/other", "list /sub", "stat /file"} <= set(log.read_text().splitlines())
    assert (root / "file").stat().st_mtime == pytest.approx((home / "file").stat().st_mtime, abs=1e-3, rel=0)


# ---- the tutorial, one step after the other

HELLO = """
import mafs

fs = mafs.MagicFS()

@fs.read('/hello')
def hello_world(path, ps):
    return 'Hello, World!'

fs.run()
"""

COMICS = """
import io
import json
import urllib.error
import urllib.request
import mafs

fs = mafs.MagicFS()
fs.add_argument('site')
site = fs.args.site
known = {}
pictures = {}

def get_comic(number=None):
    if number not in known:
        url = '{}/{}/info.0.json'.format(site, number) if number else site + '/info.0.json'
        try:
            known[number] = json.loads(urllib.request.urlopen(url).read().decode())
        except urllib.error.HTTPError:
            return None
    return known[number]

def get_picture(url):
    if url not in pictures:
        pictures[url] = urllib.request.urlopen(url).read()
    return io.BytesIO(pictures[url])

@fs.read('/:number', encoding=None)
def read_comic(path, ps):
    comic = get_comic(ps.number)
    if comic:
        return get_picture(comic['img'])
"""

LISTED = """
latest = get_comic()

@fs.list('/')
def list_comics(path, ps):
    return (str(n) for n in range(1, latest['num'] + 1))

@fs.stat('/:number')
def access_comic(path, ps):
    try:
        if int(ps.number) > latest['num']:
            raise FileNotFoundError()
    except ValueError:
        raise FileNotFoundError()
"""

RUN = "fs.run()\n"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(latest=30) as site:
        yield site


def picture(site: Site, number: int) -> bytes:
    import urllib.request

    with urllib.request.urlopen(f"{site.url}/{number}/info.0.json") as answer:
        url = json.load(answer)["img"]
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def test_tutorial_step_1_hello(start: Callable[..., Path]) -> None:
    root = start(HELLO)
    assert shell(root, "ls; cat hello") == "hello\nHello, World!"


def test_tutorial_step_2_comics_can_be_read(start: Callable[..., Path], site: Site) -> None:
    root = start(COMICS + RUN, site.url)
    assert os.listdir(root) == []
    for number in (1, 7, 30):
        assert (root / str(number)).read_bytes() == picture(site, number)


def test_tutorial_step_3_comics_are_listed(start: Callable[..., Path], site: Site, tmp_path: Path) -> None:
    root = start(COMICS + LISTED + RUN, site.url)
    assert sorted(map(int, os.listdir(root))) == list(range(1, 31))
    expected = picture(site, 12)
    assert (root / "12").read_bytes() == expected
    shell(root, f"cp 12 {tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == expected
    assert shell(root, "wc -c < 12") == f"{len(expected)}\n"
    assert shell(root, "ls -l | wc -l") == "31\n"
    for name in ("31", "a", "README"):
        assert not (root / name).exists()


# ---- in this process: what handlers may give, and where MagicFS failed


@pytest.fixture
def mount(mountpoint: Path) -> Iterator[Callable[[mafs.MagicFS], Path]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda fs: stack.enter_context(fs.filesystem.mounted(mountpoint, threads=1))


def test_what_read_gives(mount: Callable[[mafs.MagicFS], Path], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"given")
    fs = mafs.MagicFS()
    giving: dict[str, Any] = {
        "none": (lambda: None, b""),
        "text": (lambda: "gïven", "gïven".encode()),
        "list": (lambda: ["gi", "ven"], b"given"),
        "generator": (lambda: (part for part in ("gi", "ven")), b"given"),
        "function": (lambda: lambda length, offset: b"given"[offset : offset + length], b"given"),
        "bytes": (lambda: b"given", b"given"),
        "memoryview": (lambda: memoryview(b"given"), b"given"),
        "path": (lambda: tmp_path / "data", b"given"),
        "read-only file": (lambda: (tmp_path / "data").open("rb"), b"given"),
    }
    for name, (give, _) in giving.items():
        fs.onread(f"/{name}", lambda path, ps, give=give: give())
    root = mount(fs)
    for name, (_, expected) in giving.items():
        assert (root / name).read_bytes() == expected, name


def test_handlers_are_called_by_position(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()

    @fs.read("/*dirs/:name/end")
    @fs.read("/once/:name")
    def read(where: str, given: Any, more: int = 5) -> str:
        return f"{where} {given._asdict()} {more}"

    root = mount(fs)
    assert (root / "once/x").read_text() == "/once/x {'name': 'x'} 5"
    assert (root / "a/b/c/end").read_text() == "/a/b/c/end {'dirs': ['a', 'b'], 'name': 'c'} 5"


def test_routes_are_lenient_as_there(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    fs.onread("bare", lambda path, ps: "bare")
    fs.onread("/slash//twice/", lambda path, ps: "twice")
    fs.onread("/12:30", lambda path, ps: "colon")
    root = mount(fs)
    assert shell(root, "cat bare slash/twice 12:30") == "baretwicecolon"


def test_a_class_for_a_file(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    kept = ["old"]

    @fs.file("/x")
    class File:
        def read(path: str, ps: Any) -> str:  # type: ignore[misc]
            return kept[0]

        def write(path: str, ps: Any) -> Callable[[str], None]:  # type: ignore[misc]
            return kept.append

    root = mount(fs)
    assert shell(root, "cat x; echo new > x") == "old"
    assert kept == ["old", "new\n"]


def test_each_open_asks(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    calls: list[str] = []

    @fs.read("/x")
    def read(path: str, ps: Any) -> str:
        calls.append("read")
        return str(len(calls))

    root = mount(fs)
    (root / "x").stat()
    assert calls == []
    assert [(root / "x").read_text() for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("route", ["/:class", "/*", "/x/:a:b", "/:a-:a"])
def test_a_wrong_route_is_an_error_where_it_is_registered(route: str) -> None:
    fs = mafs.MagicFS()
    with pytest.raises(RouteError, match="route"):
        fs.onread(route, lambda path, ps: "")


def test_a_parameter_with_text_around_it(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    fs.onread("/:n.png", lambda path, ps: ps.n)
    fs.onread("/any/**/end", lambda path, ps: path)
    root = mount(fs)
    assert shell(root, "cat 12.png any/end any/a/b/end") == "12/any/end/any/a/b/end"


def test_reading_and_writing_one_open_file(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    kept = ["0123456789"]
    fs.onread("/x", lambda path, ps: kept[-1])
    fs.onwrite("/x", lambda path, ps: kept.append)
    root = mount(fs)
    with (root / "x").open("r+") as file:
        assert file.read(4) == "0123"
        file.seek(2)
        file.write("ab")
    assert kept[-1] == "01ab456789"
    shell(root, "printf end >> x")
    assert kept[-1] == "01ab456789end"
    os.truncate(root / "x", 3)
    assert kept[-1] == "01a"


def test_listings_are_the_union(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    fs.onread("/d/read", lambda path, ps: "")
    fs.onwrite("/d/write", lambda path, ps: None)
    fs.onreadlink("/d/link", lambda path, ps: "read")
    fs.onlist("/d/list", lambda path, ps: ["x"])
    fs.onlist("/d", lambda path, ps: ["said"])
    fs.onreadlink("/links/only", lambda path, ps: "x")
    root = mount(fs)
    assert sorted(os.listdir(root / "d")) == ["link", "list", "read", "said", "write"]
    assert os.listdir(root / "d/list") == ["x"]
    assert os.listdir(root / "links") == ["only"]


def test_stat_merges_over_the_defaults(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    fs.onread("/x", lambda path, ps: "12345")
    fs.onwrite("/x", lambda path, ps: None)
    fs.onstat("/x", lambda path, ps: {"st_size": 5, "st_mtime": 100.5})
    fs.onstat("/gone", lambda path, ps: (_ for _ in ()).throw(mafs.FileNotFoundError))
    fs.onread("/gone", lambda path, ps: "")
    root = mount(fs)
    found = (root / "x").stat()
    assert (found.st_size, found.st_mtime, stat.S_IMODE(found.st_mode)) == (5, 100.5, 0o644)
    assert found.st_uid == os.geteuid()
    assert not (root / "gone").exists()
    assert os.statvfs(root).f_namemax == 255


def test_a_slow_handler_does_not_block_what_is_known(mount: Callable[[mafs.MagicFS], Path]) -> None:
    fs = mafs.MagicFS()
    go_on, asked = threading.Event(), threading.Event()

    @fs.read("/slow")
    def slow(path: str, ps: Any) -> str:
        asked.set()
        assert go_on.wait(30)
        return "slow"

    fs.filesystem.publish("/known", "known")
    root = mount(fs)
    reader = subprocess.Popen(["cat", "slow"], cwd=root, stdout=subprocess.PIPE)
    try:
        assert asked.wait(20)
        assert shell(root, "cat known") == "known"
    finally:
        go_on.set()
    assert reader.communicate(timeout=20)[0] == b"slow"


def test_a_duplicate_names_both_routes() -> None:
    fs = mafs.MagicFS()
    fs.onread("/*a", lambda path, ps: "")
    with pytest.raises(RouteError, match=r"'/\*b' .*'/\*a'"):
        fs.onread("/*b", lambda path, ps: "")
