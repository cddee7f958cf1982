"""A comic's record as the site's JSON gives it, checked, and what is derived from it."""

from __future__ import annotations

import datetime
import html
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

__all__ = [
    "MAX_NUMBER",
    "IndexEntry",
    "Record",
    "RecordError",
    "clean_title",
    "date_ns",
    "file_name",
    "parse_archive",
    "parse_record",
    "repair_transcript",
    "safe_name",
    "slug",
    "transcript_source",
]

MAX_NUMBER = 1_000_000
MAX_TEXT = 1 << 20
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif"})

_TAG = re.compile(
    r"</?(?:a|abbr|b|big|br|cite|code|del|div|em|font|i|ins|kbd|mark|p|q|s|small|span|strike|strong"
    r"|sub|sup|tt|u|var)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_ARCHIVE_LINE = re.compile(
    r'<a href="/(?P<number>\d{1,9})/" title="(?P<date>\d{1,4}-\d{1,2}-\d{1,2})">(?P<title>.*?)</a>',
    re.DOTALL,
)
# A UTF-8 sequence whose bytes were taken for Latin-1 characters.
_MOJIBAKE = re.compile(
    r"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_C1 = re.compile(r"[\x80-\x9f]")
_WINDOWS = str.maketrans(
    {"/": "-", "\\": "-", "|": "-", ":": "-", "<": "(", ">": ")", '"': "'", "?": "", "*": ""}
)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)


class RecordError(ValueError):
    """An answer that is no record; says which URL and which field, and what it held."""

    def __init__(self, url: str, field: str, value: object, expected: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{url}: field {field!r} is {shown}, not {expected}")
        self.url = url
        self.field = field


@dataclass(frozen=True)
class IndexEntry:
    """One line of the archive page."""

    number: int
    title: str
    date: datetime.date

    @property
    def mtime_ns(self) -> int:
        """00:00 UTC of the day it came out, in nanoseconds."""
        return date_ns(self.date)


@dataclass(frozen=True)
class Record:
    """One comic. `title` is plain text. `alt` and `transcript` are as the site has them; of the
    latter some are damaged, and some are another comic's (see `transcript_source`)."""

    number: int
    title: str
    alt: str
    date: datetime.date
    image_url: str | None
    transcript: str
    link: str
    news: str
    extra_parts: Mapping[str, Any]
    source: bytes  # the JSON it was read from

    @property
    def mtime_ns(self) -> int:
        """00:00 UTC of the day it came out, in nanoseconds."""
        return date_ns(self.date)

    @property
    def image_suffix(self) -> str:
        """'.png', '.jpg' or '.gif'; empty when there is no image or its type is unknown."""
        suffix = _suffix(self.image_url or "")
        return suffix if suffix in IMAGE_SUFFIXES else ""

    @property
    def image_2x_url(self) -> str | None:
        """Where the site keeps the image in double resolution, if it has one: no record says."""
        if not self.image_url or not self.image_suffix:
            return None
        at = len(self.image_url) - len(self.image_suffix)
        return f"{self.image_url[:at]}_2x{self.image_url[at:]}"


def parse_record(body: bytes, url: str, number: int | None = None) -> Record:
    """The record in *body*, the answer of *url*; *number* is the one that was asked for, if any.

    Raises RecordError, which names the URL and the field.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RecordError(url, "(all)", body[:60], f"JSON ({error})") from None
    if not isinstance(data, dict):
        raise RecordError(url, "(all)", data, "an object")

    def text(field: str, *, required: bool = False) -> str:
        value = data.get(field)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise RecordError(url, field, value, "a text")
        # A lone surrogate is legal in JSON and cannot be written as UTF-8.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def whole(field: str) -> int:
        value = data.get(field)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RecordError(url, field, value, "a whole number")
        return value

    num = whole("num")
    if not 1 <= num <= MAX_NUMBER:
        raise RecordError(url, "num", num, f"in 1..{MAX_NUMBER}")
    if number is not None and num != number:
        raise RecordError(url, "num", num, f"the {number} that was asked for")
    year, month, day = whole("year"), whole("month"), whole("day")
    try:
        date = datetime.date(year, month, day)
    except (ValueError, OverflowError):
        raise RecordError(url, "year/month/day", f"{year}-{month}-{day}", "a date") from None
    extra = data.get("extra_parts") or {}
    if not isinstance(extra, dict):
        raise RecordError(url, "extra_parts", extra, "an object")
    return Record(
        number=num,
        title=clean_title(text("title", required=True)),
        alt=text("alt"),
        date=date,
        image_url=_image_url(text("img", required=True), url),
        transcript=text("transcript"),
        link=text("link"),
        news=text("news"),
        extra_parts=extra,
        source=body,
    )


def parse_archive(page: str, url: str) -> dict[int, IndexEntry]:
    """The comics that the site's `/archive/` page lists, by rising number. Raises RecordError."""
    found: dict[int, IndexEntry] = {}
    for line in _ARCHIVE_LINE.finditer(page):
        number = int(line["number"])
        if not 1 <= number <= MAX_NUMBER:
            raise RecordError(url, "number", number, f"in 1..{MAX_NUMBER}")
        try:
            date = datetime.date(*map(int, line["date"].split("-")))
        except ValueError:
            raise RecordError(url, f"date of {number}", line["date"], "a date") from None
        found[number] = IndexEntry(number, clean_title(line["title"]), date)
    if not found:
        raise RecordError(url, "(all)", page[:60], "a page that lists comics")
    return dict(sorted(found.items()))


def clean_title(title: str) -> str:
    """*title* as text: known tags stripped, entities resolved. The site's own `safe_title` has
    lost letters, and not everything in angle brackets is a tag."""
    return html.unescape(_TAG.sub("", title)).strip()


def slug(title: str) -> str:
    """*title* in a-z, 0-9 and single hyphens, without apostrophes; may be empty or all digits."""
    ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only.lower().replace("'", "")).strip("-")


def safe_name(title: str, limit: int = 200) -> str:
    """A file name for *title* that Linux, macOS and Windows accept: never empty, hidden, a device
    or longer than *limit* bytes of UTF-8; free of control and text-direction characters."""
    text = unicodedata.normalize("NFC", title).translate(_WINDOWS)
    text = "".join(" " if c.isspace() else c for c in text if _printable(c))
    text = " ".join(text.split())
    text = text.encode()[:limit].decode(errors="ignore").rstrip(" .")
    if text.startswith("."):
        text = "_" + text[1:]
    return "_" + text[: limit - 1] if not text or _DEVICE.match(text) else text


def file_name(number: int, title: str, suffix: str = "") -> str:
    """'0007 Title.png': unique by its number, and sorts by it up to 9999."""
    return f"{number:04d} {safe_name(title)}{suffix}"


def date_ns(date: datetime.date) -> int:
    """00:00 UTC of *date* as nanoseconds since 1970."""
    days = date.toordinal() - datetime.date(1970, 1, 1).toordinal()
    return days * 86_400 * 1_000_000_000


def transcript_source(number: int) -> int | None:
    """The number whose record holds the transcript of *number*; None when no record does.

    Records 1611-1664 carry the transcript of the comic two before, 1667-1677 of the one three
    before; what should have been in 1665 and 1666 is in none.
    """
    if 1609 <= number <= 1662:
        return number + 2
    if 1664 <= number <= 1674:
        return number + 3
    return None if number in (1663, 1675, 1676, 1677) else number


def repair_transcript(text: str) -> str:
    """*text* with each UTF-8 sequence that was read as Latin-1 put right; other text untouched.

    For transcripts only: there is an alt text whose joke is to look like this.
    """
    text = _MOJIBAKE.sub(lambda m: _decode(m[0], "utf-8"), text)
    return _C1.sub(lambda m: _decode(m[0], "cp1252"), text)


def _decode(text: str, encoding: str) -> str:
    try:
        return text.encode("latin-1").decode(encoding)
    except UnicodeDecodeError:
        return text


def _printable(char: str) -> bool:
    # Cc, Cf (bidi overrides among them), Cs, Co, Cn; tab and newline become a space.
    return char.isspace() or unicodedata.category(char)[0] != "C"


def _suffix(url: str) -> str:
    name = urlsplit(url).path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


def _image_url(img: str, url: str) -> str | None:
    try:
        absolute = urljoin(url, img)
        parts = urlsplit(absolute)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise RecordError(url, "img", img, "a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise RecordError(url, "img", img, "an http or https URL")
    if re.search(r"[\x00-\x20\x7f]", img):
        raise RecordError(url, "img", img, "a URL without spaces and control characters")
    return None if parts.path.endswith("/") or not parts.path else absolute
