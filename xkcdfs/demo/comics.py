"""The demo's comics: all made up, and as odd as a site's records become in twenty years."""

from __future__ import annotations

import datetime
import json
import random
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["LATEST", "MISSING", "Comic", "comic"]

LATEST = 1700
MISSING = 404
LAST_TRANSCRIPT = 1677
FIRST_2X = 1084

_ADJECTIVES = (
    "Quiet", "Impatient", "Recursive", "Borrowed", "Lopsided", "Hypothetical", "Overdue", "Polite",
    "Magnetic", "Accidental", "Portable", "Suspicious", "Circular", "Elderly", "Unlabelled",
    "Optimistic", "Buoyant", "Provisional", "Invisible", "Reluctant", "Tidal", "Untested", "Spare",
    "Nocturnal", "Approximate", "Handmade", "Forgotten", "Prime", "Sideways", "Melting", "Orbital",
    "Courteous", "Wooden", "Imaginary", "Stubborn", "Seasonal", "Rented", "Frozen", "Minimal",
    "Unsolicited", "Symmetric", "Sleepy", "Emergency", "Backwards", "Certified", "Haunted", "Local",
)  # fmt: skip
_NOUNS = (
    "Kettle", "Theorem", "Umbrella", "Spreadsheet", "Lighthouse", "Compiler", "Pigeon", "Elevator",
    "Telescope", "Sandwich", "Password", "Volcano", "Calendar", "Satellite", "Bicycle", "Doorbell",
    "Hypothesis", "Teapot", "Glacier", "Keyboard", "Meeting", "Map", "Library", "Battery", "Comet",
    "Ladder", "Algorithm", "Cactus", "Escalator", "Footnote", "Submarine", "Paperclip", "Tornado",
    "Bakery", "Barometer", "Dinosaur", "Printer", "Sundial", "Orchestra", "Router", "Penguin",
)  # fmt: skip
_PATTERNS = ("{a} {n}", "The {a} {n}", "{a} {n}", "{n} ({a})", "{a} {n}, Part {p}", "My {a} {n}")
_ALTS = (
    "The {n} was fine. It was the {a} part that nobody had budgeted for.",
    "I keep a second {n} in the car, in case the first one turns out to be {a}.",
    "Studies show that nine out of ten {n}s are {a}. The tenth wrote the study.",
    "Later I learned that the {n} had been {a} all along & was only being nice about it.",
    'Week six: the {n} has its own "office" now, and I still share mine with a {a} printer.',
)
_TRANSCRIPTS = (
    "[[Two figures stand beside a {n}.]]\nFigure: Is it supposed to be {a}?\nOther: It is now.",
    "[[A graph; the line goes up until the word '{n}'.]]\nCaption: {a}, according to everyone",
    "[[A single panel, mostly a {n}.]]\nVoice from off-panel: Who left this {a} thing here?",
)
_REMARKS = ("caf\u00e9", "\u2192", "\u03c0 \u2248 3", "\u2014", "\u201cso\u201d", "na\u00efve",
            "\u222b", "\U0001d530\u0e2d")  # fmt: skip

_MOJIBAKE = frozenset({124, 179, 303, 468, 870, 1072, 1234, 1411, 1538, 1625, 1627})
_PARTLY_MOJIBAKE = frozenset({704, 878, 1288, 1638})
_SILENT = frozenset({1623, 1635, 1650})  # they had a transcript in nobody's record
_NO_IMAGE = frozenset({1204, 1608})
_EXTRA = frozenset({826, 1037, 1190, 1335, 1446, 1608})
_NO_2X = frozenset({1097, 1110, 1204, 1335, 1446, 1608})
_GIFS = frozenset({961, 1116, 1264})
_JPEGS = frozenset(range(1, 61)) | {144, 288, 556}
CLOCKS = frozenset({1335})  # images that change with the time of day

# Only what is not as the rules below would have it.
_ODD: dict[int, dict[str, str]] = {
    1: {"title": "Raft - Part 1", "file": "raft_cropped_(1).jpg"},
    2: {"title": "Two Small Hills (sketch)", "file": "hills_cropped_(1).jpg"},
    7: {"title": "Cat Asleep (Sketch -- on the back of a bill)", "file": "cat_noline_(1).jpg"},
    23: {"title": "x-Axis", "file": "x-axis.jpg"},
    58: {"title": "Why Is It Wet?"},
    60: {"title": "Leap Second", "file": "leap_second.jpg"},
    259: {"title": "Caf&eacute; Arithmetic", "safe": "Caf Arithmetic"},
    472: {
        "title": '<span style="color: #00AA00">Lawn</span> of the Year',
        "safe": "Lawn of the Year",
    },
    607: {"title": "2077"},
    859: {"title": "(", "file": "(.png", "alt": "An open one. (Also \"{<<[' and ;; are open."},
    934: {"title": "Cat/Dog"},
    1054: {"title": "The\u2009Gap"},
    1037: {"title": "Point of View", "file": "="},
    1137: {"title": "\u202eSdrawkcab", "file": "mirror.png"},
    1193: {"title": "Side Effects", "alt": ""},
    1350: {"title": "Two Doors", "file": "="},
    1335: {"title": "Just Now", "file": "just_now.png"},
    1446: {"title": "Touchdown", "file": "%3F%3F%3F.png", "alt": "[SOON]"},
    1480: {"title": "Leap Second", "file": "leap_second_2.png"},
    1624: {"title": "1984"},
    1665: {"title": "CON"},
    1666: {"title": "5/5 Stars"},
    1683: {
        "title": "Character Set",
        "alt": "\u00e2\u20ac\u0153Whoever can read this has kept the wrong "
        "encoding\u00e2\u20ac\u009d!",
    },
    1685: {"title": ".RC File Format"},
    1686: {"title": "P&P Rulebook", "safe": "P Rulebook"},
    1687: {"title": "<Planet>-Scale Soup", "safe": "-Scale Soup"},
    1688: {"title": "A \ufffd"},
    1689: {"title": 'Ratio: 1:1 "Map" *Actual Size* | <-> \\o/'},
    1690: {"title": "K\u00f6nig's Umbrella"},
}


@dataclass(frozen=True)
class Comic:
    """One comic as it was meant (`title`, `transcript`) and as the site tells it (`record`)."""

    number: int
    title: str
    safe_title: str
    alt: str
    transcript: str
    date: datetime.date
    file: str  # the last part of the image's URL, quoted as it stands there; empty: no image
    kind: str
    has_2x: bool

    def with_title(self, title: str) -> Comic:
        """The same comic under another title."""
        return replace(self, title=title, safe_title=title)

    @property
    def file_2x(self) -> str:
        """The name of the image in double resolution, whether there is one or not."""
        stem, dot, suffix = self.file.rpartition(".")
        return f"{stem}_2x{dot}{suffix}"

    def record(self, base_url: str) -> dict[str, Any]:
        """The fields of `/N/info.0.json`, damage included."""
        number = self.number
        fields: dict[str, Any] = {
            "month": str(self.date.month),
            "num": number,
            "link": f"{base_url}/{number}/large/" if number % 97 == 5 else "",
            "year": str(self.date.year),
            "news": "Prints are at <b>no</b> store near you." if number % 101 == 40 else "",
            "safe_title": self.safe_title,
            "transcript": _told_transcript(number),
            "alt": self.alt,
            "img": f"{base_url}/comics/{self.file}",
            "title": self.title,
        }
        if number in _EXTRA:
            fields["extra_parts"] = {
                "pre": "",
                "headerextra": "",
                "post": '\n<script src="/s/none.js"></script>\n',
                "imgAttr": "",
            }
        return {**fields, "day": str(self.date.day)}

    def record_json(self, base_url: str) -> bytes:
        """The body of `/N/info.0.json`."""
        return json.dumps(self.record(base_url)).encode()


def comic(number: int) -> Comic:
    """Comic *number*, 1 or more; there is none called 404."""
    if number < 1 or number == MISSING:
        raise ValueError(f"there is no comic {number}")
    adjective, noun, words = _words(number)
    odd = _ODD.get(number, {})
    pattern = _PATTERNS[number % len(_PATTERNS)]
    title = odd.get("title", pattern.format(a=adjective, n=noun, p=1 + number % 3))
    kind = "jpg" if number in _JPEGS else "gif" if number in _GIFS else "png"
    file = odd.get("file", f"{adjective}_{noun}.{kind}".lower())
    if file == "=":
        file = comic(number - 1).file
    return Comic(
        number=number,
        title=title,
        safe_title=odd.get("safe", title),
        alt=odd.get("alt", random.Random(number).choice(_ALTS).format(**words)),
        transcript=_meant_transcript(number),
        date=_date(number),
        file="" if number in _NO_IMAGE else file,
        kind=kind,
        has_2x=number >= FIRST_2X and number not in _NO_2X,
    )


def _words(number: int) -> tuple[str, str, dict[str, str]]:
    # The two lengths have no common factor: no pair comes twice before number 1927.
    adjective = _ADJECTIVES[number % len(_ADJECTIVES)]
    noun = _NOUNS[number % len(_NOUNS)]
    return adjective, noun, {"a": adjective.lower(), "n": noun.lower()}


def _meant_transcript(number: int) -> str:
    if number in (MISSING, 1663, 1675, 1676) or number >= LAST_TRANSCRIPT or number in _SILENT:
        return ""
    rnd = random.Random(number)
    text = rnd.choice(_TRANSCRIPTS).format(**_words(number)[2])
    if number in _MOJIBAKE or number in _PARTLY_MOJIBAKE:
        text += f"\nCaption: {rnd.choice(_REMARKS)}"
    if number in _PARTLY_MOJIBAKE:
        text += "\n((\u00fcber)) \u2713"
    return text


def _told_transcript(number: int) -> str:
    if 1611 <= number <= 1664:
        number -= 2
    elif 1667 <= number <= LAST_TRANSCRIPT:
        number -= 3
    elif number > LAST_TRANSCRIPT or number in (1609, 1610, 1665, 1666):
        return ""
    text = _meant_transcript(number)
    if number in _MOJIBAKE:
        return text.encode().decode("latin-1")
    if number in _PARTLY_MOJIBAKE:
        body, mark, rest = text.partition("\n((")
        return body.encode().decode("latin-1") + mark + rest
    return text


def _date(number: int) -> datetime.date:
    """1 to 44 in one day, then three a week; now and then two in one day."""
    first = datetime.date(2006, 1, 2)
    if number <= 44:
        return first
    if number in (160, 265, 344):
        number -= 1
    weeks, day = divmod(number - 45, 3)
    return first + datetime.timedelta(weeks=weeks, days=(0, 2, 4)[day])
