"""The collection: comics from the cache or the network, the same to the caller."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from xkcdfs.client import Validators
from xkcdfs.collection import Collection
from xkcdfs.demo import Site, faults
from xkcdfs.demo.comics import LATEST, MISSING
from xkcdfs.errors import FetchError

Collect = Callable[..., Collection]


def test_one_request_gives_the_index(site: Site, collect: Collect) -> None:
    comics = collect(site)
    assert comics.latest() == LATEST
    assert comics.numbers() == [n for n in range(1, LATEST + 1) if n != MISSING]
    assert not comics.exists(MISSING)
    assert not comics.exists(0)
    assert not comics.exists(LATEST + 1)
    assert comics.index()[259].title == "Caf\u00e9 Arithmetic"
    assert comics.index()[1].date == site.comic(1).date
    assert site.requests == {"/info.0.json": 1, "/archive/": 1}


@pytest.mark.parametrize("number", [1, 61, 859, 961, 1037, 1137, 1446, 1687, 1700])
def test_a_comic(site: Site, collect: Collect, number: int) -> None:
    comics = collect(site)
    record = comics.record(number)
    assert record.alt == site.comic(number).alt
    assert record.title == comics.index()[number].title
    assert record.mtime_ns == comics.index()[number].mtime_ns
    image = comics.image(number)
    assert image.data == site.image(number)
    assert image.path
    assert image.path.read_bytes() == image.data
    assert image.path.suffix == record.image_suffix
    before = sum(site.requests.values())
    assert comics.record(number) == record
    assert comics.image(number) == image
    assert sum(site.requests.values()) == before


def test_transcripts(site: Site, collect: Collect) -> None:
    comics = collect(site)
    for number in (1, 124, 704, 1609, 1620, 1625, 1663, 1666, 1674, 1677, 1690):
        assert comics.transcript(number) == site.comic(number).transcript


def test_transcripts_of_a_site_that_is_not_so_long(collect: Collect) -> None:
    with Site(latest=1610) as site:
        assert collect(site).transcript(1610) == ""


def test_comics_without_an_image(site: Site, collect: Collect) -> None:
    comics = collect(site)
    for number in (1204, 1608):
        for image in (comics.image, comics.image_2x):
            with pytest.raises(FetchError) as caught:
                image(number)
            assert caught.value.missing
            assert comics.url(number) in str(caught.value)


def test_double_resolution(site: Site, collect: Collect) -> None:
    comics = collect(site)
    assert comics.image_2x(1700).data == site.image(1700, 2)
    for _ in range(2):
        with pytest.raises(FetchError) as caught:
            comics.image_2x(7)
        assert caught.value.missing
    assert site.requests[f"/comics/{site.comic(7).file_2x}"] == 1


def test_no_such_comic(site: Site, collect: Collect) -> None:
    comics = collect(site)
    for number in (MISSING, LATEST + 1):
        with pytest.raises(FetchError) as caught:
            comics.record(number)
        assert caught.value.missing


def test_offline_serves_what_is_there(own_site: Site, collect: Collect) -> None:
    online = collect(own_site)
    online.index()
    image, record = online.image(5), online.record(5)
    own_site.stop()
    offline = collect(own_site, offline=True, latest=0, record=0, image=0)
    assert offline.index() == online.index()
    assert offline.latest() == LATEST
    assert offline.record(5) == record
    assert offline.image(5) == image
    with pytest.raises(FetchError) as caught:
        offline.image(6)
    assert caught.value.errno == errno.ENETUNREACH


def test_what_is_old_is_served_while_the_site_is_down(own_site: Site, collect: Collect) -> None:
    fresh = collect(own_site)
    index, image, record = fresh.index(), fresh.image(5), fresh.record(5)
    own_site.stop()
    comics = collect(own_site, latest=0, record=0, image=0)
    assert comics.index() == index
    assert comics.record(5) == record
    assert comics.image(5) == image
    with pytest.raises(FetchError):
        comics.image(6)


def test_a_failed_look_is_not_repeated_at_once(site: Site, collect: Collect) -> None:
    image = collect(site).image(5)
    comics = collect(site, image=0)
    site.forget()
    site.fail("*", faults.status(500))
    for _ in range(5):
        assert comics.image(5) == image
    assert site.requests[f"/comics/{site.comic(5).file}"] == comics._client.settings.attempts


def test_what_has_not_changed_is_not_sent_again(site: Site, collect: Collect) -> None:
    old = collect(site)
    old.index()
    image, record = old.image(5), old.record(5)
    site.forget()
    comics = collect(site, latest=0, record=0, image=0, failed=0)
    for _ in range(3):
        comics.index()
        assert comics.record(5) == record
        assert comics.image(5) == image
    # The archive page is asked for again only when there is a new comic.
    assert site.requests.pop("/archive/") == site.not_modified.pop("/archive/") == 1
    assert len(site.requests) == 3
    assert site.not_modified == site.requests


def test_edits_are_seen(own_site: Site, collect: Collect) -> None:
    comics = collect(own_site, record=0, failed=0)
    assert comics.record(5).title != "Edited"
    own_site.retitle(5, "Edited")
    assert comics.record(5).title == "Edited"


def test_new_comics_appear(own_site: Site, collect: Collect) -> None:
    comics = collect(own_site, latest=0, failed=0)
    assert comics.latest() == LATEST
    assert not comics.exists(LATEST + 1)
    with pytest.raises(FetchError):
        comics.record(LATEST + 1)
    number = own_site.add()
    assert comics.latest() == number
    assert comics.record(number).alt == own_site.comic(number).alt
    assert comics.exists(number)
    assert comics.image(number).data == own_site.image(number)


def test_an_archive_page_that_lags(own_site: Site, collect: Collect) -> None:
    old = own_site.reply("/archive/")
    own_site.fail("/archive/", faults.body(old.body, "text/html"))
    number = own_site.add()
    comics = collect(own_site)
    assert list(comics.index())[-2:] == [number - 1, number]
    assert comics.index()[number].title == comics.record(number).title


def test_the_clock_moves_on(collect: Collect) -> None:
    now = 0.0
    with Site(clock=lambda: now) as site:
        comics = collect(site, changing_image=0)
        midnight = comics.image(1335)
        now = 6 * 3600.0
        assert comics.image(1335).data == site.image(1335) != midnight.data


@pytest.mark.parametrize("what", ["image", "record", "archive"])
def test_damage_in_the_cache_is_mended(site: Site, collect: Collect, what: str) -> None:
    first = collect(site)
    index, image, record = first.index(), first.image(5), first.record(5)
    assert image.path
    for path in image.path.parent.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    site.forget()
    comics = collect(site)
    assert comics.index() == index
    assert comics.record(5) == record
    assert comics.image(5) == image
    assert set(site.requests.values()) == {1}


def test_what_the_cache_holds_is_checked_too(site: Site, collect: Collect) -> None:
    comics = collect(site)
    url = f"{site.url}/5/info.0.json"
    comics._cache.put(url, b'{"num": 6}', Validators())
    assert comics.record(5).number == 5


def test_many_threads(site: Site, collect: Collect) -> None:
    comics = collect(site)
    barrier = threading.Barrier(16)

    def look(_: int) -> tuple[int, bytes, int]:
        barrier.wait()
        return comics.latest(), comics.image(5).data, len(comics.index())

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(look, range(16))) == {(LATEST, site.image(5), LATEST - 1)}
    assert set(site.requests.values()) == {1}


def test_sync(own_site: Site, collect: Collect) -> None:
    comics = collect(own_site)
    seen: list[tuple[int, int, int]] = []
    wanted = [*range(1, 12), MISSING, 1608]
    failed = comics.sync(wanted, lambda *told: seen.append(told))
    assert list(failed) == [MISSING]
    assert failed[MISSING].missing
    assert [done for done, _, _ in seen] == list(range(1, len(wanted) + 1))
    assert {total for _, total, _ in seen} == {len(wanted)}
    assert sorted(number for _, _, number in seen) == sorted(wanted)
    assert own_site.most_at_once <= 4
    own_site.forget()
    offline = collect(own_site, offline=True)
    for number in range(1, 12):
        assert offline.image(number).data == own_site.image(number)
    assert comics.sync(range(1, 12)) == {}
    assert not own_site.requests


def test_sync_of_records_alone(site: Site, collect: Collect) -> None:
    assert collect(site).sync([3, 4], images=False) == {}
    assert set(site.requests) == {"/3/info.0.json", "/4/info.0.json"}


def test_sync_goes_on_after_failures(site: Site, collect: Collect) -> None:
    site.fail(f"/comics/{site.comic(2).file}", faults.html_instead)
    assert list(collect(site).sync(range(1, 8))) == [2]


def test_sync_can_be_stopped(site: Site, collect: Collect) -> None:
    def stop(done: int, total: int, number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(site).sync(range(1, 200), stop)
    assert len(site.requests) < 200


def test_nothing_works_without_cache_or_site(own_site: Site, collect: Collect) -> None:
    own_site.stop()
    comics = collect(own_site)
    for call in (comics.latest, comics.index, comics.numbers):
        with pytest.raises(FetchError):
            call()
