"""Every real record through a mount, from a local server: runs where the records are at hand.

Of the images, some are real. The others are as many bytes of filling, with a beginning and an end
that make them images to the client.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from xkcdfs.client import image_type
from xkcdfs.demo import Site
from xkcdfs.demo.faults import Reply
from xkcdfs.records import (
    clean_title,
    date_ns,
    repair_transcript,
    safe_name,
    slug,
    transcript_source,
)

pytestmark = pytest.mark.mount

FILLED = {
    "png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "jpg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "gif": (b"GIF89a", b";"),
}
Records = Mapping[int, Mapping[str, Any]]


class RealSite(Site):
    """Serves the records, with the images' URLs on itself."""

    def __init__(self, records: Records, folder: Path) -> None:
        super().__init__(latest=1)
        self.records = records
        self.latest = max(records)
        self.archive = (folder / "archive.html").read_bytes()
        self.images: dict[str, bytes] = {}
        for line in (folder / "images.tsv").read_text().splitlines()[1:]:
            number, file, size = line.split("\t")[:3]
            real = folder / "images" / number / file
            self.images[file] = real.read_bytes() if real.exists() else _filled(file, int(size))

    def record(self, number: int) -> bytes:
        record = dict(self.records[number])
        record["img"] = self.url + urlsplit(str(record["img"]).replace("?", "%3F")).path
        return json.dumps(record).encode()

    def reply(self, path: str) -> Reply:
        match path.split("/"):
            case ["", "info.0.json"]:
                return Reply(200, self.record(self.latest), "application/json")
            case ["", number, "info.0.json"] if number.isdigit() and int(number) in self.records:
                return Reply(200, self.record(int(number)), "application/json")
            case ["", "archive", ""]:
                return Reply(200, self.archive, "text/html")
            case ["", "comics", file] if file in self.images:
                image = self.images[file]
                return Reply(200, image, f"image/{image_type(image)}")
        return Reply(404, b"not found", "text/html")


def _filled(file: str, size: int) -> bytes:
    # Every hundredth is as large as it really is; the rest are small, to save time.
    size = size if size % 100 == 0 else min(size, 300)
    begin, end = FILLED[file.rpartition(".")[2]]
    seed = hashlib.sha256(file.encode()).hexdigest().encode()
    filling = seed * (size // len(seed) + 1)
    return begin + filling[: size - len(begin) - len(end)] + end


@pytest.fixture(scope="module")
def real_site(real: Records, real_folder: Path) -> Iterator[RealSite]:
    site = RealSite(real, real_folder)
    with site:
        yield site


@pytest.fixture
def mounted(mount: Callable[..., Any], real_site: RealSite) -> Any:
    real_site.forget()
    return mount(real_site)


@pytest.mark.timeout(300)
def test_every_record(mounted: Any, real: Records, real_site: RealSite) -> None:
    path = mounted.path
    folders = {int(name[:4]): name for name in os.listdir(path / "comics")}
    assert set(folders) == set(real)
    with_image = {n for n in real if not str(real[n]["img"]).endswith("/")}
    assert set(real) - with_image == {1608, 1663}

    entries = {e.name: e for e in os.scandir(path) if e.name.isdigit()}
    assert {int(name) for name in entries} == set(real)
    assert {int(name) for name, e in entries.items() if e.is_file(follow_symlinks=False)} == (
        with_image
    )
    asked = sum(real_site.requests.values())
    assert asked == 2

    by_title = {os.readlink(path / "by-title" / n): n for n in os.listdir(path / "by-title")}
    by_date = {
        str(link.readlink()): str(link.relative_to(path / "by-date"))
        for link in (path / "by-date").glob("*/*/*")
    }
    assert len(by_title) == len(by_date) == len(real)

    def check(number: int) -> None:
        record, folder = real[number], path / "comics" / folders[number]
        date = datetime.date(int(record["year"]), int(record["month"]), int(record["day"]))
        title = clean_title(record["title"])
        assert folders[number] == f"{number:04d}-{slug(title)}".rstrip("-")
        source = transcript_source(number)
        told = real[source]["transcript"] if source and source in real else ""
        alt = record["alt"]
        expected = {
            "title.txt": f"{title}\n",
            "alt.txt": f"{alt}\n" if alt else "",
            "transcript.txt": repair_transcript(told),
            "info.json": real_site.record(number).decode(),
            "link.url": f"[InternetShortcut]\nURL={real_site.url}/{number}/\n",
        }
        for file, text in expected.items():
            data = (folder / file).read_bytes()
            assert data.decode().removesuffix("\n") == text.removesuffix("\n"), (number, file)
            assert (folder / file).stat().st_size == len(data)
            assert (folder / file).stat().st_mtime_ns == date_ns(date)
        names = set(os.listdir(folder)) - set(expected) - {"page.html"}
        if number in with_image:
            file = str(record["img"]).rpartition("/")[2]
            image = real_site.images[file.replace("?", "%3F")]
            data = (path / str(number)).read_bytes()
            assert data == image
            suffix = image_type(image)
            assert names == {f"image.{suffix}"}
            assert (folder / f"image.{suffix}").read_bytes() == image
            for place in (path / str(number), folder / f"image.{suffix}"):
                found = place.stat()
                assert found.st_size == len(image)
                assert found.st_mtime_ns == date_ns(date)
            place = path / str(number)
            xattrs = {name: os.getxattr(place, name).decode() for name in os.listxattr(place)}
            mime = f"image/{suffix.replace('jpg', 'jpeg')}"
            assert xattrs == {
                "user.xkcd.num": str(number), "user.xkcd.title": title, "user.xkcd.alt": alt,
                "user.xkcd.date": date.isoformat(), "user.xkcd.url": f"{real_site.url}/{number}/",
                "user.mime_type": mime,
            }  # fmt: skip
        else:
            assert names == set()
            assert os.readlink(path / str(number)) == f"comics/{folders[number]}"
        assert by_title[f"../comics/{folders[number]}"].startswith(safe_name(title))
        day = f"{date:%Y/%m/%d}-{folders[number]}"
        assert by_date[f"../../../comics/{folders[number]}"] == day

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(check, real):
            pass
    # One request for each record and each image, whoever asked for them.
    images = {str(real[n]["img"]) for n in with_image}
    assert sum(real_site.requests.values()) == asked + len(real) - 1 + len(images)
    assert real_site.most_at_once <= 4

    # And all of them are found by words, once they are known.
    found = os.listdir(path / "search" / "import antigravity")
    assert [name[-len(folders[353]) :] for name in found] == [folders[353]]

    # Programs that read everything find no fault either; the site is not asked.
    asked = sum(real_site.requests.values())
    for command in (
        "tar cf - mnt | wc -c",
        "grep -rl antigravity mnt | wc -l",
        "rsync -a mnt/ out",
    ):
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=path.parent,
                              capture_output=True, timeout=100)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
    assert sum(real_site.requests.values()) == asked


def test_hints_are_exact_where_the_facts_are_right(mounted: Any, real_site: RealSite) -> None:
    path = mounted.path
    for number in (1, 24, 353):
        if (path / str(number)).stat().st_size != len(mounted.read(str(number))):
            pytest.fail(f"{number}: the size in the table of facts is wrong")
    assert (path / "2").lstat().st_size > 0
    assert stat.S_ISLNK((path / "1608").lstat().st_mode)


def test_whole_mount_listed_and_searched(
    mounted: Any, real: Records, real_site: RealSite
) -> None:
    path = mounted.path
    found = subprocess.run(["find", path, "-ls"], capture_output=True, timeout=60, check=True)
    assert not found.stderr
    assert len(found.stdout.splitlines()) > 11 * len(real)
    du = subprocess.run(["du", "-s", path], capture_output=True, timeout=60, check=True)
    assert not du.stderr
    assert sum(real_site.requests.values()) == 2
