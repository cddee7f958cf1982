"""What the user sees when the site misbehaves. docs/xkcdfs.md has the same rows in its table."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xkcdfs.demo import Site, faults

pytestmark = pytest.mark.mount

Mount = Callable[..., Any]

RECORD = "/353/info.0.json"
IMAGE = f"/comics/{Site(latest=353).comic(353).file}"
GOOD = 0  # no error: the image, exact to the byte

_PICTURE = b'"/comics/x.png"'
_RECORD = b'{"num": 353, "year": "2007", "month": "12", "day": "5", "title": "x", "img": %s}'

# (what the site does, as the docs say it): where, how, what open(2) gives.
ROWS: dict[str, tuple[str, faults.Fault, int]] = {
    "resets the connection": (IMAGE, faults.reset, errno.EIO),
    "hangs": (IMAGE, faults.hang(5), errno.ETIMEDOUT),
    "sends headers for ever": (IMAGE, faults.slow_headers(0.1), errno.ETIMEDOUT),
    "sends the image slowly, for ever": (IMAGE, faults.slow_body(0.3), errno.ETIMEDOUT),
    "sends the image slowly, but gets done": (IMAGE, faults.slow_body(0.02, 500), GOOD),
    "sends half of the image": (IMAGE, faults.truncated, errno.EIO),
    "sends half of the image without a length": (IMAGE, faults.without_length(0.5), errno.EIO),
    "sends the image without a length": (IMAGE, faults.without_length(), GOOD),
    "sends half of the chunks": (IMAGE, faults.chunked(0.5), errno.EIO),
    "sends the image in chunks": (IMAGE, faults.chunked(), GOOD),
    "sends the image compressed": (IMAGE, faults.gzipped, GOOD),
    "calls gzip what is none": (IMAGE, faults.garbled_gzip, errno.EIO),
    "redirects for ever": (IMAGE, faults.redirect(IMAGE), errno.EIO),
    "redirects to a file": (IMAGE, faults.redirect("file:///etc/passwd"), errno.EIO),
    "redirects to the right place": (IMAGE, faults.redirect(f"{IMAGE}?"), GOOD),
    "answers 403": (IMAGE, faults.status(403), errno.EACCES),
    "answers 404 for the record": (RECORD, faults.status(404), errno.ENOENT),
    "answers 404 for the image": (IMAGE, faults.status(404), errno.ENOENT),
    "answers 429, Retry-After: 60": (IMAGE, faults.status(429, Retry_After="60"), errno.EBUSY),
    "answers 500": (IMAGE, faults.status(500), errno.EIO),
    "answers 503": (IMAGE, faults.status(503), errno.EIO),
    "calls the image text/html": (IMAGE, faults.body(Site(latest=353).image(353), "text/html"), GOOD),
    "sends a page for the image": (IMAGE, faults.html_instead, errno.EIO),
    "sends a page for the record": (RECORD, faults.html_instead, errno.EIO),
    "sends invalid JSON": (RECORD, faults.body(b'{"num": 353,'), errno.EIO),
    "sends another comic's record": (RECORD, faults.body(_RECORD.replace(b"353", b"354") % _PICTURE), errno.EIO),
    "sends an absurd number": (RECORD, faults.body(_RECORD.replace(b"353", b"1e400") % _PICTURE), errno.EIO),
    "names an image outside its folder": (RECORD, faults.body(_RECORD % b'"/comics/../../etc/passwd"'), errno.ENOENT),
    "names an image with a NUL": (RECORD, faults.body(_RECORD % b'"/comics/x\\u0000.png"'), errno.EIO),
    "names an image on the disk": (RECORD, faults.body(_RECORD % b'"file:///etc/passwd"'), errno.EIO),
    "sends 10 GB": (IMAGE, faults.huge(), errno.EFBIG),
    "sends an image without an end": (IMAGE, faults.endless, errno.EFBIG),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_what_the_user_sees(
    mount: Mount, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, row: str
) -> None:
    where, fault, code = ROWS[row]
    mounted = mount(site)
    if len(row) % 2:  # from a directory that was listed just now, or by its name alone
        os.listdir(mounted.path)
    else:
        os.readlink(mounted.path / "latest")
    if "right place" in row:
        site.fail(where, fault, times=1)
    else:
        site.fail(where, fault)
    with caplog.at_level(logging.WARNING):
        if code == GOOD:
            assert mounted.read("353") == site.image(353)
        else:
            began = time.monotonic()
            with pytest.raises(OSError) as caught:
                mounted.read("353")
            assert caught.value.errno == code
            assert time.monotonic() - began < 10
    lines = [record.getMessage() for record in caplog.records]
    if code in (GOOD, errno.ENOENT):
        assert lines == []
    else:
        assert len(lines) == 1
        assert site.url in lines[0]
    # Nothing wrong is kept, the mount lives, and a healthy site is asked again. What it said of
    # comics that do not exist, and of when to come back, is remembered.
    kept = b"".join(file.read_bytes() for file in (tmp_path / "cache").rglob("*-*.png"))
    assert kept in (b"", site.image(353))
    assert not [file for file in tmp_path.rglob("*") if file.name == "passwd"]
    if code not in (errno.ENOENT, errno.EBUSY):
        site.heal()
        assert _patiently(mounted, "353") == site.image(353)


def test_the_documentation_has_every_row() -> None:
    text = (Path(__file__).parents[2] / "docs" / "xkcdfs.md").read_text()
    table = text[text.index("| The site") :].split("\n\n")[0].splitlines()[2:]
    rows = {}
    for line in table:
        what, sees = (cell.strip() for cell in line.strip("|").split("|"))
        rows[what] = sees
    assert set(rows) == {*ROWS, "refuses connections"}
    for what, (_, _, code) in ROWS.items():
        assert rows[what] == ("The image" if code == GOOD else errno.errorcode[code])


def test_a_site_that_refuses_connections(
    mount: Mount, own_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    mounted = mount(own_site)
    mounted.read("353")
    names = os.listdir(mounted.path)
    own_site.stop()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(OSError) as caught:
        mounted.read("354")
    assert caught.value.errno == errno.ECONNREFUSED
    with caplog.at_level(logging.WARNING), pytest.raises(OSError) as caught:
        mounted.read("355")
    assert caught.value.errno == errno.EHOSTUNREACH
    assert time.monotonic() - began < 10
    assert own_site.url in caplog.messages[0]
    for _ in range(100):
        assert mounted.read("353") == own_site.image(353)
    assert os.listdir(mounted.path) == names
    assert b"down" in mounted.read(".xkcdfs/status")
    own_site.start()
    assert _patiently(mounted, "354") == own_site.image(354)


def test_a_site_that_is_down_from_the_start(mount: Mount, own_site: Site) -> None:
    own_site.stop()
    mounted = mount(own_site)
    with pytest.raises(OSError) as caught:
        os.listdir(mounted.path)
    assert caught.value.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH)
    own_site.start()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert "353" in os.listdir(mounted.path)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_site_that_hangs_does_not_stop_what_is_in_the_cache(mount: Mount, own_site: Site) -> None:
    mounted = mount(own_site)
    image = mounted.read("353")
    names = os.listdir(mounted.path)
    own_site.fail("*", faults.hang(30))
    mounted = mount(own_site, life=0.0, read_timeout=1.0)  # everything known is too old
    began = time.monotonic()
    assert os.listdir(mounted.path) == names
    assert mounted.read("353") == image
    assert time.monotonic() - began < 8
    own_site.stopping.set()


def test_offline_never_asks(mount: Mount, site: Site) -> None:
    mounted = mount(site)
    mounted.read("353")
    names = sorted(os.listdir(mounted.path))
    site.forget()
    mounted = mount(site, offline=True)
    assert sorted(os.listdir(mounted.path)) == names
    assert mounted.read("353") == site.image(353)
    with pytest.raises(OSError) as caught:
        mounted.read("354")
    assert caught.value.errno == errno.ENETUNREACH
    assert mounted.read("index.tsv")
    assert b"offline" in mounted.read(".xkcdfs/status")
    assert site.requests.total() == 0


def test_a_mirror_without_an_archive_page(mount: Mount, site: Site) -> None:
    site.fail("/archive/", faults.status(404))
    mounted = mount(site)
    assert {int(n) for n in os.listdir(mounted.path) if n.isdigit()} == (
        set(range(1, site.latest + 1)) - {404}
    )
    assert mounted.read("353") == site.image(353)
    assert mounted.read("comics/0353/title.txt").decode() == site.comic(353).title + "\n"


@pytest.mark.parametrize("damage", ["shorter", "garbled", "unseen", "gone"])
def test_a_damaged_cache_is_noticed(
    mount: Mount, site: Site, tmp_path: Path, damage: str
) -> None:
    mount(site).read("353")
    (file,) = (tmp_path / "cache").rglob("*-*.png")
    data = file.read_bytes()
    before = file.stat()
    if damage == "gone":
        file.unlink()
    elif damage == "unseen":  # in place, with size and times as they were
        with file.open("r+b") as opened:
            opened.seek(-9, os.SEEK_END)
            opened.write(b"x")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = file.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        assert file.read_bytes() != data
    else:
        file.write_bytes(data[:100] if damage == "shorter" else data[:-9] + b"x" + data[-8:])
    site.forget()
    assert mount(site).read("353") == site.image(353)
    assert site.requests == {IMAGE: 1}


def _patiently(mounted: Any, name: str) -> bytes:
    """What the file holds once the pause that the site is given is over."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return bytes(mounted.read(name))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
