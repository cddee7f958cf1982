"""The disk cache: what it keeps, what it notices, what it survives."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xkcdfs import cache as cache_module
from xkcdfs.cache import Cache, Seal, default_directory
from xkcdfs.client import Validators

SITE = "https://comics.example"
URL = f"{SITE}/comics/a.png"
TAGGED = Validators('"tag"', "Mon, 02 Jan 2006 00:00:00 GMT")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", SITE)


def files(cache: Cache) -> list[str]:
    return sorted(os.listdir(cache.directory))


@pytest.mark.parametrize("suffix", ["", ".png"])
@pytest.mark.parametrize("body", [b"", b"x", b"\n\n{}\0\xff\n" * 1000])
def test_what_was_put_is_got(cache: Cache, tmp_path: Path, suffix: str, body: bytes) -> None:
    before = time.time()
    put = cache.put(URL, body, TAGGED, suffix)
    for found in (put, cache.get(URL), Cache(tmp_path / "cache", SITE).get(URL)):
        assert found is not None
        assert (found.url, found.body, found.validators) == (URL, body, TAGGED)
        assert before <= found.fetched <= time.time()
        assert (found.path is not None) == bool(suffix)
        if found.path:
            assert found.path.read_bytes() == body
            assert found.path.suffix == suffix
    assert cache.get(URL + "x") is None
    assert not [name for name in files(cache) if name.startswith("tmp-")]


def test_a_new_version_replaces_the_old_one(cache: Cache) -> None:
    old = cache.put(URL, b"old", TAGGED, ".png")
    assert old.path
    with old.path.open("rb") as reader:
        new = cache.put(URL, b"new!", Validators(), ".png")
        assert reader.read() == b"old"
    found = cache.get(URL)
    assert found == new
    assert found.validators == Validators()
    assert len(files(cache)) == 2


def test_renewed_is_fetched_now(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    put = cache.put(URL, b"x", TAGGED, ".png")
    monkeypatch.setattr(time, "time", lambda: put.fetched + 1000)
    cache.renew(put)
    found = cache.get(URL)
    assert found is not None
    assert found.fetched == put.fetched + 1000
    assert (found.body, found.validators, found.path) == (b"x", TAGGED, put.path)


def test_removed_is_gone(cache: Cache) -> None:
    cache.put(URL, b"x", TAGGED, ".png")
    cache.remove(URL)
    assert cache.get(URL) is None
    assert files(cache) == []
    cache.remove(URL)


def test_sites_do_not_mix(tmp_path: Path) -> None:
    sites = [SITE, "http://comics.example", "https://comics.example:8080", f"{SITE}/mirror"]
    caches = [Cache(tmp_path, site) for site in sites]
    for cache, site in zip(caches, sites, strict=True):
        cache.put(URL, site.encode(), Validators())
    for cache, site in zip(caches, sites, strict=True):
        found = cache.get(URL)
        assert found is not None
        assert found.body == site.encode()
    assert Cache(tmp_path, SITE + "/").directory == caches[0].directory


@pytest.mark.parametrize(
    "name",
    ["../../../../etc/passwd", "/etc/passwd", "a\0b", "..", ".", "", "a" * 5000, "\udcff\ud800",
     "\u202e", "%2e%2e%2f", "con", "a\nb"],
)  # fmt: skip
def test_no_name_leads_outside(tmp_path: Path, name: str) -> None:
    cache = Cache(tmp_path / "cache", "https://../../..//" + name)
    url = f"{SITE}/comics/{name}"
    cache.put(url, b"kept", Validators(), ".png")
    found = cache.get(url)
    assert found is not None
    assert found.body == b"kept"
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in made} == {cache.directory}
    assert cache.directory.parent == tmp_path / "cache"
    assert os.listdir(tmp_path) == ["cache"]


@pytest.mark.parametrize("suffix", ["/../x", ".", "png", ".p/g", ".PNG\0", "..png", ".toolong"])
def test_bad_suffixes_are_refused(cache: Cache, suffix: str) -> None:
    with pytest.raises(ValueError, match="suffix"):
        cache.put(URL, b"x", Validators(), suffix)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_symlink(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a bit flipped": flip,
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "grown": lambda path: os.truncate(path, path.stat().st_size + 1),
    "made huge": lambda path: os.truncate(path, 1 << 40),
    "overwritten": lambda path: path.write_bytes(b"\0" * 100),
    "deleted": Path.unlink,
    "a directory": to_directory,
    "a FIFO": to_fifo,
    "a symbolic link": to_symlink,
}


@pytest.mark.parametrize("which", ["entry", "file", "inline"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_noticed(cache: Cache, which: str, damage: Callable[[Path], Any]) -> None:
    put = cache.put(URL, b"precious" * 100, TAGGED, "" if which == "inline" else ".png")
    other = cache.put(URL + "2", b"other", TAGGED, ".png")
    assert other.path
    entry = next(path for path in cache.directory.iterdir()
                 if "-" not in path.name and path.name != other.path.name[:40])  # fmt: skip
    damage(put.path if which == "file" and put.path else entry)
    assert cache.get(URL) is None
    assert cache.get(URL + "2") == other
    again = cache.put(URL, b"precious" * 100, TAGGED, ".png")
    found = cache.get(URL)
    assert found is not None
    assert found.body == again.body


def test_an_entry_of_another_version_is_a_miss(cache: Cache, monkeypatch) -> None:
    monkeypatch.setattr(cache_module, "_FIELDS", (*cache_module._FIELDS, "added_later"))
    cache.put(URL, b"x", TAGGED)
    assert cache.get(URL) is None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SITE, limit=50_000)
    urls = [f"{SITE}/{n}" for n in range(9)]
    for n, url in enumerate(urls):
        cache.put(url, bytes(5000), TAGGED, ".png")
        key = cache._file_of(cache_module._key(url))[:40]
        os.utime(cache.directory / key, (n, n))
    assert cache.get(urls[0])
    for n in range(4):
        cache.put(f"{SITE}/more/{n}", bytes(5000), TAGGED, ".png")
    assert cache.get(urls[0])
    assert not cache.get(urls[1])
    assert cache.get(urls[-1])
    assert sum(path.stat().st_size for path in cache.directory.iterdir()) <= cache.limit


def test_reading_the_file_is_use_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SITE, limit=50_000)
    for n in range(9):
        put = cache.put(f"{SITE}/{n}", bytes(5000), TAGGED, ".png")
        assert put.path
        os.utime(cache.directory / put.path.name[:40], (n, n))
        # As when the kernel reads it; nobody has read the others.
        os.utime(put.path, (100, 1) if n == 0 else (1, 1))
    for n in range(4):
        cache.put(f"{SITE}/more/{n}", bytes(5000), TAGGED, ".png")
    assert cache.get(f"{SITE}/0")
    assert not cache.get(f"{SITE}/1")


@pytest.mark.parametrize("damage", [*DAMAGE.values(), os.utime], ids=[*DAMAGE, "touched"])
def test_a_seal_is_broken_by_all_who_touch_the_file(
    cache: Cache, damage: Callable[[Path], Any]
) -> None:
    cache.put(URL, b"precious" * 100, TAGGED, ".png")
    found = cache.get(URL)
    assert found is not None
    assert found.path
    assert found.seal
    descriptor = cache.open_sealed(found.seal)
    assert descriptor is not None
    with open(descriptor, "rb") as file:
        assert file.read() == found.body
    damage(found.path)
    assert cache.open_sealed(found.seal) is None


def test_a_seal_is_of_a_file_in_the_cache(cache: Cache, tmp_path: Path) -> None:
    put = cache.put(URL, b"x", TAGGED, ".png")
    assert put.path
    assert put.seal
    outside = tmp_path / put.path.name
    outside.write_bytes(b"x")
    st = outside.stat()
    for name in (f"../../{outside.name}", str(outside), ".", "", "a\0b"):
        assert cache.open_sealed(Seal(name, st.st_ino, st.st_size, st.st_ctime_ns)) is None
    assert cache.put(URL, b"x", TAGGED).seal is None


def test_one_document_larger_than_the_limit_is_served(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SITE, limit=1000)
    put = cache.put(URL, bytes(1000), TAGGED, ".png")
    assert put.path
    assert put.path.read_bytes() == put.body
    cache.put(URL + "2", bytes(500), TAGGED, ".png")
    assert sum(path.stat().st_size for path in cache.directory.iterdir()) <= 1000


def test_leftovers_are_removed_in_time(cache: Cache, tmp_path: Path) -> None:
    put = cache.put(URL, b"x", TAGGED, ".png")
    assert put.path
    orphan = "0" * 40 + "-0123456789abcdef.png"
    for name in ("tmp-1-2-3", orphan, "tmp-young", "not-ours"):
        (cache.directory / name).write_bytes(b"left")
    for name in ("tmp-1-2-3", orphan, "not-ours"):
        os.utime(cache.directory / name, (1, 1))
    again = Cache(tmp_path / "cache", SITE)
    again.put(URL + "2", b"x", TAGGED)
    assert {"tmp-1-2-3", orphan} & set(files(again)) == set()
    assert {"tmp-young", "not-ours", put.path.name} <= set(files(again))


def no_directory(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "cache"


def check_unusable(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "xkcdfs")
    for n in range(5):
        body = os.urandom(300_000)
        put = cache.put(f"{URL}{n}", body, TAGGED, ".png")
        assert put.path is None
        assert put.body == body
        assert cache.get(f"{URL}{n}") == put
    assert len(caplog.records) == 1
    assert str(cache.directory) in caplog.text


def test_where_nothing_can_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_unusable(Cache(no_directory(tmp_path), SITE), caplog)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_errors_of_the_disk(
    cache: Cache, monkeypatch, caplog: pytest.LogCaptureFixture, call: str, code: int
) -> None:
    old = cache.put(URL, b"old", TAGGED, ".png")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", fail)
        elif call == "replace":
            patch.setattr(Path, "replace", fail)
        else:
            patch.setattr(os, "open", fail)
        new = cache.put(URL, b"new", TAGGED, ".png")
        assert (new.body, new.path) == (b"new", None)
        assert cache.get(URL) == new
    assert len(caplog.records) == 1
    assert not [name for name in files(cache) if name.startswith("tmp-")]
    # What the disk had is older than what was lost: nobody may get it.
    cache.put(URL, b"newest", TAGGED, ".png")
    found = Cache(cache.directory.parent, SITE).get(URL)
    assert found is not None
    assert found.body == b"newest"
    assert found.path != old.path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``small_disk(options)`` mounts a tmpfs; skipped where this user may not."""
    mounted = []

    def mount(options: str) -> Path:
        where = tmp_path / "disk"
        where.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
        try:
            run = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"mount cannot be run: {error}")
        if run.returncode:
            pytest.skip(f"a tmpfs cannot be mounted: {run.stderr.strip()}")
        mounted.append(where)
        return where

    yield mount
    for where in mounted:
        subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk(small_disk, caplog: pytest.LogCaptureFixture) -> None:
    check_unusable(Cache(small_disk("size=256k"), SITE), caplog)


def test_a_read_only_disk(small_disk, caplog: pytest.LogCaptureFixture) -> None:
    disk = small_disk("size=4m")
    kept = Cache(disk, SITE).put(URL, b"kept", TAGGED, ".png")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    cache = Cache(disk, SITE)
    assert cache.get(URL) == kept
    check_unusable(cache, caplog)
    assert cache.put(URL, b"newer", TAGGED, ".png").path is None
    found = cache.get(URL)
    assert found is not None
    assert found.body == b"newer"


def test_memory_is_bounded(tmp_path: Path) -> None:
    cache = Cache(no_directory(tmp_path), SITE, memory_limit=10_000)
    for n in range(5):
        cache.put(f"{URL}{n}", bytes(3000), TAGGED)
    assert [bool(cache.get(f"{URL}{n}")) for n in range(5)] == [False, False, True, True, True]


HAMMER = """
import hashlib, sys
from pathlib import Path
from xkcdfs.cache import Cache
from xkcdfs.client import Validators
cache = Cache(Path(sys.argv[1]), "https://comics.example", limit=int(sys.argv[3]))
print("on", flush=True)
for round in range(int(sys.argv[2])):
    for n in range(6):
        url = f"https://comics.example/comics/{n}.png"
        body = b"%d %d " % (n, round) * 3000
        cache.put(url, body, Validators(), ".png" if n % 2 else "")
        found = cache.get(url)
        if found:
            head = found.body.split(b" ", 2)
            assert head[0] == b"%d" % n and found.body == b" ".join(head[:2]) + b" " \\
                + b"%s %s " % (head[0], head[1]) * 2999, found.body[:20]
            if found.path:
                try:
                    data = found.path.read_bytes()
                except FileNotFoundError:
                    continue
                assert data == found.body
"""


def hammer(directory: Path, rounds: int, limit: int = 1 << 30) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(directory), str(rounds), str(limit)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("limit", [1 << 30, 60_000])
def test_processes_share_it(tmp_path: Path, limit: int) -> None:
    processes = [hammer(tmp_path, 15, limit) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "on\n", "")


def test_it_survives_kill_9(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(5):
        process = hammer(tmp_path, 1_000_000)
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.02 + 0.013 * n)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        assert process.returncode == -signal.SIGKILL
        cache = Cache(tmp_path, SITE)
        for number in range(6):
            found = cache.get(f"{SITE}/comics/{number}.png")
            if found:
                head = found.body[: found.body.index(b" ", 2) + 1]
                assert found.body == head * 3000
                assert head.startswith(b"%d " % number)
    cache.put(URL, b"alive", TAGGED)
    assert cache.get(URL)


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "xkcdfs"
