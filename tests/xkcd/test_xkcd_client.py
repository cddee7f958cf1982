"""The client against a site that misbehaves in every way there is."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from xkcdfs import __version__
from xkcdfs.client import Client, Kind, Settings, Validators, ends_like_image, image_type
from xkcdfs.demo import Site, faults
from xkcdfs.errors import FetchError
from xkcdfs.records import parse_record

LIMIT = 200_000
IMAGE = Kind("image/*", LIMIT, image_type, ends_like_image)
IMAGE_PATH = "/comics/raft_cropped_(1).jpg"
RECORD_PATH = "/1/info.0.json"


def record_kind(url: str) -> Kind[Any]:
    return Kind("application/json", LIMIT, lambda body: parse_record(body, url, 1), lambda _: True)


def fetch(client: Client, site: Site, path: str) -> bytes:
    """The body, asked for as what it should be."""
    kind = IMAGE if path == IMAGE_PATH else record_kind(site.url + path)
    answer = client.fetch(site.url + path, kind)
    assert answer is not None
    return answer.body


# fault, the paths it spoils, errno, a part of the cause, whether it is tried again
BAD: dict[str, tuple[faults.Fault, tuple[str, ...], int, str, bool]] = {
    "reset": (faults.reset, (IMAGE_PATH, RECORD_PATH), errno.EIO, "connection lost", True),
    "hangs": (faults.hang(30), (IMAGE_PATH,), errno.ETIMEDOUT, "no answer in time", True),
    "endless headers": (faults.slow_headers(0.05), (IMAGE_PATH,), errno.ETIMEDOUT,
                        "no answer in time", True),
    "slow body": (faults.slow_body(0.1), (IMAGE_PATH,), errno.ETIMEDOUT, "not complete", True),
    "stops": (faults.slow_body(30, 50), (IMAGE_PATH, RECORD_PATH), errno.ETIMEDOUT, "in time",
              True),
    "truncated": (faults.truncated, (IMAGE_PATH, RECORD_PATH), errno.EIO, "cut off", True),
    "no length, short": (faults.without_length(0.5), (IMAGE_PATH,), errno.EIO, "cut off", True),
    "no length, short JSON": (faults.without_length(0.5), (RECORD_PATH,), errno.EIO, "not JSON",
                              True),
    "no length, empty": (faults.without_length(0), (IMAGE_PATH, RECORD_PATH), errno.EIO, "", True),
    "chunks, short": (faults.chunked(0.5), (IMAGE_PATH, RECORD_PATH), errno.EIO, "cut off", True),
    "empty": (faults.body(b""), (IMAGE_PATH, RECORD_PATH), errno.EIO, "wrong answer", True),
    "garbled gzip": (faults.garbled_gzip, (IMAGE_PATH, RECORD_PATH), errno.EIO, "compressed",
                     True),
    "HTML": (faults.html_instead, (IMAGE_PATH, RECORD_PATH), errno.EIO, "wrong answer", True),
    "wrong type": (faults.body(b"%PDF-1.4 ..."), (IMAGE_PATH, RECORD_PATH), errno.EIO,
                   "wrong answer", True),
    "no JSON": (faults.body(b'{"num": 1,'), (RECORD_PATH,), errno.EIO, "JSON", True),
    "absurd number": (faults.body(b'{"num": 1e400}'), (RECORD_PATH,), errno.EIO, "'num'", True),
    "another number": (faults.body(b'{"num": 2}'), (RECORD_PATH,), errno.EIO, "'num' is 2", True),
    "endless": (faults.endless, (IMAGE_PATH, RECORD_PATH), errno.EFBIG, "larger than", False),
    "huge": (faults.huge(), (IMAGE_PATH, RECORD_PATH), errno.EFBIG, "larger than", False),
    "400": (faults.status(400), (RECORD_PATH,), errno.EIO, "400", False),
    "403": (faults.status(403), (IMAGE_PATH, RECORD_PATH), errno.EACCES, "403", False),
    "404": (faults.status(404), (IMAGE_PATH, RECORD_PATH), errno.ENOENT, "404", False),
    "410": (faults.status(410), (IMAGE_PATH,), errno.ENOENT, "410", False),
    "429": (faults.status(429), (IMAGE_PATH,), errno.EBUSY, "429", True),
    "429, soon": (faults.status(429, Retry_After="0"), (IMAGE_PATH,), errno.EBUSY, "429", True),
    "429, tomorrow": (faults.status(429, Retry_After="86400"), (IMAGE_PATH,), errno.EBUSY,
                      "in 86400 s", False),
    "500": (faults.status(500), (IMAGE_PATH, RECORD_PATH), errno.EIO, "500", True),
    "503": (faults.status(503), (IMAGE_PATH,), errno.EIO, "503", True),
    "503, in 2099": (faults.status(503, Retry_After="Wed, 21 Oct 2099 07:28:00 GMT"),
                     (IMAGE_PATH,), errno.EIO, "503", False),
    "304 unasked": (faults.status(304), (IMAGE_PATH,), errno.EIO, "304", False),
    "206": (faults.status(206), (IMAGE_PATH,), errno.EIO, "206", False),
    "redirect to itself": (faults.redirect(IMAGE_PATH), (IMAGE_PATH,), errno.EIO, "redirects",
                           False),
    "redirect to a file": (faults.redirect("file:///etc/passwd"), (IMAGE_PATH,), errno.EIO,
                           "file:///etc", False),
    "redirect to nowhere": (faults.redirect("http://[::1"), (IMAGE_PATH,), errno.EIO, "redirect",
                            False),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, path", [(name, path) for name, case in BAD.items() for path in case[1]]
)
def test_misbehaviour(
    site: Site,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    name: str,
    path: str,
    settings: Settings,
) -> None:
    fault, _, code, cause, retried = BAD[name]
    site.fail(path, fault)
    caplog.set_level(logging.WARNING, "xkcdfs")
    with pytest.raises(FetchError) as caught:
        fetch(client, site, path)
    assert (caught.value.errno, caught.value.url) == (code, site.url + path)
    assert cause in caught.value.cause
    assert str(caught.value) == f"{site.url}{path}: {caught.value.cause}"
    if "redirect to itself" not in name:
        assert site.requests[path] == (settings.attempts if retried else 1)
    # What is missing is no trouble; all else is said once.
    assert len(caplog.records) == (code != errno.ENOENT)


@pytest.mark.parametrize("name", [name for name, case in BAD.items() if case[4]])
def test_it_heals(site: Site, client: Client, caplog: pytest.LogCaptureFixture, name: str) -> None:
    fault, paths, *_ = BAD[name]
    good = fetch(client, site, paths[0])
    site.fail(paths[0], fault, times=1)
    assert fetch(client, site, paths[0]) == good
    assert not caplog.records


@pytest.mark.parametrize(
    "fault",
    [faults.gzipped, faults.chunked(), faults.without_length(), faults.slow_body(0.001, 2000)],
    ids=["gzip", "chunks", "no length", "in pieces"],
)
@pytest.mark.parametrize("path", [IMAGE_PATH, RECORD_PATH])
def test_unusual_answers_are_whole(
    site: Site, client: Client, fault: faults.Fault, path: str
) -> None:
    site.fail(path, fault)
    assert fetch(client, site, path) == site.reply(path).body
    assert site.requests[path] == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Site, client: Client, code: int) -> None:
    site.fail(RECORD_PATH, faults.redirect("../2/../1/info.0.json?there", code))
    site.fail("/1/info.0.json?there", faults.body(site.reply(RECORD_PATH).body))
    assert fetch(client, site, RECORD_PATH) == site.reply(RECORD_PATH).body


@pytest.mark.parametrize("number", [1, 859, 1446])
def test_image_urls_are_not_encoded_twice(site: Site, client: Client, number: int) -> None:
    path = f"/comics/{site.comic(number).file}"
    answer = client.fetch(site.url + path, IMAGE)
    assert answer is not None
    assert answer.body == site.image(number)
    assert list(site.requests) == [path]


def test_validators(site: Site, client: Client) -> None:
    url = site.url + IMAGE_PATH
    first = client.fetch(url, IMAGE)
    assert first is not None
    assert first.value == "jpg"
    assert client.fetch(url, IMAGE, first.validators) is None
    assert client.fetch(url, IMAGE, Validators(last_modified=first.validators.last_modified)) \
        is None  # fmt: skip
    changed = client.fetch(url, IMAGE, Validators(etag='"old"'))
    assert changed is not None
    assert changed.body == first.body


def test_it_says_who_it_is(site: Site, client: Client) -> None:
    fetch(client, site, RECORD_PATH)
    assert site.headers[RECORD_PATH]["User-Agent"].startswith(f"xkcdfs/{__version__}")


def test_connections_are_kept(site: Site, client: Client) -> None:
    for number in range(1, 30):
        url = f"{site.url}/{number}/info.0.json"
        client.fetch(url, replace(record_kind(url), parse=len))
        with pytest.raises(FetchError):
            client.fetch(f"{site.url}/comics/none{number}.png", IMAGE)
        assert client.fetch(f"{site.url}{IMAGE_PATH}", IMAGE, Validators(
            etag=site.reply(IMAGE_PATH).headers["ETag"])) is None  # fmt: skip
    assert site.connections == 1


def test_at_most_four_connections(own_site: Site, client: Client, settings: Settings) -> None:
    own_site.fail("*", faults.slow_body(0.01, 200))

    def get(number: int) -> None:
        url = f"{own_site.url}/{number}/info.0.json"
        client.fetch(url, replace(record_kind(url), parse=len))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(get, range(1, 61)))
    assert own_site.most_at_once == settings.connections
    assert own_site.connections == settings.connections


def together(count: int, call: Callable[[], Any]) -> list[Any]:
    """What *count* threads got or caught that made the same *call* at once."""
    barrier = threading.Barrier(count)

    def run(_: int) -> Any:
        barrier.wait()
        try:
            return call()
        except FetchError as error:
            return error.cause

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_one_flight_per_url(site: Site, client: Client, settings: Settings) -> None:
    site.fail(IMAGE_PATH, faults.slow_body(0.02, 1000))
    bodies = together(16, lambda: fetch(client, site, IMAGE_PATH))
    assert set(bodies) == {site.image(1)}
    assert site.requests[IMAGE_PATH] == 1
    site.fail(RECORD_PATH, faults.hang(0.1))
    causes = together(16, lambda: fetch(client, site, RECORD_PATH))
    assert len(set(causes)) == 1
    assert site.requests[RECORD_PATH] == settings.attempts


def test_404_is_remembered(site: Site, client: Client) -> None:
    for _ in range(3):
        with pytest.raises(FetchError) as caught:
            client.fetch(f"{site.url}/404/info.0.json", IMAGE)
        assert caught.value.missing
    assert site.requests["/404/info.0.json"] == 1


def test_404_is_forgotten_in_time(site: Site, settings: Settings) -> None:
    with Client(replace(settings, missing_life=0)) as client:
        for _ in range(2):
            with pytest.raises(FetchError):
                client.fetch(f"{site.url}/404/info.0.json", IMAGE)
    assert site.requests["/404/info.0.json"] == 2


def test_retry_after_holds_everybody(site: Site, settings: Settings) -> None:
    site.fail(RECORD_PATH, faults.status(503, Retry_After="1"), times=1)
    with Client(replace(settings, longest_retry_after=5)) as client:
        start = time.monotonic()
        assert fetch(client, site, RECORD_PATH)
        assert time.monotonic() - start >= 1
    assert site.requests[RECORD_PATH] == 2


def test_a_site_that_asks_for_a_long_rest_gets_one(site: Site, client: Client) -> None:
    site.fail(RECORD_PATH, faults.status(503, Retry_After="3600"), times=1)
    for path in (RECORD_PATH, IMAGE_PATH):
        with pytest.raises(FetchError, match="503"):
            fetch(client, site, path)
    assert sum(site.requests.values()) == 1


def test_the_rate_is_kept(site: Site, settings: Settings) -> None:
    with Client(replace(settings, rate=50, burst=2)) as client:
        start = time.monotonic()
        for number in range(1, 12):
            url = f"{site.url}/{number}/info.0.json"
            client.fetch(url, replace(record_kind(url), parse=len))
        assert time.monotonic() - start >= 9 / 50


def test_offline_is_offline(
    site: Site, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def no_socket(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "create_connection", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    with Client(settings, offline=True) as client, pytest.raises(FetchError) as caught:
        fetch(client, site, RECORD_PATH)
    assert caught.value.errno == errno.ENETUNREACH
    assert "network is off" in str(caught.value)
    assert not site.requests


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "http://", "nonsense", "http://[::1", ""]
)
def test_urls_that_are_none(client: Client, url: str) -> None:
    with pytest.raises(FetchError) as caught:
        client.fetch(url, IMAGE)
    assert caught.value.errno == errno.EINVAL


def test_a_site_that_is_down(
    own_site: Site, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    caplog.set_level(logging.INFO, "xkcdfs")
    own_site.stop()
    with Client(replace(settings, breaker_pause=60, longest_breaker_pause=60)) as client:
        with pytest.raises(FetchError) as caught:
            fetch(client, own_site, RECORD_PATH)
        assert caught.value.errno == errno.ECONNREFUSED
        assert "refused" in caught.value.cause
        own_site.start()  # to see that it is not asked
        for _ in range(20):
            with pytest.raises(FetchError) as caught:
                fetch(client, own_site, IMAGE_PATH)
            assert caught.value.errno == errno.EHOSTUNREACH
            assert "down" in caught.value.cause
    assert not own_site.requests
    assert len(caplog.records) == 1


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen in 10 s"
        time.sleep(0.02)


def test_it_recovers_by_itself(own_site: Site, client: Client) -> None:
    own_site.stop()
    for _ in range(3):
        with pytest.raises(FetchError):
            fetch(client, own_site, RECORD_PATH)
    own_site.start()

    def works() -> bool:
        try:
            return bool(fetch(client, own_site, RECORD_PATH))
        except FetchError:
            return False

    until(works)
    assert fetch(client, own_site, IMAGE_PATH) == own_site.image(1)


def test_a_site_that_only_fails_is_left_alone(site: Site, settings: Settings) -> None:
    site.fail("*", faults.status(500))
    with Client(replace(settings, breaker_pause=60, longest_breaker_pause=60)) as client:
        for number in range(1, 20):
            with pytest.raises(FetchError):
                client.fetch(f"{site.url}/{number}/info.0.json", IMAGE)
    assert sum(site.requests.values()) == settings.breaker_urls * settings.attempts


def test_one_bad_document_does_not_condemn_the_site(
    site: Site, client: Client, settings: Settings
) -> None:
    site.fail(IMAGE_PATH, faults.status(500))
    for _ in range(5):
        with pytest.raises(FetchError):
            fetch(client, site, IMAGE_PATH)
        assert fetch(client, site, RECORD_PATH)
    assert site.requests[IMAGE_PATH] == 5 * settings.attempts


def test_after_a_rest_one_try_is_enough_to_tell(own_site: Site, settings: Settings) -> None:
    with Client(replace(settings, breaker_pause=0.05, longest_breaker_pause=0.05)) as client:
        own_site.fail("*", faults.hang(30))
        for path in (RECORD_PATH, IMAGE_PATH, "/comics/x.png"):
            with pytest.raises(FetchError):
                client.fetch(own_site.url + path, IMAGE)
        own_site.forget()
        time.sleep(0.1)
        with pytest.raises(FetchError, match="no answer in time"):
            fetch(client, own_site, RECORD_PATH)
        assert own_site.requests[RECORD_PATH] == 1


def test_closing_ends_the_waiting(site: Site, settings: Settings) -> None:
    site.fail(RECORD_PATH, faults.status(500))
    client = Client(replace(settings, backoff=60, longest_backoff=60))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(fetch, client, site, RECORD_PATH)
        until(lambda: site.requests[RECORD_PATH] > 0)
        client.close()
        with pytest.raises(FetchError):
            job.result(timeout=10)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_real_images_are_images(real_folder, suffix: str) -> None:
    paths = list((real_folder / "images").glob(f"*/*.{suffix}"))
    assert paths
    for path in paths:
        body = path.read_bytes()
        assert image_type(body) == suffix
        assert ends_like_image(body)
        assert not ends_like_image(body[: len(body) // 2])
