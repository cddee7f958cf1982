"""Routes: patterns of paths, and which of them a path matches. Pure Python, no I/O.

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

Several routes can match a path. For each kind of handler the first one wins; the path's names are
compared from left to right, and the first name that the routes match differently decides:

    1. text  2. a segment with text or converters: the one with more text first, then with more
    converters, then the one registered first  3. `:name`  4. recursive

- A parameter takes as little as lets the rest match: the earlier `*` gets fewer names, the
  earlier `:name` within a segment fewer characters. Where the rest fails, the next way is tried.
- `**names` is tried as nothing at all and as `*names`, and each takes its place in this order.
  Where another route then has the same shape, the route without the `**` goes first.

A route of the same kind and shape as another one (`/:a` and `/:b`), or one that another wins from
on every path (`/*a/:b` by `/:b/*a`), is refused when it is registered, and changes nothing. Two
different converters are taken to accept different names.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, product
from stat import S_IFDIR
from typing import Any, Generic, NamedTuple, TypeVar

from fastfuse.routes.converters import CONVERTERS, Converter, ConverterLike

H = TypeVar("H")

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
        self._convert: tuple[Callable[[str], Any], ...] = tuple(
            p.converter or str for p in parameters
        )

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

    def _split(
        self, name: str, index: int, start: int, dead: set[tuple[int, int]]
    ) -> tuple[Any, ...] | None:
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
                    raise _error(self, f"{segment} may not follow {before} directly")
        for name in names:
            if names.count(name) > 1:
                raise _error(self, f"two parameters are named {name!r}")
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
            raise _error(text, "does not begin with '/'")
        if "\0" in text:
            raise _error(text, "no name holds a NUL")
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
                raise _error(text, f"segment {number} ({source!r}): {error}") from error
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
        raise ValueError(
            f"{name!r} is not a parameter's name: an identifier, no keyword, no underscore in front"
        )


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


def _error(pattern: Pattern | str, what: str) -> RouteError:
    return RouteError(f"route {str(pattern)!r}: {what}")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set("/\0") & set(name)


@cache
def _parameters(names: tuple[str, ...]) -> Any:
    make: Callable[..., Any] = namedtuple  # mypy wants literal field names
    return make("Parameters", names)


@dataclass(frozen=True, eq=False)
class Route(Generic[H]):
    """What was registered; *kind* is the operation's name (read, list, ...)."""

    pattern: Pattern
    kind: str
    value: H

    def __str__(self) -> str:
        return f"{str(self.pattern)!r} ({self.kind})"


@dataclass
class Match(Generic[H]):
    """The route that won, and its parameters: an instance of route.pattern.parameters."""

    route: Route[H]
    params: Any


class _End(Generic[H]):
    """A route at the node where one of its expansions ends."""

    def __init__(self, route: Route[H], expansion: Iterable[Segment | Recursive | None]) -> None:
        self.route = route
        # Where in a state's values each parameter is; -1 is a ** left out. None: just the values.
        slots: list[tuple[int, bool]] = []
        size = 0
        for segment, kept in zip(route.pattern.segments, expansion, strict=True):
            if isinstance(segment, Segment):
                slots += ((size + i, False) for i in range(len(segment.parameters)))
                size += len(segment.parameters)
            else:
                slots += [(-1 if kept is None else size, True)] if segment.name else []
                size += kept is not None
        self._slots = slots if any(route.pattern.order) else None

    def match(self, values: tuple[Any, ...]) -> Match[H]:
        if self._slots is not None:
            values = (*values, ())
            values = tuple(list(values[i]) if many else values[i] for i, many in self._slots)
        return Match(self.route, self.route.pattern.parameters._make(values))


class _Node(Generic[H]):
    """A place in the trie. Each edge takes one name; a node that repeats can take more."""

    __slots__ = ("ends", "plain", "recursive", "repeats", "segments", "static")

    def __init__(self, repeats: bool = False) -> None:
        self.static: dict[str, _Node[H]] = {}
        self.segments: list[tuple[Segment, _Node[H]]] = []  # by precedence
        self.plain: _Node[H] | None = None
        self.recursive: _Node[H] | None = None
        self.repeats = repeats
        self.ends: dict[str, _End[H]] = {}

    def leads_on(self) -> bool:
        return bool(self.static or self.segments or self.plain or self.recursive)

    def child(self, segment: Segment | Recursive) -> _Node[H]:
        """The node after *segment*, made if need be."""
        if isinstance(segment, Recursive):
            self.recursive = self.recursive or _Node(repeats=True)
            return self.recursive
        if not segment.parameters:
            return self.static.setdefault(segment.texts[0], _Node())
        if segment.is_plain:
            self.plain = self.plain or _Node()
            return self.plain
        for other, node in self.segments:
            if other.shape == segment.shape:
                return node
        self.segments.append((segment, _Node()))
        node = self.segments[-1][1]
        self.segments.sort(key=lambda edge: edge[0].rank)  # stable: then as registered
        return node


#: Where a path can be in the trie, with the values so far, the one that wins first.
_States = Sequence[tuple[_Node[H], tuple[Any, ...]]]


def _step(
    states: _States[H],
    name: Any,
    match: Callable[[Segment, Any], tuple[Any, ...] | None] = Segment.match,
) -> _States[H]:
    """The states after one more name.

    All ways are followed side by side, so no path costs more than its names times the nodes. Only
    a node that repeats can be reached twice: by its own loop, with fewer names before it and so
    first, and from above, which then never wins.
    """
    after: list[tuple[_Node[H], tuple[Any, ...]]] = []
    looped: set[_Node[H]] = set()
    for node, values in states:
        child = node.static.get(name)
        if child is not None:
            after.append((child, values))
        for segment, child in node.segments:
            found = match(segment, name)
            if found is not None:
                after.append((child, values + found))
        if node.plain is not None:
            after.append((node.plain, (*values, name)))
        child = node.recursive
        if child is not None and child not in looped:
            after.append((child, (*values, (name,))))
        if node.repeats:
            looped.add(node)
            after.append((node, (*values[:-1], (*values[-1], name))))
    return after


class Resolution(Generic[H]):
    """What the routes say about a path. False if none matches it or goes on below it.

    (The root is never False: a file system without routes has it too.)
    """

    __slots__ = ("_states",)

    def __init__(self, states: _States[H]) -> None:
        self._states = states

    def __bool__(self) -> bool:
        return bool(self._states)

    def child(self, name: str) -> Resolution[H]:
        """The resolution of *name* in this directory; costs the same at any depth."""
        return Resolution(_step(self._states, name))

    def get(self, kind: str) -> Match[H] | None:
        """The match that wins among the routes of *kind*."""
        for node, values in self._states:
            end = node.ends.get(kind)
            if end is not None:
                return end.match(values)
        return None

    @property
    def handlers(self) -> dict[str, Match[H]]:
        """For each kind that has a route for this path, the match that wins."""
        kinds = dict.fromkeys(kind for node, _ in self._states for kind in node.ends)
        return {kind: match for kind in kinds if (match := self.get(kind)) is not None}

    @property
    def is_prefix(self) -> bool:
        """Whether a route goes on below: the path is a directory by itself.

        A recursive parameter that could take more names does not count; see has_dynamic.
        """
        return any(node.leads_on() for node, _ in self._states)

    @property
    def static_children(self) -> list[str]:
        """The names that routes spell out below this path, those of the winning routes first."""
        return list(dict.fromkeys(name for node, _ in self._states for name in node.static))

    @property
    def has_dynamic(self) -> bool:
        """Whether a route has a parameter for names below: static_children may not be all."""
        return any(
            node.repeats or node.segments or node.plain or node.recursive
            for node, _ in self._states
        )

    def types(self, kinds: Mapping[str, int]) -> frozenset[int]:
        """What type the path has, as far as routes tell without running a handler.

        kinds: the S_IF* value that a route of a kind implies; kinds not in it imply nothing. A
        path that routes go on below is S_IFDIR. The routes that win and imply anything decide.
        One type is certain; several contradict each other and none says nothing: ask a handler.
        """
        for node, _ in self._states:
            found = {kinds[kind] for kind in node.ends if kind in kinds}
            if node.leads_on():
                found.add(S_IFDIR)
            if found:
                return frozenset(found)
        return frozenset()


class Router(Generic[H]):
    """A set of routes. Register first, then resolve, from as many threads as there are.

    converters: the table of converters for the patterns, the built-in ones included; add to it.
    """

    def __init__(self, converters: Mapping[str, ConverterLike] | None = None) -> None:
        self.converters: dict[str, ConverterLike] = {**CONVERTERS, **(converters or {})}
        self._reset(())

    @property
    def routes(self) -> Sequence[Route[H]]:
        """All routes as they were registered."""
        return tuple(self._routes)

    def add(self, pattern: str | Pattern, kind: str, value: H) -> Route[H]:
        """Register *value* for the paths of *pattern*. Raises: RouteError, and changes nothing."""
        if not isinstance(pattern, Pattern):
            pattern = Pattern.parse(pattern, self.converters)
        route = Route(pattern, kind, value)
        self.add_all([route])
        return route

    def include(self, prefix: str | Pattern, other: Router[H]) -> None:
        """Register the routes that *other* has now, below *prefix*, which may have parameters.

        Raises: RouteError, and changes nothing.
        """
        if not isinstance(prefix, Pattern):
            prefix = Pattern.parse(prefix, self.converters)
        self.add_all([Route(prefix / r.pattern, r.kind, r.value) for r in other.routes])

    def add_all(self, routes: Iterable[Route[H]]) -> None:
        """Register all *routes*, or none. Raises: RouteError."""
        before = self.routes
        try:
            for route in routes:
                self._insert(route)
                self._check_reachable(route.kind)
        except Exception:
            self._reset(before)
            raise

    def resolve(self, path: str) -> Resolution[H]:
        """Return what the routes say about an absolute *path* ("/", "/a/b").

        Raises: ValueError if it does not begin with "/", ends with one or has two in a row.
        """
        root, *names = path.split("/") if path != "/" else [""]
        if root or not path or "" in names:
            raise ValueError(f"not an absolute, normal path: {path!r}")
        states: _States[H] = [(self._root, ())]
        for name in names:
            states = _step(states, name)
        return Resolution(states)

    def _reset(self, routes: Iterable[Route[H]]) -> None:
        self._root: _Node[H] = _Node()
        self._routes: list[Route[H]] = []
        # For each kind, the recursive routes (no other can be out of reach), each with a path that
        # it wins.
        self._won: dict[str, dict[Route[H], tuple[Any, ...] | None]] = {}
        for route in routes:
            self._insert(route)

    def _insert(self, route: Route[H]) -> None:
        for expansion in route.pattern.expansions():
            node = self._root
            for segment in expansion:
                if segment is not None:
                    node = node.child(segment)
            there = node.ends.get(route.kind)
            order = route.pattern.order
            if there is not None and there.route.pattern.order == order:
                raise RouteError(f"route {route} matches the same paths as route {there.route}")
            if there is None or order < there.route.pattern.order:
                node.ends[route.kind] = _End(route, expansion)
        self._routes.append(route)
        if any(route.pattern.order):
            self._won.setdefault(route.kind, {})[route] = None

    def _check_reachable(self, kind: str) -> None:
        """Raises: RouteError if one of the recursive routes wins no path.

        Paths are tried whose names fit as little as they can: a text, the shape of a segment that
        only this segment matches, or None, which only `:name` and recursive parameters match. If
        a route wins none of these it wins no path. A * is tried with as many names as make it
        longer than any other route: from there on, one more changes nothing.
        """
        won = self._won.get(kind, {})
        longest = max((len(route.pattern.segments) for route in self._routes), default=0)
        for route, last in won.items():
            winners: dict[Route[H] | None, None] = {}
            known = () if last is None else (last,)
            for path in chain(known, _samples(route.pattern, longest + 1)):
                winner = self._winner(path, kind)
                if winner is route:
                    won[route] = path
                    break
                winners[winner] = None
            else:
                others = " or ".join(f"route {winner}" for winner in winners)
                raise RouteError(f"route {route} is out of reach: on each path {others} wins")

    def _winner(self, path: Iterable[Any], kind: str) -> Route[H] | None:
        states: _States[H] = [(self._root, ())]
        for name in path:
            states = _step(states, name, _match_sample)
        return next((node.ends[kind].route for node, _ in states if kind in node.ends), None)


def _samples(pattern: Pattern, longest: int) -> Iterator[tuple[Any, ...]]:
    for expansion in pattern.expansions():
        ways: list[Iterable[tuple[Any, ...]]] = []
        for segment in expansion:
            if isinstance(segment, Recursive):
                ways.append([(None,) * count for count in range(1, longest + 1)])
            elif segment is not None:
                text = segment.texts[0]
                fixed = None if segment.is_plain else segment.shape
                ways.append([(fixed if segment.parameters else text,)])
        for names in product(*ways):
            yield tuple(name for part in names for name in part)


def _match_sample(segment: Segment, name: Any) -> tuple[Any, ...] | None:
    if isinstance(name, str):
        return segment.match(name)
    return () if name == segment.shape else None


@dataclass(frozen=True)
class Call:
    """How to call *handler*: which names it takes by position, and which by keyword."""

    handler: Callable[..., Any]
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    #: Names of these that are the route's parameters; the others are given with each call.
    own: frozenset[str]

    def __call__(self, ps: Any, **given: Any) -> Any:
        """Call the handler with what it takes of a match's parameters, `ps` itself, and *given*.

        *given* holds at least the names that bind() was told, `ps` apart.
        """
        given["ps"] = ps
        for name in self.own:
            given[name] = getattr(ps, name)
        return self.handler(
            *[given[name] for name in self.positional],
            **{name: given[name] for name in self.keywords},
        )


def bind(
    handler: Callable[..., Any], pattern: Pattern, given: Collection[str] = ("path", "ps", "ctx")
) -> Call:
    """Return how to call *handler* for *pattern*, by the names of its own parameters.

    It takes what it wants of the pattern's parameters and of the names in *given*; its `**kwargs`
    get the rest of the pattern's. A parameter with a default may be unknown, and keeps it.
    Raises: RouteError for a name that neither has, or that both have.
    """
    called = getattr(handler, "__qualname__", None) or repr(handler)
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError) as error:
        raise _error(pattern, f"the parameters of {called} are unknown: {error}") from error
    positional: list[str] = []
    keywords: list[str] = []
    catches_all = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            catches_all = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif name in given and name in pattern.names:
            raise _error(
                pattern, f"{called} takes {name!r}: the route's parameter or what all handlers get?"
            )
        elif name in given or name in pattern.names:
            by_position = parameter.kind is parameter.POSITIONAL_ONLY
            (positional if by_position else keywords).append(name)
        elif parameter.default is parameter.empty:
            known = ", ".join((*pattern.names, *given))
            raise _error(pattern, f"{called} takes {name!r}, but there are only {known}")
    taken = {*positional, *keywords}
    if catches_all:
        keywords += (name for name in pattern.names if name not in taken)
    own = {*positional, *keywords} & set(pattern.names)
    return Call(handler, tuple(positional), tuple(keywords), frozenset(own))
