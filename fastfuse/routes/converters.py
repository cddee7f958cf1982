"""Converters: from (a part of) a file's name to a parameter's value, and back.

In a route a converter stands after the parameter's name: `:n<int>`, `:kind<choice(png,jpg)>`.

    int          an integer in decimal: 7, 0, -12
    float        a finite float as repr() writes it: 1.5, -0.25, 1e+16
    date         a datetime.date as YYYY-MM-DD
    choice(a,b)  one of the texts between the commas, taken as they are; the value is the text
    re(...)      text that the regular expression matches in full; the value is the text
    str          any text: the same as no converter

One file has one name: a name converts only if the converter gives the same name back. So 007, +7,
1_000, digits other than 0 to 9, 1.50 and 20240229 convert to nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Converter:
    """A way to read a parameter from a name, and to write it back.

    from_name(text) returns the value or raises ValueError: then the name does not match.
    to_name(value) returns the one text that stands for the value. Without it every text that
    from_name accepts is a name of its own, and no path can be built from the parameter.
    """

    from_name: Callable[[str], Any]
    to_name: Callable[[Any], str] | None = None

    def __call__(self, text: str) -> Any:
        """Return the value of *text*. Raises: ValueError if it does not convert."""
        value = self.from_name(text)
        if self.to_name is not None and self.to_name(value) != text:
            raise ValueError(f"{text!r} is not the name of {value!r}")
        return value


#: What a table of converters holds for each name: a converter, or, for one that takes an argument,
#: a function that makes it from the argument's text (ValueError: the argument is bad).
ConverterLike = Converter | Callable[[str], Converter]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def _choice(argument: str) -> Converter:
    texts = argument.split(",")
    if "" in texts or len(set(texts)) < len(texts):
        raise ValueError("a choice is made of different texts, none of them empty")
    allowed = frozenset(texts)

    def from_name(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is not one of {argument}")
        return text

    return Converter(from_name, str)


def _re(argument: str) -> Converter:
    try:
        expression = re.compile(argument)
    except re.error as error:
        raise ValueError(f"bad regular expression: {error}") from error

    def from_name(text: str) -> str:
        if expression.fullmatch(text) is None:
            raise ValueError(f"{text!r} does not match {argument}")
        return text

    return Converter(from_name, str)


CONVERTERS: Mapping[str, ConverterLike] = {
    "int": Converter(int, str),
    "float": Converter(_finite, repr),
    "date": Converter(date.fromisoformat, date.isoformat),
    "choice": _choice,
    "re": _re,
}
