"""The router: which routes a path matches, and which of them wins. Pure Python, no I/O.

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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from stat import S_IFDIR
from typing import Any, Generic, TypeVar

from fastfuse.routes.converters import CONVERTERS, ConverterLike
from fastfuse.routes.patterns import Pattern, Recursive, RouteError, Segment

H = TypeVar("H")


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
        return any(node.repeats or node.segments or node.plain or node.recursive for node, _ in self._states)

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
