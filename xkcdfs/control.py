"""/.xkcdfs: how the file system is, and how to tell it something."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from fastfuse import Routes
from xkcdfs import __version__
from xkcdfs.errors import FetchError
from xkcdfs.shelf import Shelf

__all__ = ["control"]

CREDITS = """\
The comics are by Randall Munroe, https://xkcd.com/, under the Creative Commons licence
Attribution-NonCommercial 2.5, https://creativecommons.org/licenses/by-nc/2.5/: you may copy and
share them, with his name, and not for money. See https://xkcd.com/license.html.

xkcdfs {version} shows them as files. It is not made or endorsed by xkcd.
"""


def control(shelf: Shelf, changed: Callable[[], None]) -> Routes:
    """The files; *changed* is called after a refresh that brought something."""
    routes = Routes(ttl=1)

    @routes.read("/status", ttl=0)
    def status() -> str:
        told = figures(shelf)
        cache, network = told["cache"], told["network"]
        if network["offline"]:
            site = "offline: nothing is asked"
        else:
            site = f"down: {network['down']}" if network["down"] else "up, as far as is known"
        return (
            f"xkcdfs {told['version']}, for {told['uptime_s']} s\n"
            f"site      {told['site']} ({site})\n"
            f"comics    {told['comics']}, the latest is {told['latest']}\n"
            f"at hand   {told['records']} records and {told['images']} images\n"
            f"cache     {cache['bytes'] / 1e6:.1f} MB of {cache['limit'] / 1e6:.0f} MB"
            f" in {cache['directory']}\n"
            f"network   {network['requests']} requests, {network['failures']} in vain,"
            f" {network['bytes'] / 1e6:.1f} MB\n"
            "To ask the site for new comics now, read the file refresh beside this one.\n"
        )

    @routes.read("/stats.json", ttl=0)
    def stats() -> str:
        return json.dumps(figures(shelf), indent=2) + "\n"

    @routes.read("/credits", ttl=86400)
    def credits() -> str:
        return CREDITS.format(version=__version__)

    # Read, since the mount is read-only; and by its name only, not listed: who reads everything does not mean it.
    @routes.read("/:refresh<choice(refresh)>", ttl=0)
    def ask_again() -> str:
        before = shelf.known_catalogue()
        try:
            now = shelf.refresh()
        except FetchError as error:
            return f"in vain: {error}\n"
        if now is not before:
            changed()
        trouble = shelf.collection.trouble()
        new = len(now.index.keys() - (before.index.keys() if before else ()))
        return f"in vain: {trouble}\n" if trouble else f"{new} new; the latest is {now.latest}\n"

    return routes


def figures(shelf: Shelf) -> dict[str, Any]:
    """All figures, without a request."""
    known = shelf.known_catalogue()
    return {
        "version": __version__,
        "uptime_s": round(time.time() - shelf.started),
        "site": shelf.collection.base_url,
        "comics": len(known.index) if known else 0,
        "latest": known.latest if known else None,
        "records": len(shelf.known_records()),
        "images": shelf.known_images(),
        **shelf.collection.figures(),
    }
