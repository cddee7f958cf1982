"""The gallery in a real browser, from file:// and without a network."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xkcdfs.demo import Site

pytestmark = pytest.mark.mount

Browse = Callable[..., str]


@pytest.fixture(scope="module")
def site() -> Site:
    return Site(latest=40)


@pytest.fixture
def mounted(mount: Callable[..., Any], site: Site) -> Any:
    with site:
        yield mount(site)


@pytest.fixture
def browse(mounted: Any, tmp_path: Path) -> Browse:
    """``browse("index.html#x", *options)`` is the page's DOM once it has settled."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("the program chromium is not installed")

    def call(page: str, *options: str) -> str:
        done = subprocess.run(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={tmp_path}/chromium", "--window-size=1200,900",
             "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9",
             "--virtual-time-budget=30000", *options, f"file://{mounted.path}/{page}"],
            capture_output=True, text=True, timeout=90, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def cards(dom: str) -> dict[int, str]:
    """The cards that are shown."""
    found = re.findall(r'<a class="card" data-n="(\d+)"([^>]*)>(.*?)</a>', dom, re.DOTALL)
    return {int(number): body for number, rest, body in found if "hidden" not in rest}


def test_cards(browse: Browse, mounted: Any, site: Site) -> None:
    dom = browse("index.html", "--dump-dom")
    shown = cards(dom)
    assert list(shown) == list(range(40, 0, -1))
    assert "40 comics" in dom
    for number in range(37, 41):  # those within sight are loaded
        comic = site.comic(number)
        assert html.escape(comic.title, quote=False) in html.unescape(shown[number])
        assert comic.date.isoformat() in shown[number]
        image = re.search(r"<img ([^>]*)>", shown[number])
        assert image
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', image[1]))
        assert attributes["src"] == f".xkcdfs/gallery/{number}"
        # For a mouse and for a screen reader; it was not known when the page was made.
        assert html.unescape(attributes["title"]) == html.unescape(attributes["alt"]) == comic.alt
    assert "src=" not in shown[1]
    assert not site.requests["/1/info.0.json"]


def test_what_it_loads_has_its_size_at_once(mounted: Any, site: Site) -> None:
    # Chromium reads as much of a file as stat(2) said before it opened it.
    os.listdir(mounted.path)
    path = mounted.path / ".xkcdfs" / "gallery"
    assert os.listdir(path) == []
    assert (path / "39").stat().st_size == len(site.image(39))
    script = path / "38.js"
    assert script.stat().st_size == len(script.read_bytes())
    assert (mounted.path / "index.html").stat().st_size == len(mounted.read("index.html"))


def test_the_filter(browse: Browse, site: Site) -> None:
    word = site.comic(39).title.split()[-1]
    shown = cards(browse(f"index.html#{word.upper()}", "--dump-dom"))
    titles = {number: site.comic(number).title for number in range(1, 41)}
    assert 39 in shown
    assert set(shown) >= {n for n, title in titles.items() if word.lower() in title.lower()}
    assert len(shown) < 40
    assert cards(browse("index.html#no-comic-has-this", "--dump-dom")) == {}


def test_dark_mode(browse: Browse, tmp_path: Path) -> None:
    from PIL import Image

    corners = []
    for mode in ("1", "0"):
        picture = tmp_path / f"{mode}.png"
        browse("index.html", f"--blink-settings=preferredColorScheme={mode}",
               f"--screenshot={picture}")  # fmt: skip
        with Image.open(picture) as page:
            corners.append(page.convert("L").getpixel((4, 895)))
    light, dark = corners
    assert light > 200
    assert dark < 60


def test_a_comics_page(browse: Browse, mounted: Any, site: Site) -> None:
    folder = next((mounted.path / "comics").glob("0033-*")).name
    dom = browse(f"comics/{folder}/page.html", "--dump-dom")
    assert html.escape(site.comic(33).title, quote=False) in dom
    assert 'src="image.' in dom
    assert dom.rstrip().endswith("</html>")
