"""The first pass of a mount over what an earlier one has checked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xkcdfs.client import Validators
from xkcdfs.demo import Site

pytestmark = pytest.mark.mount

Mount = Callable[..., Any]


def images(mounted: Any) -> dict[str, bytes]:
    """Every image, by the number that is its name."""
    entries = [e for e in os.scandir(mounted.path) if e.name.isdigit()]
    return {e.name: mounted.read(e.name) for e in entries if e.is_file(follow_symlinks=False)}


def asked(mounted: Any, operation: str) -> tuple[int, int]:
    """The requests of the kernel, and how many of them a handler had to answer."""
    counts = mounted.session.stats()["operations"][operation]
    return counts["requests"], counts["requests"] - counts["hits"]


@pytest.fixture
def known(mount: Mount, small_site: Site) -> dict[str, bytes]:
    """All images, after a mount that has read them."""
    found = images(mount(small_site))
    assert found == {name: small_site.image(int(name)) for name in found}
    assert len(found) > 50
    return found


def test_no_handler_is_called(
    mount: Mount, small_site: Site, known: dict[str, bytes]
) -> None:
    small_site.forget()
    mounted = mount(small_site)
    assert {name: mounted.read(name) for name in known} == known
    assert asked(mounted, "open") == (len(known), 0)
    assert asked(mounted, "lookup") == (len(known), 0)
    assert small_site.requests.total() == 0
    for name, data in known.items():
        assert (mounted.path / name).stat().st_size == len(data)
    # And the next one knows it too, although this one had nothing to check.
    mounted = mount(small_site, offline=True)
    assert {name: mounted.read(name) for name in known} == known
    assert asked(mounted, "open") == (len(known), 0)


def test_what_was_sync_ed_is_known(mount: Mount, small_site: Site) -> None:
    mounted = mount(small_site)
    collection = mounted.shelf.collection
    numbers = collection.numbers()[:10]
    assert not collection.sync(numbers)
    mounted = mount(small_site)
    for number in numbers:
        assert mounted.read(str(number)) == small_site.image(number)
    assert asked(mounted, "open") == (10, 0)


def test_only_what_was_touched_is_checked(
    mount: Mount, small_site: Site, tmp_path: Path, known: dict[str, bytes]
) -> None:
    file = next((tmp_path / "cache").rglob("*-*.jpg"))
    os.utime(file)
    for handled in (1, 0):
        mounted = mount(small_site)
        assert {name: mounted.read(name) for name in known} == known
        assert asked(mounted, "open") == (len(known), handled)


@pytest.mark.parametrize("first", [True, False], ids=["never opened", "opened before"])
def test_damage_under_a_mount_is_noticed(
    mount: Mount, small_site: Site, tmp_path: Path, known: dict[str, bytes], first: bool
) -> None:
    mounted = mount(small_site)
    if not first:
        assert mounted.read("5") == known["5"]
    file = mounted.shelf.collection.image(5).path
    small_site.forget()
    for damage in (lambda f: f.write(b"not this"), lambda f: f.truncate(50)):
        with open(file, "r+b") as opened:
            damage(opened)
        assert mounted.read("5") == known["5"]
    url = small_site.comic(5).file
    assert small_site.requests == {f"/comics/{url}": 2}


def test_a_copy_of_the_cache_is_checked_once(
    mount: Mount, small_site: Site, tmp_path: Path, known: dict[str, bytes]
) -> None:
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "copy").rename(tmp_path / "cache")
    small_site.forget()
    for handled in (len(known), 0):
        mounted = mount(small_site)
        assert {name: mounted.read(name) for name in known} == known
        assert asked(mounted, "open") == (len(known), handled)
    assert small_site.requests.total() == 0


def test_a_newer_version_is_shown(
    mount: Mount, small_site: Site, known: dict[str, bytes]
) -> None:
    mounted = mount(small_site)
    collection = mounted.shelf.collection
    url = collection.image(5).url
    collection._cache.put(url, small_site.image(6), Validators(), ".png")
    assert mount(small_site).read("5") == small_site.image(6)


def test_what_is_too_old_is_not_believed(
    collect: Callable[..., Any], site: Site
) -> None:
    collection = collect(site)
    collection.sync([352, 353])
    assert list(collection.checked_images()) == [352, 353]
    collection = collect(site, image=-1)
    collection.sync([352])
    assert list(collection.checked_images()) == [353]
    assert list(collect(site, offline=True).checked_images()) == [352, 353]


def test_an_image_that_changes_is_never_left_unasked(
    collect: Callable[..., Any], site: Site
) -> None:
    collection = collect(site)
    collection.sync([1335, 1336])
    assert list(collection.checked_images()) == [1336]


def test_few_descriptors(
    mount: Mount, small_site: Site, known: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xkcdfs.filesystem.resource.getrlimit", lambda _: (20, 20))
    mounted = mount(small_site)
    assert {name: mounted.read(name) for name in known} == known
    assert asked(mounted, "open") == (len(known), len(known) - 10)


@pytest.mark.parametrize(
    "table",
    ["", "[]", "{}", '{"5": 5}', '{"x": [["a", 1, 1, 1], 1]}', '{"5": [["a"], 1]}',
     '{"5": [["../../x", 1, 1, 1], 1e300]}', '{"5": [[5, 1, 1, 1], "later"]}', "\0"],
)  # fmt: skip
def test_a_table_that_is_none(
    mount: Mount, small_site: Site, known: dict[str, bytes], table: str
) -> None:
    collection = mount(small_site).shelf.collection
    collection._cache.put(collection._checked_url, table.encode(), Validators())
    mounted = mount(small_site)
    assert mounted.read("5") == known["5"]
    assert asked(mounted, "open") == (1, 1)
    mount(small_site)
    kept = collection._cache.get(collection._checked_url)
    assert kept is not None
    assert "5" in json.loads(kept.body)
