"""Ways for the demo site to misbehave. Each takes the good reply and sends something else."""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "Fault",
    "Reply",
    "Wire",
    "body",
    "chunked",
    "endless",
    "garbled_gzip",
    "gzipped",
    "hang",
    "html_instead",
    "huge",
    "redirect",
    "reset",
    "slow_body",
    "slow_headers",
    "status",
    "truncated",
    "without_length",
]


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; Content-Length comes by itself."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Wire(Protocol):
    """The connection that a fault speaks on."""

    connection: socket.socket
    close_connection: bool

    def answer(self, reply: Reply) -> None:
        """Send *reply* as it should be."""

    def write_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a status line and *headers*, nothing else."""

    def write(self, data: bytes) -> None:
        """Send *data* at once."""

    def pause(self, seconds: float) -> bool:
        """Wait; True when the site stops meanwhile."""


Fault = Callable[[Wire, Reply], None]


def status(code: int, **headers: str) -> Fault:
    """Answer with *code*; `Retry_After="1"` gives a Retry-After header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def fault(wire: Wire, reply: Reply) -> None:
        page = f"<html><head><title>{code}</title></head><body>{code}</body></html>\n"
        wire.answer(Reply(code, page.encode(), "text/html", named))

    return fault


def body(data: bytes, content_type: str = "application/json") -> Fault:
    """Answer 200 with *data*."""
    return lambda wire, reply: wire.answer(Reply(200, data, content_type))


def redirect(to: str, code: int = 302) -> Fault:
    """Lead to the URL *to*."""
    return status(code, Location=to)


def html_instead(wire: Wire, reply: Reply) -> None:
    """A friendly page with status 200, whatever was asked."""
    page = b"<!DOCTYPE html><html><body>Please log in to the hotel's network.</body></html>"
    wire.answer(Reply(200, page, reply.content_type))


def reset(wire: Wire, reply: Reply) -> None:
    """End the connection with a TCP reset, without a word."""
    wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close_connection = True
    # A makefile() object keeps the descriptor open: only detaching it closes it now.
    socket.close(wire.connection.detach())


def truncated(wire: Wire, reply: Reply) -> None:
    """Promise the whole body, send half, and hang up."""
    wire.write_head(200, _head(reply))
    wire.write(reply.body[: len(reply.body) // 2])
    wire.close_connection = True


def without_length(part: float = 1.0) -> Fault:
    """Send *part* of the body without a length; the end of the connection ends it."""

    def fault(wire: Wire, reply: Reply) -> None:
        wire.write_head(200, {"Content-Type": reply.content_type, "Connection": "close"})
        wire.write(reply.body[: int(len(reply.body) * part)])
        wire.close_connection = True

    return fault


def chunked(part: float = 1.0) -> Fault:
    """Send *part* of the body in chunks; less than all of it lacks the last chunk."""

    def fault(wire: Wire, reply: Reply) -> None:
        wire.write_head(200, {"Content-Type": reply.content_type, "Transfer-Encoding": "chunked"})
        data = reply.body[: int(len(reply.body) * part)]
        for at in range(0, len(data), 1000):
            piece = data[at : at + 1000]
            wire.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if part < 1:
            wire.close_connection = True
        else:
            wire.write(b"0\r\n\r\n")

    return fault


def gzipped(wire: Wire, reply: Reply) -> None:
    """Send the body compressed, and say so."""
    packed = gzip.compress(reply.body)
    wire.answer(Reply(200, packed, reply.content_type, {"Content-Encoding": "gzip"}))


def garbled_gzip(wire: Wire, reply: Reply) -> None:
    """Call something gzip that is not."""
    wire.answer(Reply(200, b"\x1f\x8b" + bytes(60), reply.content_type,
                      {"Content-Encoding": "gzip"}))  # fmt: skip


def hang(seconds: float) -> Fault:
    """Say nothing for *seconds*, then hang up."""

    def fault(wire: Wire, reply: Reply) -> None:
        wire.pause(seconds)
        wire.close_connection = True

    return fault


def slow_headers(delay: float) -> Fault:
    """Send one more header line every *delay* seconds, for ever."""

    def fault(wire: Wire, reply: Reply) -> None:
        wire.close_connection = True
        wire.write(b"HTTP/1.1 200 OK\r\n")
        count = 0
        while not wire.pause(delay):
            count += 1
            wire.write(b"X-Line-%d: and one more\r\n" % (count % 50))

    return fault


def slow_body(delay: float, piece: int = 1) -> Fault:
    """Send the body *piece* bytes at a time, *delay* seconds apart."""

    def fault(wire: Wire, reply: Reply) -> None:
        wire.write_head(200, _head(reply))
        for at in range(0, len(reply.body), piece):
            wire.write(reply.body[at : at + piece])
            if wire.pause(delay):
                break

    return fault


def endless(wire: Wire, reply: Reply) -> None:
    """A body without a length that goes on until the other side hangs up."""
    wire.write_head(200, {"Content-Type": reply.content_type, "Connection": "close"})
    wire.close_connection = True
    wire.write(reply.body)
    while not wire.pause(0):
        wire.write(bytes(1 << 16))


def huge(size: int = 10 << 30) -> Fault:
    """Promise *size* bytes and begin to send them."""

    def fault(wire: Wire, reply: Reply) -> None:
        wire.close_connection = True
        wire.write_head(200, {"Content-Type": reply.content_type, "Content-Length": str(size)})
        while not wire.pause(0):
            wire.write(bytes(1 << 16))

    return fault


def _head(reply: Reply) -> dict[str, str]:
    return {"Content-Type": reply.content_type, "Content-Length": str(len(reply.body))}
