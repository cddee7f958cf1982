"""Which comics have all of some words, best first."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from xkcdfs.catalogue import Catalogue
from xkcdfs.records import Record
from xkcdfs.texts import transcript_in

__all__ = ["MOST", "Search"]

MOST = 200


class Search:
    """The words of *catalogue*'s titles, and of the alt texts and transcripts in *records*."""

    def __init__(self, catalogue: Catalogue, records: Mapping[int, Record]) -> None:
        self._texts = []
        for number, entry in catalogue.index.items():
            record = records.get(number)
            alt = record.alt if record else ""
            texts = (entry.title, alt, transcript_in(records, number))
            self._texts.append((number, tuple(map(_folded, texts))))

    def find(self, query: str) -> list[int]:
        """Up to MOST numbers of comics that have every word of *query* somewhere. A title counts
        more than an alt text, and that more than a transcript; a whole word more than a part of
        one; the newer comic comes first among equals."""
        words = re.findall(r"\w+", _folded(query))
        if not words:
            return []
        parts = [re.compile(re.escape(word)) for word in words]
        wholes = [re.compile(rf"\b{re.escape(word)}\b") for word in words]
        phrase = " ".join(words)
        found = []
        for number, texts in self._texts:
            score = 0
            for part, whole in zip(parts, wholes, strict=True):
                best = 0
                for weight, text in zip((100, 10, 3), texts, strict=True):
                    if part.search(text):
                        best = max(best, weight * (3 if whole.search(text) else 1))
                if not best:
                    break
                score += best
            else:
                found.append((score + 1000 * (texts[0] == phrase), number))
        return [number for _, number in sorted(found, reverse=True)[:MOST]]


def _folded(text: str) -> str:
    """*text* without case and accents, its words apart by one space."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in bare if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", bare.replace("'", "").replace("’", "")))
