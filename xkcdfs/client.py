"""Polite HTTP: few connections, a steady rate, whole and checked bodies or one clear error."""

from __future__ import annotations

import errno
import logging
import random
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Generic, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from xkcdfs import __version__
from xkcdfs.breaker import Breaker
from xkcdfs.errors import FetchError
from xkcdfs.flights import Flights

__all__ = ["Answer", "Client", "Kind", "Settings", "Validators", "image_type"]

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 1 << 14  # small, so that a compressed bomb is noticed before it has grown
MISSING_KEPT = 4096
_ENDS = {
    "png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    "jpg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "gif": (b"GIF8", b";"),
}


@dataclass(frozen=True)
class Settings:
    """How to behave on the network. Times in seconds, rates in requests a second."""

    connections: int = 4
    rate: float = 10.0
    burst: int = 8
    connect_timeout: float = 5.0
    read_timeout: float = 8.0  # without a byte; also for all headers together
    total_timeout: float = 90.0  # for one try, from the request to the last byte
    attempts: int = 4
    patience: float = 10.0  # no further try begins that long after the first
    backoff: float = 0.5
    longest_backoff: float = 10.0
    longest_retry_after: float = 30.0  # a site that asks for more is not waited for
    redirects: int = 5
    missing_life: float = 3600.0
    breaker_urls: int = 3
    breaker_pause: float = 5.0
    longest_breaker_pause: float = 120.0


@dataclass(frozen=True)
class Validators:
    """What the site gave to ask later whether a document has changed (RFC 9110, 8.8)."""

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """The request headers that ask."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What is asked for: *parse* turns a whole body into it, or raises ValueError; *limit* is the
    most bytes that a body may have; *is_whole* tells a body from its beginning, for answers that
    do not say how long they are."""

    accept: str
    limit: int
    parse: Callable[[bytes], T]
    is_whole: Callable[[bytes], bool]


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A document: what it means, its bytes, and the means to ask whether it has changed."""

    value: T
    body: bytes
    validators: Validators


_TROUBLE = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class _Failure(Exception):
    """One try that failed."""

    def __init__(
        self,
        cause: str,
        code: int = errno.EIO,
        *,
        retry: bool = True,
        connecting: bool = False,
        alive: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.code = code
        self.retry = retry
        self.connecting = connecting
        self.alive = alive  # the site answered; it is this document that is wrong
        self.retry_after = retry_after


class Client:
    """Fetches documents. Thread-safe; requests run on the threads that ask.

    With *offline*, nothing is ever sent and each fetch raises FetchError (ENETUNREACH).
    """

    def __init__(self, settings: Settings | None = None, *, offline: bool = False) -> None:
        self.settings = settings or Settings()
        self.offline = offline
        self._session = _Session()
        self._session.headers["User-Agent"] = f"xkcdfs/{__version__} python-requests"
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _Adapter(self.settings.connections))
        self._slots = threading.BoundedSemaphore(self.settings.connections)
        self._rate = _Rate(self.settings.rate, self.settings.burst)
        self._lock = threading.Lock()
        self._flights = Flights()
        self._missing: OrderedDict[str, float] = OrderedDict()
        self._breakers: dict[str, Breaker] = {}
        self._closing = threading.Event()
        self._counts = {"requests": 0, "failures": 0, "bytes": 0}

    def figures(self, url: str) -> dict[str, Any]:
        """Requests sent, those in vain, bytes of bodies; and why the site of *url* is not asked now,
        '' if it is."""
        with self._lock:
            breaker = self._breakers.get(_origin(url))
            return {
                **self._counts, "offline": self.offline, "down": breaker.state if breaker else ""
            }  # fmt: skip

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    def close(self) -> None:
        """End the connections; a fetch that waits for its next try fails at once."""
        self._closing.set()
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetch(
        self, url: str, kind: Kind[T], validators: Validators | None = None
    ) -> Answer[T] | None:
        """The document at *url*, whole and as *kind* wants it; None when the site says that it has
        not changed since *validators* (conditional request, RFC 9110, 13).

        Blocks; those who ask for the same URL at the same time share one request. Raises
        FetchError, of which one line is logged for each URL that was tried in vain.
        """
        if self.offline:
            raise FetchError(url, "not in the cache, and the network is off", errno.ENETUNREACH)
        key = f"{url} {validators}" if validators else url
        return self._flights.run(key, lambda: self._fetch(url, kind, validators))

    def _fetch(self, url: str, kind: Kind[T], validators: Validators | None) -> Answer[T] | None:
        origin = _origin(url)
        with self._lock:
            if self._known_missing(url):
                raise FetchError(url, "404 Not Found (remembered)", errno.ENOENT)
            breaker = self._breakers.setdefault(origin, Breaker(
                self.settings.attempts, self.settings.breaker_urls,
                self.settings.breaker_pause, self.settings.longest_breaker_pause,
            ))  # fmt: skip
        deadline = time.monotonic() + self.settings.patience
        for attempt in range(1, self.settings.attempts + 1):
            if blocked := breaker.blocked():
                raise FetchError(url, blocked, errno.EHOSTUNREACH)
            try:
                with self._slots:
                    self._rate.wait(self._closing)
                    if self._closing.is_set():
                        raise FetchError(url, "the client is closed")
                    answer = self._attempt(url, kind, validators)
            except _Failure as failure:
                self._count(failures=1)
                last = (
                    not failure.retry
                    or attempt == self.settings.attempts
                    or time.monotonic() > deadline
                    or breaker.on_probation
                    or (failure.retry_after or 0) > self.settings.longest_retry_after
                )
                self._after_failure(url, origin, breaker, failure, last, attempt)
            except BaseException:
                breaker.dropped()
                raise
            else:
                if breaker.succeeded():
                    log.info("%s answers again", origin)
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _after_failure(
        self, url: str, origin: str, breaker: Breaker, failure: _Failure, last: bool, attempt: int
    ) -> None:
        if failure.alive:
            if breaker.succeeded():
                log.info("%s answers again", origin)
            given_up = False
        else:
            given_up = breaker.failed(url, failure.cause, connecting=failure.connecting, final=last)
        if failure.retry_after is not None:
            # Whoever asks this site has to wait, not only the one that was told.
            longest = self.settings.longest_breaker_pause
            wait = min(failure.retry_after, longest if last else self.settings.longest_retry_after)
            if last and failure.retry_after > self.settings.longest_retry_after:
                breaker.refused_for(wait, failure.cause)
            else:
                self._rate.hold(wait)
        if not last and not given_up:
            if failure.retry_after is None:
                most = min(
                    self.settings.backoff * 2 ** (attempt - 1), self.settings.longest_backoff
                )
                self._closing.wait(random.uniform(most / 2, most))
            return
        # The site may have put anything into it; a log has one line for each entry.
        cause = "".join(c if c.isprintable() else " " for c in failure.cause)[:300].strip()
        cause = cause if attempt == 1 else f"{cause} (after {attempt} tries)"
        if failure.code == errno.ENOENT:
            with self._lock:
                self._missing[url] = time.monotonic() + self.settings.missing_life
                self._missing.move_to_end(url)
                if len(self._missing) > MISSING_KEPT:
                    self._missing.popitem(last=False)
        else:
            rest = f"; {origin} is left alone for a while" if given_up else ""
            log.warning("%s: %s%s", url, cause, rest)
        raise FetchError(url, cause, failure.code) from failure.__cause__

    def _known_missing(self, url: str) -> bool:
        until = self._missing.get(url)
        if until is not None and until < time.monotonic():
            del self._missing[url]
            until = None
        return until is not None

    def _attempt(self, url: str, kind: Kind[T], validators: Validators | None) -> Answer[T] | None:
        deadline = time.monotonic() + self.settings.total_timeout
        headers = {"Accept": kind.accept, "Accept-Encoding": "gzip"}
        headers |= validators.headers() if validators else {}
        try:
            with closing(self._open(url, headers)) as response:
                if response.status_code == HTTPStatus.NOT_MODIFIED and validators:
                    _drain(response)
                    return None
                if response.status_code != HTTPStatus.OK:
                    _drain(response)
                    raise _refusal(response)
                body = self._body(response, kind, deadline)
                try:
                    value = kind.parse(body)
                except ValueError as error:
                    cause = str(error).removeprefix(f"{url}: ")
                    raise _Failure(f"wrong answer: {cause}", alive=True) from error
                self._count(bytes=len(body))
                given = response.headers
                return Answer(value, body, Validators(
                    given.get("ETag", ""), given.get("Last-Modified", "")
                ))  # fmt: skip
        except _TROUBLE as error:
            raise _failure(error) from error

    def _open(self, url: str, headers: dict[str, str]) -> requests.Response:
        """The response at the end of the redirects, its body unread."""
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        here = url
        for _ in range(self.settings.redirects + 1):
            self._count(requests=1)
            response = self._session.get(here, headers=headers, stream=True, timeout=timeout)
            target = response.headers.get("Location")
            if response.status_code not in (301, 302, 303, 307, 308) or target is None:
                return response
            response.close()
            try:
                here = urljoin(here, target)
                usable = urlsplit(here).scheme in ("http", "https") and urlsplit(here).hostname
            except ValueError:
                usable = None
            if not usable:
                raise _Failure(f"redirect to {target[:200]!r}", retry=False, alive=True)
        raise _Failure(f"more than {self.settings.redirects} redirects", retry=False, alive=True)

    def _body(self, response: requests.Response, kind: Kind[T], deadline: float) -> bytes:
        told = response.headers.get("Content-Length", "")
        length = int(told) if told.isascii() and told.isdigit() and len(told) < 19 else None
        if length is not None and length > kind.limit:
            raise _too_large(kind.limit)
        body = bytearray()
        # read1 returns what has come; read and iter_content wait for a full chunk.
        while piece := response.raw.read1(CHUNK, decode_content=True):
            body += piece
            if len(body) > kind.limit:
                raise _too_large(kind.limit)
            if time.monotonic() > deadline:
                took = self.settings.total_timeout
                raise _Failure(f"not complete after {took:g} s", errno.ETIMEDOUT)
        if length is not None and response.raw.tell() != length:
            raise _Failure(f"cut off: {response.raw.tell()} bytes of {length}")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if length is None and not chunked and not kind.is_whole(bytes(body)):
            raise _Failure(f"cut off after {len(body)} bytes")
        return bytes(body)


def image_type(body: bytes) -> str:
    """'png', 'jpg' or 'gif', by the first bytes. Raises ValueError for all else."""
    for name, (magic, _) in _ENDS.items():
        if body.startswith(magic):
            return name
    raise ValueError(f"no PNG, JPEG or GIF: {body[:24]!r}")


def ends_like_image(body: bytes) -> bool:
    """Whether *body* has the last bytes of its format; padding may follow."""
    return any(
        body.startswith(magic) and body.rstrip(b"\0\r\n").endswith(end)
        for magic, end in _ENDS.values()
    )


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        pass
    raise FetchError(url, "no http or https URL", errno.EINVAL)


def _too_large(limit: int) -> _Failure:
    return _Failure(f"larger than {limit} bytes", errno.EFBIG, retry=False, alive=True)


def _drain(response: requests.Response) -> None:
    """Read a short error page: the connection can be used again only after its last byte."""
    with suppress(urllib3.exceptions.HTTPError, OSError):
        for _ in range(4):
            if not response.raw.read1(CHUNK):
                break


def _refusal(response: requests.Response) -> _Failure:
    """What an answer other than 200 means."""
    code = response.status_code
    cause = f"{code} {response.reason}"[:200]
    if code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return _Failure(cause, errno.ENOENT, retry=False, alive=True)
    if code == HTTPStatus.TOO_MANY_REQUESTS or code >= 500:
        after = _retry_after(response.headers.get("Retry-After", ""))
        if after is not None:
            cause += f", to be asked again in {after:.0f} s"
        busy = code == HTTPStatus.TOO_MANY_REQUESTS
        return _Failure(cause, errno.EBUSY if busy else errno.EIO, alive=busy, retry_after=after)
    denied = code in (401, 403, 451)
    return _Failure(cause, errno.EACCES if denied else errno.EIO, retry=False, alive=True)


def _retry_after(value: str) -> float | None:
    """Seconds, from either form of the header (RFC 9110, 10.2.3); None when it is no such."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _failure(error: Exception) -> _Failure:
    """What an exception of requests, urllib3 or the system means."""
    inner: BaseException = error
    chain: list[BaseException] = []
    while inner not in chain:
        chain.append(inner)
        nested = getattr(inner, "reason", None) or next(
            (a for a in inner.args if isinstance(a, BaseException)), None
        )
        inner = nested if isinstance(nested, BaseException) else inner.__cause__ or inner
    names = [type(link).__name__ for link in chain]
    text = str(chain[-1]).rpartition("): ")[2] or names[-1]
    if any(isinstance(link, requests.exceptions.SSLError) for link in chain):
        return _Failure(f"no safe connection: {text}", retry=False, connecting=True)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return _Failure(f"no usable URL: {text}", errno.EINVAL, retry=False, alive=True)
    if "ConnectTimeoutError" in names or isinstance(error, requests.ConnectTimeout):
        return _Failure("no connection in time", errno.ETIMEDOUT, connecting=True)
    if "NewConnectionError" in names or "NameResolutionError" in names or "ProxyError" in names:
        return _Failure(f"no connection: {text}", errno.ECONNREFUSED, connecting=True)
    if "ReadTimeoutError" in names or "TimeoutError" in names:
        return _Failure("no answer in time", errno.ETIMEDOUT)
    if "IncompleteRead" in names:
        return _Failure(f"cut off: {text}")
    if "DecodeError" in names:
        return _Failure(f"wrongly compressed: {text}", alive=True)
    return _Failure(f"connection lost: {text}")


class _Rate:
    """Lets *rate* callers a second pass, and up to *burst* at once after a rest."""

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._slack = self._interval * (burst - 1)
        self._lock = threading.Lock()
        self._next = 0.0
        self._held_until = 0.0

    def wait(self, interrupted: threading.Event) -> None:
        """Sleep until it is the caller's turn, or *interrupted*."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now - self._slack)
            self._next = turn + self._interval
        while not interrupted.is_set():
            left = max(turn, self._held_until) - time.monotonic()
            if left <= 0:
                return
            interrupted.wait(left)

    def hold(self, seconds: float) -> None:
        """Let nobody pass for *seconds*."""
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + seconds)


class _Session(requests.Session):
    def get_redirect_target(self, resp: Any) -> None:
        """None: requests would read a redirect's body, however long it is, even if told not to
        follow; the client follows by itself."""


class _PromptHeaders:
    """Ends a connection whose headers are not complete within the read time-out: the socket's own
    time-out starts again with each byte."""

    sock: Any
    timeout: Any

    def getresponse(self) -> Any:
        late = threading.Event()
        timer = threading.Timer(self.timeout, self._shut_down, (self.sock, late))
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
            if late.is_set():
                # Headers that just end look complete to http.client.
                raise TimeoutError("headers not complete in time")

    @staticmethod
    def _shut_down(sock: Any, late: threading.Event) -> None:
        late.set()
        with suppress(OSError):  # the other side was faster
            sock.shutdown(socket.SHUT_RDWR)


class _HTTPConnection(_PromptHeaders, HTTPConnection):
    pass


class _HTTPSConnection(_PromptHeaders, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(HTTPAdapter):
    def __init__(self, connections: int) -> None:
        super().__init__(pool_maxsize=connections, pool_block=True)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
