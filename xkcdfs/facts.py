"""What was known about the images of xkcd.com at this release. Hints, and nothing more: the site is
always right."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from xkcdfs.records import IndexEntry

__all__ = ["Fact", "facts_about", "known_facts"]


class Fact(NamedTuple):
    """One line of facts.tsv: the image's name, as it stands in its URL, and its size in bytes;
    '-' and 0 for a comic that has none."""

    date: datetime.date
    file: str
    size: int

    @property
    def suffix(self) -> str:
        """'png', 'jpg' or 'gif'; '' without an image."""
        return self.file.rpartition(".")[2] if self.size else ""


def facts_about(index: Mapping[int, IndexEntry]) -> Mapping[int, Fact]:
    """The facts, if *index* is of the site that they are about: its dates tell. Else none."""
    table = known_facts()
    known = [entry for number, entry in index.items() if number in table]
    same = sum(table[entry.number].date == entry.date for entry in known)
    return table if same > 0.99 * len(known) else {}


@cache
def known_facts() -> Mapping[int, Fact]:
    """All facts, by number."""
    text = files("xkcdfs").joinpath("facts.tsv").read_text("utf-8")
    table = {}
    for line in text.splitlines()[1:]:
        number, date, file, size = line.split("\t")
        table[int(number)] = Fact(datetime.date.fromisoformat(date), file, int(size))
    return table
