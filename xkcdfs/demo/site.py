"""A small web site with the API of xkcd and comics of its own, for trying and for tests."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import html
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from xkcdfs.demo.comics import CLOCKS, LATEST, MISSING, Comic, comic
from xkcdfs.demo.drawing import draw
from xkcdfs.demo.faults import Fault, Reply
from xkcdfs.records import date_ns

__all__ = ["Site"]

_TYPES = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif"}
_INFO = re.compile(r"/(?:([0-9]{1,9})/)?info\.0\.json")
_PAGE = re.compile(r"/(?:([0-9]{1,9})/?)?")


class Site:
    """The demo site on 127.0.0.1, HTTP/1.1 with keep-alive, a thread for each connection.

    with Site() as site: requests.get(f"{site.url}/1/info.0.json")

    Comics 1 to *latest*, without 404, are drawn when they are first asked for. *clock* gives the
    time for the one image that changes with it. The counters are for tests: `requests` by path,
    `connections` that were ever made, `most_at_once` of them busy with a request, `not_modified`
    answers by path, and `headers` of the last request by path.
    """

    def __init__(
        self, *, latest: int = LATEST, port: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self.latest = latest
        self.requests: Counter[str] = Counter()
        self.not_modified: Counter[str] = Counter()
        self.headers: dict[str, Mapping[str, str]] = {}
        self.connections = 0
        self.most_at_once = 0
        self.stopping = threading.Event()
        self._clock = clock
        self._address = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._busy = 0
        self._sockets: set[socket.socket] = set()
        self._faults: dict[str, tuple[Fault, int | None]] = {}
        self._titles: dict[int, str] = {}
        self._files = {
            name: number
            for number in range(latest, 0, -1)  # where two share one, the first drew it
            if number != MISSING
            for name in self._file_names(comic(number))
        }
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a slash at its end."""
        return f"http://{self._address[0]}:{self._address[1]}"

    def listen(self) -> None:
        """Have a port; after a `stop` the same as before. Who connects waits for `start`. No thread
        yet: a process may still fork. Raises OSError."""
        self.stopping.clear()
        self._server = _Server(self._address, self)
        self._address = ("127.0.0.1", self._server.server_port)

    def start(self) -> None:
        """Serve; listen first if need be. Raises OSError."""
        if self._server is None:
            self.listen()
        assert self._server is not None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="demo-site", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end every connection: further ones are refused."""
        if self._server is None:
            return
        self.stopping.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # it ended by itself
                    connection.shutdown(socket.SHUT_RDWR)
        self._server = self._thread = None

    def __enter__(self) -> Site:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self) -> int:
        """Publish the next comic and return its number."""
        with self._lock:
            self.latest += 1 + (self.latest + 1 == MISSING)
            self._files.update(dict.fromkeys(self._file_names(comic(self.latest)), self.latest))
            return self.latest

    def retitle(self, number: int, title: str) -> None:
        """Edit a comic's title, as happens now and then."""
        self._titles[number] = title

    def fail(self, path: str, fault: Fault, times: int | None = None) -> None:
        """Answer the next *times* requests for *path* (None: all) by *fault*; '*' is every path."""
        self._faults[path] = (fault, times)

    def heal(self) -> None:
        """End every fault."""
        self._faults.clear()

    def forget(self) -> None:
        """Set all counters to zero."""
        with self._lock:
            self.requests.clear()
            self.not_modified.clear()
            self.headers.clear()
            self.connections = self.most_at_once = 0

    def comic(self, number: int) -> Comic:
        """Comic *number* with its title of today."""
        found = comic(number)
        return found.with_title(self._titles[number]) if number in self._titles else found

    def image(self, number: int, scale: int = 1) -> bytes:
        """The image of comic *number* as it is now."""
        shown = self._files.get(self.comic(number).file, number)
        found = self.comic(shown)
        quarter = int(self._clock() // 900) % 96 if shown in CLOCKS else None
        return draw(shown, comic(shown).title, found.kind, scale, quarter)

    def reply(self, path: str) -> Reply:
        """What a GET of *path* gives when nothing fails."""
        if match := _INFO.fullmatch(path):
            if found := self._comic(match[1]):
                return self._dated(found, found.record_json(self.url), "application/json")
        elif path == "/archive/":
            return self._archive()
        elif path.startswith("/comics/"):
            name = path.removeprefix("/comics/")
            if number := self._files.get(name):
                found = self.comic(number)
                image = self.image(number, 1 if name == found.file else 2)
                return self._dated(found, image, _TYPES[found.kind])
        elif (match := _PAGE.fullmatch(path)) and (found := self._comic(match[1])):
            return self._page(found)
        page = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n" \
            b"<center><h1>404 Not Found</h1></center>\r\n</body>\r\n</html>\r\n"  # fmt: skip
        return Reply(404, page, "text/html")

    def _comic(self, digits: str | None) -> Comic | None:
        number = int(digits) if digits else self.latest
        return self.comic(number) if 1 <= number <= self.latest and number != MISSING else None

    def _archive(self) -> Reply:
        lines = []
        for number in range(self.latest, 0, -1):
            if number != MISSING:
                found = self.comic(number)
                day = f"{found.date.year}-{found.date.month}-{found.date.day}"
                lines.append(f'<a href="/{number}/" title="{day}">{found.title}</a><br/>\n')
        page = (
            "<!DOCTYPE html>\n<html>\n<head><title>Demo comics</title></head>\n<body>\n"
            f"<h1>Comics:</h1><br/>\n{''.join(lines)}</body>\n</html>\n"
        )
        return self._dated(self.comic(self.latest), page.encode(), "text/html; charset=utf-8")

    def _page(self, found: Comic) -> Reply:
        title, alt = html.escape(found.title), html.escape(found.alt)
        image = f'<img src="/comics/{html.escape(found.file)}" title="{alt}">' if found.file else ""
        page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n" \
            f"<body><h1>{title}</h1>\n{image}\n</body></html>\n"  # fmt: skip
        return self._dated(found, page.encode(), "text/html; charset=utf-8")

    def _dated(self, found: Comic, body: bytes, content_type: str) -> Reply:
        tag = hashlib.sha256(body).hexdigest()[:16]
        day = date_ns(found.date) // 1_000_000_000
        return Reply(200, body, content_type, {
            "ETag": f'"{tag}"', "Last-Modified": email.utils.formatdate(day, usegmt=True),
        })  # fmt: skip

    @staticmethod
    def _file_names(found: Comic) -> list[str]:
        if not found.file:
            return []
        return [found.file, found.file_2x] if found.has_2x else [found.file]

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            for key in (path, "*"):
                if key in self._faults:
                    fault, times = self._faults[key]
                    if times == 1:
                        del self._faults[key]
                    elif times is not None:
                        self._faults[key] = (fault, times - 1)
                    return fault
        return None

    def _serve(self, handler: _Handler) -> None:
        path = handler.path
        with self._lock:
            self.requests[path] += 1
            self.headers[path] = dict(handler.headers)
            self._busy += 1
            self.most_at_once = max(self.most_at_once, self._busy)
        try:
            reply = self.reply(path)
            if fault := self._fault(path):
                fault(handler, reply)
            else:
                if reply.status == 200 and _unchanged(dict(handler.headers), reply.headers):
                    with self._lock:
                        self.not_modified[path] += 1
                    reply = replace(reply, status=304, body=b"")
                handler.answer(reply)
        finally:
            with self._lock:
                self._busy -= 1

    def _connected(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self._sockets.add(connection)

    def _disconnected(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)


def _unchanged(asked: Mapping[str, str], has: Mapping[str, str]) -> bool:
    # RFC 9110, 13.1.3: If-Modified-Since counts only where there is no If-None-Match.
    if (tag := asked.get("If-None-Match")) is not None:
        return tag == has.get("ETag")
    since = asked.get("If-Modified-Since")
    return since is not None and since == has.get("Last-Modified")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        super().__init__(address, _Handler)
        self.site = site

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of the site's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.site._connected(self.connection)

    def finish(self) -> None:
        self.server.site._disconnected(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self.server.site._serve(self)

    do_HEAD = do_GET

    def answer(self, reply: Reply) -> None:
        headers = {"Content-Type": reply.content_type, "Content-Length": str(len(reply.body)),
                   **reply.headers}  # fmt: skip
        if reply.status == 304:
            del headers["Content-Length"]
        self.write_head(reply.status, headers)
        if self.command != "HEAD":
            self.write(reply.body)

    def write_head(self, status: int, headers: Mapping[str, str]) -> None:
        phrase = HTTPStatus(status).phrase
        lines = [f"{self.protocol_version} {status} {phrase}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if headers.get("Connection") == "close":
            self.close_connection = True
        self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def write(self, data: bytes) -> None:
        self.connection.sendall(data)

    def pause(self, seconds: float) -> bool:
        return self.server.site.stopping.wait(seconds)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the counters tell."""
