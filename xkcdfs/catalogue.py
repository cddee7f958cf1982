"""The names of all comics in all the places where they are, from the index of the site."""

from __future__ import annotations

from collections.abc import Mapping

from xkcdfs.facts import facts_about
from xkcdfs.records import IndexEntry, safe_name, slug

__all__ = ["Catalogue", "folder_name"]


def folder_name(number: int, title: str) -> str:
    """'0353-python': sorts by number up to 9999; '0859' for a title without letters and digits."""
    words = slug(title)[:80].rstrip("-")
    return f"{number:04d}-{words}" if words else f"{number:04d}"


class Catalogue:
    """What there is, at one moment. Nothing in it changes."""

    def __init__(self, index: Mapping[int, IndexEntry]) -> None:
        self.index = dict(index)
        #: Hints about the images: see facts.tsv.
        self.facts = facts_about(self.index)
        self.latest = max(self.index, default=0)
        #: The folder of each comic below comics/, and back.
        self.folders = {number: folder_name(number, e.title) for number, e in self.index.items()}
        self.numbers = {folder: number for number, folder in self.folders.items()}
        #: Names below by-title/. Of those who share a title, the first has it and keeps it.
        self.titles: dict[str, int] = {}
        #: Year, month, name below by-date/.
        self.dates: dict[str, dict[str, dict[str, int]]] = {}
        taken: set[str] = set()
        for number, entry in self.index.items():
            if entry.title:
                name = safe_name(entry.title)
                if name.casefold() in taken:
                    name = f"{name} ({number})"
                taken.add(name.casefold())
                self.titles[name] = number
            date = entry.date
            month = self.dates.setdefault(f"{date.year:04d}", {}).setdefault(f"{date.month:02d}", {})
            month[f"{date.day:02d}-{self.folders[number]}"] = number
