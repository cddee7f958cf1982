"""index.html: all comics as cards, in one page that needs nothing but the files beside it."""

from __future__ import annotations

import html
import json
from importlib.resources import files

from xkcdfs.shelf import Shelf

__all__ = ["alt_script", "gallery"]


def gallery(shelf: Shelf) -> str:
    """The page, the newest comic first. It asks the site for nothing: alt texts that are not known
    yet are loaded with the pictures, from the `alt_script` beside each."""
    catalogue = shelf.catalogue()
    cards = []
    for number, folder in reversed(catalogue.folders.items()):
        entry = shelf.entry(number)
        record = shelf.known_record(number)
        title = html.escape(entry.title or f"Number {number}")
        if not shelf.image_suffix(number):
            picture = "<em>no image: see the page</em>"
        elif record:
            alt = html.escape(record.alt)
            picture = f'<img alt="{alt or title}" title="{alt}">'
        else:
            picture = f'<img alt="{title}">'
        cards.append(
            f'<a class="card" data-n="{number}" href="comics/{folder}/page.html">'
            f'<div class="picture">{picture}</div><h2 title="{title}">{title}</h2>'
            f"<p><span>{number}</span><time>{entry.date.isoformat()}</time></p></a>\n"
        )
    page = files("xkcdfs").joinpath("gallery.html").read_text("utf-8")
    return page.replace("<!--cards-->\n", "".join(cards), 1)


def alt_script(number: int, alt: str) -> str:
    """A script that tells the page the alt text of a comic."""
    return f"alt({number}, {json.dumps(alt)});\n"
