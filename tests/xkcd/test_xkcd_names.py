"""Names, hints and search, without a mount."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkcdfs.catalogue import Catalogue, folder_name
from xkcdfs.facts import facts_about
from xkcdfs.records import IndexEntry, Record, clean_title, parse_record
from xkcdfs.search import MOST, Search
from xkcdfs.sync import parse_range

DAY = datetime.date(2020, 2, 29)


def index(*titles: str) -> dict[int, IndexEntry]:
    return {n: IndexEntry(n, title, DAY) for n, title in enumerate(titles, 1)}


@given(st.lists(st.text(max_size=300), max_size=20))
def test_every_comic_has_one_name_in_every_place(titles: list[str]) -> None:
    catalogue = Catalogue(index(*titles))
    titled = {number for number, title in enumerate(titles, 1) if title}
    assert set(catalogue.numbers.values()) == set(catalogue.index)
    assert sorted(catalogue.titles.values()) == sorted(titled)
    assert len({name.casefold() for name in catalogue.titles}) == len(titled)
    for name in (*catalogue.titles, *catalogue.numbers):
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\0\n\u202e")
        assert not name.startswith(".")
        assert len(name.encode()) <= 255


def test_names_do_not_change_when_comics_come() -> None:
    titles = ["Leap", "LEAP", "7", "Leap", "Leap (4)"]
    first = {number: name for name, number in Catalogue(index(*titles[:3])).titles.items()}
    all_of_them = {number: name for name, number in Catalogue(index(*titles)).titles.items()}
    assert all_of_them == {1: "Leap", 2: "LEAP (2)", 3: "7", 4: "Leap (4)", 5: "Leap (4) (5)"}
    assert first.items() <= all_of_them.items()


def test_folders_sort_by_number() -> None:
    assert folder_name(7, "A & B") == "0007-a-b"
    assert folder_name(859, "(") == "0859"
    assert len(folder_name(1, "x" * 500)) < 100


def test_names_of_the_real_titles(real: dict[int, dict[str, Any]], odd: dict[str, Any]) -> None:
    entries = {n: IndexEntry(n, clean_title(r["title"]), DAY) for n, r in real.items()}
    catalogue = Catalogue(entries)
    assert len(catalogue.titles) == len(catalogue.numbers) == len(real)
    assert len({name.casefold() for name in catalogue.titles}) == len(real)


def test_facts_are_used_for_their_own_site_only(real: dict[int, dict[str, Any]]) -> None:
    def entries(days: int) -> dict[int, IndexEntry]:
        later = datetime.timedelta(days)
        dates = {
            n: datetime.date(int(r["year"]), int(r["month"]), int(r["day"])) for n, r in real.items()
        }
        return {n: IndexEntry(n, "", date + later) for n, date in dates.items()}

    facts = facts_about(entries(0))
    assert facts.keys() == real.keys()
    for number, record in real.items():
        assert facts[number].file == (record["img"].rpartition("/")[2] or "-")
        assert (facts[number].size > 0) == (facts[number].suffix != "")
    newer = entries(0)
    newer[99_999] = IndexEntry(99_999, "", DAY)
    assert facts_about(newer) == facts
    assert facts_about(entries(1)) == {}


def record(number: int, alt: str, transcript: str = "") -> Record:
    body = (
        f'{{"num": {number}, "title": "", "alt": "{alt}", "transcript": "{transcript}",'
        ' "img": "", "year": "2020", "month": "2", "day": "29"}'
    )
    return parse_record(body.encode(), "http://x/", number)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("cat", [4, 1, 5, 2, 3]),  # the title itself, words in titles, parts, alt text, transcript
        ("CAT", [4, 1, 5, 2, 3]),
        ("fur cat", [2]),
        ("naive", [6]),
        ("naïve", [6]),
        ("dont", [7]),
        ("don't", [7]),
        ("", []),
        ("...", []),
        ("dog", []),
    ],
)
def test_search(query: str, found: list[int]) -> None:
    catalogue = Catalogue(index("The Cat", "x", "y", "Cat", "Concatenate", "Naïve", "Don’t"))
    records = {2: record(2, "Fur of a cat's"), 3: record(3, "", "cat: hello")}
    assert Search(catalogue, records).find(query) == found


def test_search_has_an_end() -> None:
    catalogue = Catalogue(index(*["same"] * 500))
    assert Search(catalogue, {}).find("same") == list(range(500, 500 - MOST, -1))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", (1, None)), ("7", (7, 7)), ("7-9", (7, 9)), ("7-", (7, None)), ("-9", (1, 9))],
)
def test_ranges(text: str, numbers: tuple[int, int | None]) -> None:
    assert parse_range(text) == numbers


@pytest.mark.parametrize("text", ["x", "0", "9-7", "1-2-3", "1.5", "--1", "7-x"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError):
        parse_range(text)
