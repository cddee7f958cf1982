"""Records: what is accepted, what is derived, what is repaired."""

from __future__ import annotations

import csv
import datetime
import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkcdfs import records
from xkcdfs.demo.comics import LATEST, MISSING, comic
from xkcdfs.records import RecordError, parse_archive, parse_record

URL = "https://comics.example/7/info.0.json"
GOOD: dict[str, Any] = {
    "num": 7, "title": "A Title", "safe_title": "A Title", "alt": "Alt.", "year": "2009",
    "month": "2", "day": "3", "img": "https://img.example/comics/a.png", "transcript": "",
    "link": "", "news": "",
}  # fmt: skip


def parse(**changes: Any) -> records.Record:
    fields = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return parse_record(json.dumps(fields).encode(), URL, 7)


def test_a_record() -> None:
    record = parse()
    assert (record.number, record.title, record.alt) == (7, "A Title", "Alt.")
    assert record.date == datetime.date(2009, 2, 3)
    assert record.mtime_ns == 1233619200 * 10**9
    assert record.image_suffix == ".png"
    assert record.image_2x_url == "https://img.example/comics/a_2x.png"
    assert json.loads(record.source) == GOOD


def test_dates_before_1970() -> None:
    assert records.date_ns(datetime.date(1969, 12, 31)) == -86400 * 10**9


@pytest.mark.parametrize(
    "field, value",
    [
        ("num", "seven"), ("num", None), ("num", ...), ("num", True), ("num", 7.5), ("num", 8),
        ("num", -7), ("num", 0), ("num", 10**30), ("num", []), ("title", ...), ("title", 5),
        ("title", None), ("title", "x" * (2 << 20)), ("alt", ["a"]), ("img", ...), ("img", 3),
        ("img", "file:///etc/passwd"), ("img", "ftp://x/a.png"), ("img", "http://[::1/a.png"),
        ("img", "https://x:99999/a.png"), ("img", "https://x/a\0.png"),
        ("img", "https://x/a b.png"), ("transcript", {}), ("link", 1), ("extra_parts", "x"),
    ],
)  # fmt: skip
def test_absurd_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(RecordError) as caught:
        parse(**{field: value})
    assert URL in str(caught.value)
    assert repr(field) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "changes",
    [{"day": "32"}, {"month": "0"}, {"year": "10000"}, {"year": "0"}, {"month": "2", "day": "30"}],
)
def test_absurd_dates_are_named(changes: dict[str, str]) -> None:
    with pytest.raises(RecordError, match=r"field 'year/month/day' is '.*', not a date"):
        parse(**changes)


@pytest.mark.parametrize("field", ["year", "month", "day"])
@pytest.mark.parametrize("value", [..., "", "x", "\u0663", "-1", None, "1" * 5000])
def test_absurd_parts_of_dates_are_named(field: str, value: Any) -> None:
    with pytest.raises(RecordError, match=f"field '{field}'"):
        parse(**{field: value})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"<html></html>",
        b"[" * 100_000,
        b'{"num":7}',
    ],
)
def test_what_is_no_record(body: bytes) -> None:
    with pytest.raises(RecordError, match=URL):
        parse_record(body, URL)


@given(st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(sorted(GOOD)),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
).map(lambda changes: json.dumps(GOOD | changes).encode()))  # fmt: skip
def test_anything_is_a_record_or_a_record_error(body: bytes) -> None:
    try:
        record = parse_record(body, URL)
    except RecordError as error:
        assert URL in str(error)
    else:
        record.title.encode()
        assert record.number > 0


def test_lone_surrogates_can_be_written() -> None:
    record = parse(title="a\ud800b", alt="\ud83d\ude00")
    assert record.title == "a\ufffdb"
    assert record.alt == "\U0001f600"


def test_optional_fields() -> None:
    record = parse(transcript=..., link=..., news=None, alt=..., safe_title=...)
    assert (record.transcript, record.link, record.news, record.alt) == ("", "", "", "")
    assert record.extra_parts == {}


@pytest.mark.parametrize(
    "img, url, suffix, double",
    [
        ("https://x/comics/", None, "", None),
        ("https://x", None, "", None),
        ("https://x/c/%3F%3F%3F.png", "https://x/c/%3F%3F%3F.png", ".png",
         "https://x/c/%3F%3F%3F_2x.png"),
        ("https://x/c/(.png", "https://x/c/(.png", ".png", "https://x/c/(_2x.png"),
        ("https://x/c/b_(1).JPG", "https://x/c/b_(1).JPG", ".jpg", "https://x/c/b_(1)_2x.JPG"),
        ("//x/c/a.gif", "https://x/c/a.gif", ".gif", "https://x/c/a_2x.gif"),
        ("https://x/c/noext", "https://x/c/noext", "", None),
        ("https://x/c/a.php", "https://x/c/a.php", "", None),
    ],
)  # fmt: skip
def test_image_urls(img: str, url: str | None, suffix: str, double: str | None) -> None:
    record = parse(img=img)
    assert (record.image_url, record.image_suffix, record.image_2x_url) == (url, suffix, double)


@pytest.mark.parametrize(
    "title, clean, slug, name",
    [
        ("A Title", "A Title", "a-title", "A Title"),
        ("Caf&eacute;", "Caf\u00e9", "cafe", "Caf\u00e9"),
        ('<span style="x">Red</span> Tea', "Red Tea", "red-tea", "Red Tea"),
        ("<City>-Style", "<City>-Style", "city-style", "(City)-Style"),
        ("R&D", "R&D", "r-d", "R&D"),
        ("R&amp;D <i>x</i><br/>y", "R&D xy", "r-d-xy", "R&D xy"),
        ("Cat/Dog\\Cow", "Cat/Dog\\Cow", "cat-dog-cow", "Cat-Dog-Cow"),
        ("\u202eevil", "\u202eevil", "evil", "evil"),
        ("a\u2066b\u200f\u0007c\u0000d\u009be", "a\u2066b\u200f\u0007c\u0000d\u009be", "abcde",
         "abcde"),
        (".conf", ".conf", "conf", "_conf"),
        ("..", "..", "", "_"),
        ("(", "(", "", "("),
        ("Ohm's \u2019Law", "Ohm's \u2019Law", "ohms-law", "Ohm's \u2019Law"),
        ("???", "???", "", "_"),
        ("", "", "", "_"),
        ("2038", "2038", "2038", "2038"),
        ("The\u2009gap", "The\u2009gap", "the-gap", "The gap"),
        ("CON", "CON", "con", "_CON"),
        ("aux.txt", "aux.txt", "aux-txt", "_aux.txt"),
        ("Conn", "Conn", "conn", "Conn"),
        ("Ends. ", "Ends.", "ends", "Ends"),
        ("a\nb\tc", "a\nb\tc", "a-b-c", "a b c"),
        ("\u00e9" * 200, "\u00e9" * 200, "e" * 200, "\u00e9" * 100),
    ],
)  # fmt: skip
def test_titles(title: str, clean: str, slug: str, name: str) -> None:
    assert records.clean_title(title) == clean
    if "\u0007" not in title:
        assert records.slug(clean) == slug
    assert records.safe_name(clean) == name


def check_name(name: str) -> None:
    assert name
    assert len(name.encode()) <= 255
    assert not set('<>:"/\\|?*') & set(name)
    assert not any(unicodedata.category(char)[0] == "C" for char in name)
    assert not any(unicodedata.bidirectional(char) in
                   {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
                   for char in name)  # fmt: skip
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert name.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
    assert records.safe_name(name) == name


@given(st.text())
def test_safe_names_are_safe(title: str) -> None:
    check_name(records.safe_name(title))


def test_file_names_sort_by_number() -> None:
    names = [records.file_name(n, title) for n, title in ((9, "z"), (10, "a"), (3282, "0"))]
    assert names == sorted(names)
    assert records.file_name(7, "A Title", ".png") == "0007 A Title.png"


def test_mojibake_is_repaired_in_transcripts() -> None:
    for text in ("na\u00efve", "\u2192 \u03c0", "\u201cx\u201d", "\U0001d530", "a\u2014b"):
        assert records.repair_transcript(text.encode().decode("latin-1")) == text
    assert records.repair_transcript("\u00c3\u00a9 and \u2713") == "\u00e9 and \u2713"
    assert records.repair_transcript("uh\x97oh") == "uh\u2014oh"
    for text in ("plain", "na\u00efve \u00fcber", "\u00bfQu\u00e9?", "100\u00baF", "P\u00acP"):
        assert records.repair_transcript(text) == text


def told(number: int) -> str:
    body = comic(number).record_json("http://demo.example")
    return parse_record(body, URL, number).transcript


@pytest.mark.parametrize("number", [n for n in range(1590, LATEST)])
def test_shifted_transcripts_are_found(number: int) -> None:
    source = records.transcript_source(number)
    found = records.repair_transcript(told(source)) if source else ""
    assert found == comic(number).transcript


def test_damaged_transcripts_are_repaired() -> None:
    damaged = 0
    for number in range(1, 1600):
        if number != MISSING:
            damaged += told(number) != comic(number).transcript
            assert records.repair_transcript(told(number)) == comic(number).transcript
    assert damaged


def test_every_demo_record_parses() -> None:
    for number in range(1, LATEST + 1):
        if number != MISSING:
            made = comic(number)
            record = parse_record(made.record_json("http://demo.example"), URL, number)
            assert record.alt == made.alt
            check_name(records.safe_name(record.title))


def test_archive() -> None:
    page = (
        '<a href="/3/" title="2006-1-12">R&amp;D</a><br/>\n'
        '<a href="/2/" title="2006-1-1"><i>Two</i></a><br/>\n'
        '<a href="/about/" title="x">About</a><a href="/1/" title="2006-1-1"><City></a>'
    )
    index = parse_archive(page, URL)
    assert list(index) == [1, 2, 3]
    assert [entry.title for entry in index.values()] == ["<City>", "Two", "R&D"]
    assert index[3].date == datetime.date(2006, 1, 12)


@pytest.mark.parametrize(
    "page",
    ["", "<html>no</html>", '<a href="/0/" title="2006-1-1">x</a>',
     '<a href="/99999999/" title="2006-1-1">x</a>', '<a href="/1/" title="2006-13-1">x</a>'],
)  # fmt: skip
def test_what_is_no_archive(page: str) -> None:
    with pytest.raises(RecordError, match=URL):
        parse_archive(page, URL)


@pytest.fixture(scope="module")
def parsed(real: dict[int, dict[str, Any]]) -> Iterator[dict[int, records.Record]]:
    yield {
        number: parse_record(json.dumps(record).encode(), URL, number)
        for number, record in real.items()
    }


class TestRealRecords:
    def test_titles_are_whole(self, parsed, real, odd) -> None:
        assert len(parsed) == odd["records"]
        clean = {number: record.title for number, record in parsed.items()}
        for number, title in clean.items():
            if str(number) not in odd["title_ne_safe_title"]:
                assert title == real[number]["safe_title"].strip()
        assert clean[259] == "Clich\u00e9d Exchanges"
        assert clean[472] == "House of Pancakes"
        assert clean[3015] == "D&D Combinatorics"
        assert clean[3142] == "<City>-Style Pizza"

    def test_slugs_and_dates(self, parsed, real_folder) -> None:
        with (real_folder / "slugs.tsv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines, delimiter="\t"))
        assert {int(row[0]): (row[1], row[2]) for row in rows} == {
            number: (records.slug(record.title), record.date.isoformat())
            for number, record in parsed.items()
        }

    def test_names_are_safe_and_sort(self, parsed) -> None:
        names = [records.file_name(number, record.title) for number, record in parsed.items()]
        assert names == sorted(names)
        for record in parsed.values():
            check_name(records.safe_name(record.title))

    def test_images(self, parsed, odd, real_folder) -> None:
        assert [n for n, r in parsed.items() if r.image_url is None] == odd["no_image"]
        with (real_folder / "images.tsv").open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                record = parsed[int(row["num"])]
                assert record.image_url.endswith("/" + row["file"])
                assert record.image_suffix == "." + row["format"]

    def test_alt_texts_are_left_alone(self, parsed, real) -> None:
        assert all(parsed[number].alt == real[number]["alt"] for number in real)

    def test_mojibake(self, parsed, odd) -> None:
        whole, partly = odd["transcript_mojibake"], odd["transcript_mojibake_partial"]
        stray = set()
        for number, record in parsed.items():
            fixed = records.repair_transcript(record.transcript)
            assert records.repair_transcript(fixed) == fixed
            assert not any("\x80" <= char <= "\x9f" for char in fixed)
            if number in whole:
                assert fixed == record.transcript.encode("latin-1").decode("utf-8")
            elif fixed != record.transcript and number not in partly:
                assert any("\x80" <= char <= "\x9f" for char in record.transcript)
                stray.add(number)
        assert all(
            records.repair_transcript(parsed[n].transcript) != parsed[n].transcript for n in partly
        )
        assert not stray & {*whole, *partly}

    def test_shifted_transcripts(self, parsed, odd) -> None:
        source = records.transcript_source
        for number in odd["transcript_shifted_by_2"]:
            assert source(number - 2) == number
        for number in odd["transcript_shifted_by_3"]:
            assert source(number - 3) == number
        assert "fire ant" in parsed[source(1610)].transcript
        assert "Baking" in parsed[1611].title
        assert "baking soda" in parsed[source(1611)].transcript
        assert "fungus" in parsed[source(1664)].transcript
        used = [source(number) for number in parsed if source(number)]
        assert len(used) == len(set(used))
        told = {number for number, record in parsed.items() if record.transcript}
        assert told <= set(used)

    def test_edits_parse(self, parsed, real, real_folder) -> None:
        for edit in json.loads((real_folder / "xkcd_changes_2020_to_2022.json").read_text()):
            for side in (0, 1):
                values = {field: pair[side] for field, pair in edit["changed"].items()}
                body = json.dumps(real[edit["num"]] | values).encode()
                assert parse_record(body, URL, edit["num"]).number == edit["num"]

    def test_archive(self, parsed, real_folder) -> None:
        index = parse_archive((real_folder / "archive.html").read_text(encoding="utf-8"), URL)
        assert {n: (e.title, e.date) for n, e in index.items()} == {
            n: (r.title, r.date) for n, r in parsed.items()
        }
