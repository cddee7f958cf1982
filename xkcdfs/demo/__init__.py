"""The demo: a site of made-up comics with the API of xkcd, served on the loopback interface."""

from __future__ import annotations

from xkcdfs.demo.site import Site

__all__ = ["Site"]
