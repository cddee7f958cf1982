"""The comics as files, on real mounts of the demo site."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from xkcdfs.demo import Site, faults
from xkcdfs.demo.comics import MISSING
from xkcdfs.records import date_ns
from xkcdfs.shelf import UNKNOWN_SIZE

pytestmark = pytest.mark.mount

Mount = Callable[..., Any]


def xattrs(path: Path) -> dict[str, str]:
    return {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}


def errno_of(path: Path) -> int | None:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


def test_the_root_lists_the_comics_that_exist(mount: Mount, site: Site) -> None:
    names = os.listdir(mount(site).path)
    numbers = {int(name) for name in names if name.isdigit()}
    assert numbers == set(range(1, site.latest + 1)) - {MISSING}
    assert {name for name in names if not name.isdigit()} == {
        ".xkcdfs", "by-date", "by-title", "comics", "index.html", "index.tsv", "latest", "random",
        "search",
    }  # fmt: skip


def test_a_number_is_the_image(mount: Mount, site: Site) -> None:
    path = mount(site).path / "353"
    with path.open("rb") as file:
        assert file.read() == site.image(353)
        assert os.fstat(file.fileno()).st_size == len(site.image(353))
    found = path.stat()
    assert found.st_size == len(site.image(353))
    assert found.st_mtime_ns == date_ns(site.comic(353).date)
    assert stat.S_IMODE(found.st_mode) == 0o444


def test_a_size_that_is_asked_for_alone_is_exact(mount: Mount, site: Site) -> None:
    path = mount(site).path
    assert (path / "353").stat().st_size == len(site.image(353))
    found = subprocess.run(["stat", "-c", "%s", path / "354"], capture_output=True, check=True)
    assert int(found.stdout) == len(site.image(354))
    folder = next((path / "comics").glob("0355-*"))
    assert (folder / "alt.txt").stat().st_size == len(site.comic(355).alt.encode()) + 1
    # But not of many, and not for those who go through a directory.
    site.forget()
    subprocess.run(["ls", "-l", path], capture_output=True, check=True)
    subprocess.run(["du", "-s", path], capture_output=True, check=True)
    assert site.requests.total() == 0
    time.sleep(1.1)  # what the listing said is believed for a moment
    assert (path / "999").stat().st_size == len(site.image(999))
    time.sleep(1.1)
    command = "ls -ld mnt/1*"
    subprocess.run(["bash", "-c", command], cwd=path.parent, capture_output=True, check=True)
    assert site.requests.total() <= 2 * 8


@pytest.mark.parametrize(
    "name",
    ["404", "0", "-1", "1701", "99999999999999999999", "007", "7.png", "x", ".Trash", ".Trash-0",
     ".hidden", "autorun.inf", ".DS_Store", ".git", "comics/0404", "comics/0007", "comics/.git",
     "comics/.DS_Store", "by-title/7", "by-date/1999", "by-date/.git", "search/.hidden",
     "search/nobody-wrote-this", ".xkcdfs/x"],
)  # fmt: skip
def test_what_is_no_comic_does_not_exist(mount: Mount, site: Site, name: str) -> None:
    path = mount(site).path
    os.listdir(path)
    before = site.requests.total()
    assert errno_of(path / name) == errno.ENOENT
    assert site.requests.total() == before


def test_a_second_read_makes_no_request(mount: Mount, site: Site) -> None:
    mounted = mount(site)
    mounted.read("353")
    site.forget()
    assert mounted.read("353") == site.image(353)
    assert mounted.read("comics/0353-my-approximate-ladder/image.png") == site.image(353)
    mounted = mount(site)  # a new process would find the same cache
    assert mounted.read("353") == site.image(353)
    assert site.requests == Counter()


def test_a_listing_does_not_spoil_a_size(mount: Mount, site: Site) -> None:
    """Some viewers believe what stat(2) said before they opened the file."""
    path = mount(site).path
    for file in ("353", "comics/0354-handmade-algorithm/image.png"):
        listed = subprocess.run(["ls", "-l", (path / file).parent], capture_output=True, text=True, timeout=60)
        assert " 4096 " in listed.stdout
        number = int(file[-3:]) if file.isdigit() else 354
        assert (path / file).stat().st_size == len(site.image(number))


def test_new_comics_appear(mount: Mount, own_site: Site) -> None:
    path = mount(own_site, life=0.1).path
    newest = own_site.latest
    assert os.readlink(path / "latest") == str(newest)
    newest = own_site.add()
    time.sleep(0.15)
    assert (path / ".xkcdfs/refresh").read_text() == f"1 new; the latest is {newest}\n"
    assert os.readlink(path / "latest") == str(newest)
    assert (path / "latest").read_bytes() == own_site.image(newest)
    assert str(newest) in os.listdir(path)
    assert (path / ".xkcdfs/refresh").read_text() == f"0 new; the latest is {newest}\n"
    own_site.stop()
    said = (path / ".xkcdfs/refresh").read_text()
    assert said.startswith(f"in vain: {own_site.url}/info.0.json: no connection") and said.count("\n") == 1


def test_many_readers_of_one_comic_make_one_request(mount: Mount, site: Site) -> None:
    path = mount(site).path
    os.listdir(path)
    site.fail(f"/comics/{site.comic(353).file}", faults.slow_body(0.02, 2000))
    with ThreadPoolExecutor(64) as pool:
        read = list(pool.map(lambda _: (path / "353").read_bytes(), range(64)))
    assert set(read) == {site.image(353)}
    assert site.requests[f"/comics/{site.comic(353).file}"] == 1
    assert site.requests["/353/info.0.json"] == 1


def test_known_files_are_read_while_downloads_hang(mount: Mount, site: Site) -> None:
    mounted = mount(site, read_timeout=5)
    mounted.read("7")
    os.listdir(mounted.path)
    for number in range(20, 90):
        site.fail(f"/{number}/info.0.json", faults.hang(4))
    readers = [
        threading.Thread(target=errno_of, args=(mounted.path / str(number),), daemon=True)
        for number in range(20, 90)
    ]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 10
    while site.requests.total() < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(50):
        assert mounted.read("7") == site.image(7)
    assert any(reader.is_alive() for reader in readers)
    site.stopping.set()
    for reader in readers:
        reader.join(30)
    site.stopping.clear()


def test_a_folder_has_everything(mount: Mount, site: Site) -> None:
    path = mount(site).path / "comics" / "0353-my-approximate-ladder"
    comic = site.comic(353)
    assert sorted(os.listdir(path)) == [
        "alt.txt", "image.png", "info.json", "link.url", "page.html", "title.txt", "transcript.txt",
    ]  # fmt: skip
    assert (path / "title.txt").stat().st_size == len(comic.title) + 1
    assert (path / "title.txt").read_text() == comic.title + "\n"
    assert (path / "alt.txt").read_text() == comic.alt + "\n"
    assert (path / "transcript.txt").read_text() == comic.transcript + "\n"
    assert (path / "info.json").read_bytes() == comic.record_json(site.url)
    assert f"URL={site.url}/353/" in (path / "link.url").read_text()
    assert "image.png" in (path / "page.html").read_text()
    for file in path.iterdir():
        assert file.stat().st_mtime_ns == date_ns(comic.date)
        assert len(file.read_bytes()) == file.stat().st_size


def test_what_one_file_teaches_is_known_of_the_others(mount: Mount, site: Site) -> None:
    path = mount(site).path
    folder = path / "comics" / "0007-cat-asleep-sketch-on-the-back-of-a-bill"
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    assert sizes["image.png"] == sizes["alt.txt"] == UNKNOWN_SIZE  # a guess, the name too
    assert (path / "7").read_bytes() == site.image(7)
    assert (folder / "image.jpg").stat().st_size == len(site.image(7))
    assert (folder / "alt.txt").stat().st_size == len(site.comic(7).alt.encode()) + 1
    assert "image.jpg" in os.listdir(folder)
    assert "image.png" not in os.listdir(folder)


def test_the_image_in_double_resolution_is_offered(mount: Mount, site: Site) -> None:
    path = mount(site).path / "comics"
    folder = next(path.glob("1500-*"))
    assert (folder / "image_2x.png").read_bytes() == site.image(1500, 2)
    assert (folder / "image_2x.png").stat().st_size == len(site.image(1500, 2))
    assert errno_of(next(path.glob("0353-*")) / "image_2x.png") == errno.ENOENT


def test_a_comic_without_an_image_becomes_a_link_to_its_folder(mount: Mount, site: Site) -> None:
    path = mount(site).path
    folder = next((path / "comics").glob("1608-*"))
    entries = {entry.name: entry.is_file(follow_symlinks=False) for entry in os.scandir(path)}
    assert entries["1608"]  # a guess
    assert errno_of(folder / "image.png") == errno.ENOENT
    assert os.readlink(path / "1608") == f"comics/{folder.name}"
    assert "image.png" not in os.listdir(folder)
    assert sorted(os.listdir(path / "1608")) == sorted(os.listdir(folder))
    assert "no image" in (folder / "page.html").read_text()
    # Opened by its number: the name leads on to the folder while it is being opened.
    assert errno_of(path / "1204") == errno.EISDIR
    assert (path / "1204").is_symlink()


@pytest.mark.parametrize(
    ("number", "folder", "title"),
    [
        (60, "0060-leap-second", "Leap Second"),
        (1480, "1480-leap-second", "Leap Second (1480)"),
        (607, "0607-2077", "2077"),
        (859, "0859", "("),
        (934, "0934-cat-dog", "Cat-Dog"),
        (259, "0259-cafe-arithmetic", "Café Arithmetic"),
        (472, "0472-lawn-of-the-year", "Lawn of the Year"),
        (1137, "1137-sdrawkcab", "Sdrawkcab"),
        (1665, "1665-con", "_CON"),
        (1685, "1685-rc-file-format", "_RC File Format"),
        (1687, "1687-planet-scale-soup", "(Planet)-Scale Soup"),
    ],
)
def test_odd_titles_have_safe_names(
    mount: Mount, site: Site, number: int, folder: str, title: str
) -> None:
    path = mount(site).path
    date = site.comic(number).date
    day = f"by-date/{date:%Y/%m/%d}-{folder}"
    for link in (f"by-title/{title}", day):
        assert (path / link).is_symlink()
        assert os.path.realpath(path / link) == str(path / "comics" / folder)
        assert Path(link).name in os.listdir((path / link).parent)
    assert (path / "comics" / folder / "title.txt").read_text() == (
        {472: "Lawn of the Year", 259: "Café Arithmetic"}.get(number, site.comic(number).title) + "\n"
    )


def test_transcripts_are_repaired_and_alt_texts_are_not(mount: Mount, site: Site) -> None:
    path = mount(site).path / "comics"

    def text(number: int, file: str) -> str:
        return str((next(path.glob(f"{number:04d}*")) / file).read_text().removesuffix("\n"))

    for number in (124, 704, 1625, 1638):  # mojibake; from 1611 on also in another record
        assert text(number, "transcript.txt") == site.comic(number).transcript
    assert text(1683, "alt.txt") == site.comic(1683).alt
    assert text(1193, "alt.txt") == ""
    assert text(1663, "transcript.txt") == ""


def test_links_to_the_latest_and_to_a_random_comic(mount: Mount, site: Site) -> None:
    path = mount(site).path
    assert os.readlink(path / "latest") == str(site.latest)
    seen = {os.readlink(path / "random") for _ in range(20)}
    assert len(seen) > 1
    assert seen <= set(os.listdir(path))


def test_searching_is_looking_a_directory_up(mount: Mount, site: Site) -> None:
    path = mount(site).path
    found = sorted(os.listdir(path / "search" / "lighthouse"))
    assert found
    assert all("lighthouse" in name for name in found)
    target = path / "search/lighthouse" / found[0]
    assert (target / "title.txt").read_text() == site.comic(int(found[0][3:7])).title + "\n"
    assert sorted(os.listdir(path / "search" / "LIGHTHOUSE")) == found
    # An alt text counts once its record is known.
    words = "search/nine out of ten pigeons"
    number = next(
        n for n in range(1, 400)
        if n != MISSING and site.comic(n).alt.startswith("Studies show that nine out of ten pigeons")
    )  # fmt: skip
    next((path / "comics").glob(f"{number:04d}-*")).joinpath("alt.txt").read_text()
    assert [name[2:6] for name in os.listdir(path / words)] == [f"{number:04d}"]


def test_extended_attributes(mount: Mount, site: Site) -> None:
    path = mount(site).path
    comic = site.comic(353)
    folder = path / "comics" / "0353-my-approximate-ladder"
    common = {
        "user.xkcd.num": "353",
        "user.xkcd.title": comic.title,
        "user.xkcd.alt": comic.alt,
        "user.xkcd.date": comic.date.isoformat(),
        "user.xkcd.url": f"{site.url}/353/",
    }
    assert xattrs(path / "353") == {**common, "user.mime_type": "image/png"}
    assert xattrs(path / "1") == {
        **xattrs(path / "1"), "user.mime_type": "image/jpeg", "user.xkcd.num": "1"
    }  # fmt: skip
    assert xattrs(folder) == common
    assert xattrs(folder / "alt.txt") == {**common, "user.mime_type": "text/plain"}
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(path / "353", "user.none")


def test_the_index_is_one_greppable_file(mount: Mount, site: Site) -> None:
    mounted = mount(site)
    mounted.read("353")
    lines = mounted.read("index.tsv").decode().splitlines()
    assert lines[0] == "number\tdate\ttitle\turl\tfolder\talt\ttranscript"
    assert len(lines) == site.latest  # a heading, and no 404
    rows = {row[0]: row for row in (line.split("\t") for line in lines)}
    comic = site.comic(353)
    assert rows["353"] == [
        "353", comic.date.isoformat(), comic.title, f"{site.url}/353/",
        "comics/0353-my-approximate-ladder", comic.alt, " ".join(comic.transcript.split()),
    ]  # fmt: skip
    assert rows["354"][5:] == ["", ""]
    assert (mounted.path / "index.tsv").stat().st_size == len("\n".join(lines).encode()) + 1


def test_nothing_can_be_changed(mount: Mount, site: Site) -> None:
    path = mount(site).path
    for change in (
        lambda: (path / "353").write_bytes(b""),
        lambda: (path / "new").write_bytes(b""),
        lambda: (path / "353").unlink(),
        lambda: (path / "dir").mkdir(),
        lambda: (path / "353").rename(path / "354"),
        lambda: os.truncate(path / "353", 0),
    ):
        with pytest.raises(OSError):
            change()
    assert (path / "353").read_bytes() == site.image(353)


def test_the_state_of_things(mount: Mount, site: Site) -> None:
    mounted = mount(site)
    mounted.read("353")
    status = mounted.read(".xkcdfs/status").decode()
    assert "1 records and 1 images" in status
    assert f"the latest is {site.latest}" in status
    stats = mounted.read(".xkcdfs/stats.json")
    assert b'"requests": 4' in stats
    assert b"Randall Munroe" in mounted.read(".xkcdfs/credits")


@pytest.mark.parametrize(("number", "kind"), [(353, "PNG"), (7, "JPEG"), (961, "GIF")])
def test_pictures_of_every_format_can_be_decoded(
    mount: Mount, site: Site, number: int, kind: str
) -> None:
    with Image.open(mount(site).path / str(number)) as picture:
        picture.load()
        assert picture.format == kind
        with Image.open(io.BytesIO(site.image(number))) as original:
            assert picture.size == original.size
            assert picture.tobytes() == original.tobytes()


def test_an_image_that_changes_is_asked_for_again(mount: Mount, tmp_path: Path) -> None:
    now = [0.0]
    with Site(clock=lambda: now[0]) as site:
        assert mount(site).read("1335") == site.image(1335)
        now[0] = 3 * 3600.0
        url = f"{site.url}/comics/{site.comic(1335).file}"
        mounted = mount(site)
        cache = mounted.shelf.collection._cache
        kept = cache.get(url)
        assert kept is not None
        # As if it had been fetched an hour ago.
        before, cache_time = time.time, time.time() - 3600
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("xkcdfs.cache.time.time", lambda: cache_time)
            cache.put(url, kept.body, kept.validators, ".png")
        assert before() > cache_time
        assert mounted.read("1335") == site.image(1335)


class TestPrograms:
    """Everyday programs on a mount of sixty comics."""

    @pytest.fixture
    def path(self, mount: Mount, small_site: Site) -> Path:
        return Path(mount(small_site).path)

    @pytest.fixture
    def run(self, path: Path, require: Callable[[str], str]) -> Callable[..., str]:
        def call(*command: str, status: int = 0) -> str:
            done = subprocess.run(
                [require(command[0]), *command[1:]],
                cwd=path.parent, capture_output=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == status, done.stderr
            assert not done.stderr
            return done.stdout.decode(errors="replace")

        return call

    def test_ls(self, run: Callable[..., str]) -> None:
        assert len(run("ls", "mnt").split()) == 60 + 8
        long = run("ls", "-l", "mnt/comics").splitlines()
        assert len(long) == 61
        assert all(line.startswith("dr-xr-xr-x") for line in long[1:])
        assert len(run("ls", "--color=always", "-F", "mnt").splitlines()) == 68

    def test_cat_cmp_cp(self, run: Callable[..., str], path: Path, small_site: Site) -> None:
        folder = os.listdir(path / "comics")[4]
        run("cp", "mnt/5", "copy")
        assert (path.parent / "copy").read_bytes() == small_site.image(5)
        run("cmp", "mnt/5", "copy")
        run("cp", "-a", f"mnt/comics/{folder}", "folder")
        assert sorted(os.listdir(path.parent / "folder")) == sorted(
            os.listdir(path / "comics" / folder)
        )
        assert run("wc", "-c", "mnt/6").split()[0] == str(len(small_site.image(6)))
        assert run("tail", "-c", "1", f"mnt/comics/{folder}/alt.txt") == "\n"

    def test_file(self, run: Callable[..., str]) -> None:
        assert "JPEG image data" in run("file", "mnt/10")

    def test_find_and_tree(self, run: Callable[..., str]) -> None:
        found = run("find", "mnt", "-type", "f", "-name", "alt.txt").splitlines()
        assert len(found) == 60
        assert len(run("find", "mnt", "-type", "l", "-xtype", "l").splitlines()) == 0
        assert len(run("tree", "-di", "--noreport", "mnt/comics").splitlines()) == 61

    def test_grep(self, run: Callable[..., str], small_site: Site) -> None:
        found = run("grep", "-rl", small_site.comic(9).alt[:40], "mnt/comics")
        assert "mnt/comics/0009-" in found

    def test_tar(self, run: Callable[..., str], path: Path, small_site: Site) -> None:
        run("tar", "cf", "all.tar", "mnt")
        run("tar", "xf", "all.tar", "--one-top-level=out")
        out = path.parent / "out" / "mnt"
        for number in range(1, 61):
            assert (out / str(number)).read_bytes() == small_site.image(number)
        assert (out / "by-title/Leap Second/title.txt").read_text() == "Leap Second\n"

    def test_rsync(self, run: Callable[..., str], path: Path, small_site: Site) -> None:
        for number in range(1, 61):
            (path / str(number)).read_bytes()  # from here on, no name of an image is a guess
        run("rsync", "-a", "mnt/", "out/")
        again = run("rsync", "-ain", "--exclude=random", "--exclude=/.xkcdfs", "--exclude=/index.*",
                    "mnt/", "out/")  # fmt: skip
        assert again == ""
        for number in range(1, 61):
            assert (path.parent / "out" / str(number)).read_bytes() == small_site.image(number)
