"""Patterns of paths. Pure Python, no I/O.

A pattern is "/" or segments that each begin with "/". Names are str as os.fsdecode() gives them.

    text        that name; "::" stands for a colon
    :n          one name
    :n.png      parameters inside a name, with text between them; each takes at least one character
    :n<int>     a parameter with a converter (see fastfuse.routes.converters)
    *names      one or more names, anywhere in the pattern; the value is a list of str
    **names     zero or more names
    **          the same without a parameter

A parameter's name goes on as long as it can: write `:n<str>_small` for n and the text _small. A
converter's argument ends at the first ")>". A recursive parameter (* or **) fills its segment,
takes no converter and does not follow another one directly. "*" alone is refused: where globs
are meant it is one name (`:name`), any depth is "**". Other names must be Python identifiers that
are no keywords and begin with no underscore.
"""

from __future__ import annotations

import keyword
import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from fastfuse.routes.converters import CONVERTERS, Converter, ConverterLike

_TOKEN = re.compile(
    r"(?P<slash>/)|(?P<colon>::)|(?P<text>[^/:]+)"
    r"|:(?P<name>\w*)(?P<converter><(?P<table>\w*)(?:\((?P<argument>.*?)\))?>)?",
    re.DOTALL,
)


class RouteError(ValueError):
    """A route that cannot work, or cannot call its handler. Raised where it is registered."""


class Parameter(NamedTuple):
    """`:name<text>`: *origin* is equal for converters that are the same."""

    name: str
    text: str = ""
    converter: Converter | None = None
    origin: object = None


class Recursive(NamedTuple):
    """`*name` (least 1) or `**name` (least 0); no name: ""."""

    name: str
    least: int

    def __str__(self) -> str:
        return ("*" if self.least else "**") + self.name


class Segment:
    """One name: texts with a parameter between each two. `a:b.c` is ("a", ".c") around b."""

    __slots__ = ("_convert", "parameters", "rank", "shape", "texts")

    least = 1

    def __init__(self, texts: Sequence[str], parameters: Sequence[Parameter]) -> None:
        self.texts = tuple(texts)
        self.parameters = tuple(parameters)
        #: Equal for segments that match the same names.
        self.shape = (self.texts, tuple(p.origin for p in parameters))
        #: Sorts segments with parameters by precedence.
        converted = sum(p.converter is not None for p in parameters)
        self.rank = (-sum(map(len, texts)), -converted)
        self._convert: tuple[Callable[[str], Any], ...] = tuple(p.converter or str for p in parameters)

    @property
    def is_plain(self) -> bool:
        """Whether it is `:name`, which matches every name."""
        return self.rank == (0, 0)

    def match(self, name: str) -> tuple[Any, ...] | None:
        """Return the parameters' values, None if *name* does not match."""
        first, last = self.texts[0], self.texts[-1]
        if not self.parameters:
            return () if name == first else None
        end = len(name) - len(last)
        if not (end > len(first) and name.startswith(first) and name.endswith(last)):
            return None
        return self._split(name[:end], 0, len(first), set())

    def _split(self, name: str, index: int, start: int, dead: set[tuple[int, int]]) -> tuple[Any, ...] | None:
        # dead holds what has failed: the work is bounded by parameters * len(name)**2.
        if (index, start) in dead:
            return None
        is_last = index + 1 == len(self.parameters)
        text = self.texts[index + 1]
        end = len(name) if is_last else name.find(text, start + 1)
        while end > start:
            rest: tuple[Any, ...] | None = None
            try:
                value = self._convert[index](name[start:end])
            except ValueError:
                pass
            else:
                rest = () if is_last else self._split(name, index + 1, end + len(text), dead)
            if rest is not None:
                return (value, *rest)
            end = -1 if is_last else name.find(text, end + 1)
        dead.add((index, start))
        return None

    def name(self, values: Mapping[str, Any]) -> str:
        """Return the name that these parameters match. Raises: ValueError if there is none."""
        wanted = tuple(values[p.name] for p in self.parameters)
        parts = [self.texts[0]]
        for value, parameter, text in zip(wanted, self.parameters, self.texts[1:], strict=True):
            write = str if parameter.converter is None else parameter.converter.to_name
            if write is None:
                raise ValueError(f"{self}: <{parameter.text}> cannot write {parameter.name}")
            try:
                parts += (write(value), text)
            except (TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{self}: {parameter.name} cannot be {value!r}") from error
        name = "".join(parts)
        if not _is_name(name) or self.match(name) != wanted:
            raise ValueError(f"{self}: {name!r} does not stand for {wanted!r}")
        return name

    def __str__(self) -> str:
        parts = [self.texts[0].replace(":", "::")]
        for parameter, text in zip(self.parameters, self.texts[1:], strict=True):
            ends = parameter.converter is None and re.match(r"\w|<", text)
            converter = "str" if ends else parameter.text
            parts += (f":{parameter.name}", f"<{converter}>" if converter else "")
            parts.append(text.replace(":", "::"))
        return "".join(parts)


class Pattern:
    """A parsed pattern; str() gives it back.

    names: the parameters' names. parameters: the namedtuple class of a match's parameters.
    """

    __slots__ = ("names", "order", "parameters", "segments")

    def __init__(self, segments: Iterable[Segment | Recursive]) -> None:
        self.segments = tuple(segments)
        names: list[str] = []
        for before, segment in zip((None, *self.segments), self.segments, strict=False):
            if isinstance(segment, Segment):
                names += [parameter.name for parameter in segment.parameters]
            else:
                names += [segment.name] if segment.name else []
                if isinstance(before, Recursive):
                    raise route_error(self, f"{segment} may not follow {before} directly")
        for name in names:
            if names.count(name) > 1:
                raise route_error(self, f"two parameters are named {name!r}")
        self.names = tuple(names)
        self.parameters = _parameters(self.names)
        #: Decides between patterns that have one shape once every ** is taken as * or left out.
        self.order = tuple(0 if isinstance(s, Segment) else 2 - s.least for s in self.segments)

    @classmethod
    def parse(cls, text: str, converters: Mapping[str, ConverterLike] = CONVERTERS) -> Pattern:
        """Raises: RouteError naming the pattern, the segment and what is wrong with it."""
        if not isinstance(text, str):
            raise RouteError(f"route {text!r}: not a str")
        if not text.startswith("/"):
            raise route_error(text, "does not begin with '/'")
        if "\0" in text:
            raise route_error(text, "no name holds a NUL")
        segments: list[list[re.Match[str]]] = []
        for token in _TOKEN.finditer(text):
            if token["slash"]:
                segments.append([])
            else:
                segments[-1].append(token)
        if text == "/":
            segments = []
        parsed = []
        for number, tokens in enumerate(segments, 1):
            source = "".join(token[0] for token in tokens)
            try:
                parsed.append(_segment(source, tokens, converters))
            except ValueError as error:
                raise route_error(text, f"segment {number} ({source!r}): {error}") from error
        return cls(parsed)

    def __str__(self) -> str:
        return "/" + "/".join(map(str, self.segments))

    def __truediv__(self, other: Pattern) -> Pattern:
        """Return the pattern of *other* below this one. Raises: RouteError if they do not fit."""
        return Pattern(self.segments + other.segments)

    def path(self, **values: Any) -> str:
        """Return the path that has these parameters; a bare `**` stands for nothing.

        Raises: ValueError if a parameter is missing, unknown, or in no name that matches.
        """
        if values.keys() != set(self.names):
            raise ValueError(f"{self}: takes {list(self.names)}, not {list(values)}")
        names: list[str] = []
        for segment in self.segments:
            if isinstance(segment, Segment):
                names.append(segment.name(values))
            elif segment.name:
                below = values[segment.name]
                if isinstance(below, str) or len(below) < segment.least:
                    raise ValueError(f"{self}: {segment.name} cannot be {below!r}")
                for name in below:
                    if not _is_name(name):
                        raise ValueError(f"{self}: {name!r} in {segment.name} is not a name")
                names += below
        return "/" + "/".join(names)

    def expansions(self) -> Iterator[tuple[Segment | Recursive | None, ...]]:
        """The segments with each ** left out (None), or kept and then one or more names."""
        return product(*((None, s) if s.least == 0 else (s,) for s in self.segments))


def _segment(
    source: str, tokens: Sequence[re.Match[str]], converters: Mapping[str, ConverterLike]
) -> Segment | Recursive:
    if source in ("", ".", ".."):
        raise ValueError("empty" if not source else "no path holds this name")
    if source.startswith("*"):
        stars = 2 if source.startswith("**") else 1
        name = source[stars:]
        if not name and stars == 1:
            raise ValueError("* needs a name; for any depth without one write **")
        if name and not name.isidentifier():
            raise ValueError("a recursive parameter is * or ** and a name, and fills its segment")
        if name:
            _check_name(name)
        return Recursive(name, 2 - stars)
    texts, parameters = [""], list[Parameter]()
    for token in tokens:
        if token["name"] is None:
            texts[-1] += ":" if token["colon"] else token["text"]
            continue
        _check_name(token["name"])
        if parameters and not texts[-1]:
            before = parameters[-1].name
            raise ValueError(f"no text between :{before} and :{token['name']} to tell them apart")
        if token["converter"] is None and source.startswith("<", token.end() - tokens[0].start()):
            raise ValueError(f"the converter of :{token['name']} is not <name> or <name(argument)>")
        parameters.append(_parameter(token, converters))
        texts.append("")
    return Segment(texts, parameters)


def _check_name(name: str) -> None:
    if not name:
        raise ValueError("a colon needs a parameter's name; for a colon in a name write ::")
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"{name!r} is not a parameter's name: an identifier, no keyword, no underscore in front")


def _parameter(token: re.Match[str], converters: Mapping[str, ConverterLike]) -> Parameter:
    name, table, argument = token["name"], token["table"], token["argument"]
    if table is None or (table == "str" and argument is None):
        return Parameter(name)
    found = converters.get(table)
    if found is None:
        known = ", ".join(sorted({*converters, "str"}))
        raise ValueError(f"no converter is named {table!r}; there are {known}")
    if isinstance(found, Converter) != (argument is None):
        raise ValueError(f"<{table}> {'needs an' if argument is None else 'takes no'} argument")
    try:
        converter = found if isinstance(found, Converter) else found(argument)
    except ValueError as error:
        raise ValueError(f"<{table}({argument})>: {error}") from error
    return Parameter(name, token["converter"][1:-1], converter, (found, argument))


def route_error(pattern: Pattern | str, what: str) -> RouteError:
    """The error that says *what* is wrong with a route."""
    return RouteError(f"route {str(pattern)!r}: {what}")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set("/\0") & set(name)


@cache
def _parameters(names: tuple[str, ...]) -> Any:
    make: Callable[..., Any] = namedtuple  # mypy wants literal field names
    return make("Parameters", names)
