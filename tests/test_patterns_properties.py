"""The matcher against a slow one that tries every way in which every route could match a path.

The reference shares only the pattern's text with the code: it has its own table of what the
segments used here match, and ranks all ways by the precedence that the module documents.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from fastfuse.routes.patterns import RouteError
from fastfuse.routes.router import Router


@dataclass(frozen=True)
class Known:
    """A segment: its template, how it matches, and where it stands in the precedence."""

    template: str
    expression: str  # each group is a parameter that takes at least one character
    rank: tuple[int, int, int]  # (0 static | 1 pattern | 2 plain, -text, -converters)
    ints: tuple[int, ...] = ()  # which groups are numbers

    def match(self, name: Any) -> Any:
        """The values of the first way to match, the earlier groups as short as can be."""
        found = re.fullmatch(self.expression, name, re.DOTALL)
        if found is None:
            return None
        return [int(v) if i in self.ints else v for i, v in enumerate(found.groups())]


INT = "(0|-?[1-9][0-9]*)"
FIXED = [
    Known("a", "a", (0, 0, 0)),
    Known("b", "b", (0, 0, 0)),
    Known("1", "1", (0, 0, 0)),
    Known(":{}", "(.+)", (2, 0, 0)),
    Known(":{}<int>", INT, (1, 0, -1), (0,)),
    Known(":{}<choice(a,1)>", "(a|1)", (1, 0, -1)),
    Known(":{}<re([ab-]+)>", "([ab-]+)", (1, 0, -1)),
    Known("a:{}", "a(.+)", (1, -1, 0)),
    Known(":{}<str>b", "(.+)b", (1, -1, 0)),
    Known(":{}-:{}", "(.+?)-(.+)", (1, -1, 0)),
    Known(":{}-:{}<int>", f"(.+?)-{INT}", (1, -1, -1), (1,)),
    Known(":{}<int>-:{}<int>", f"{INT}-{INT}", (1, -1, -2), (0, 1)),
    Known(":{}-:{}-:{}", "(.+?)-(.+?)-(.+)", (1, -2, 0)),
]
RECURSIVE = ["*{}", "**{}", "**"]
PLAIN = FIXED[3]
NAMES = ["a", "b", "1", "-1", "01", "ab", "a-b", "a-1", "1--1", "a-b-1", "--", "---", "c"]
KINDS = ["read", "list"]


@dataclass(frozen=True)
class Way:
    """One way in which a route matches: sorts as the precedence says."""

    choices: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    route: int
    values: list[object]

    def key(self) -> Any:
        return (self.choices, self.order)


def text_of(segments: Any) -> Any:
    """The route's text, with parameters named p0, p1, ... in order."""
    count = itertools.count()
    parts = [s.template if isinstance(s, Known) else s for s in segments]
    return "/" + "/".join(re.sub(r"\{\}", lambda _: f"p{next(count)}", part) for part in parts)


def expansions(segments: Any) -> Any:
    """The route with each ** left out or taken as *, in the order in which routers add them."""
    return itertools.product(
        *([None, s] if isinstance(s, str) and s.startswith("**") else [s] for s in segments)
    )


def shape(segment: Any) -> Any:
    return segment.template if isinstance(segment, Known) else "*"


class Reference:
    def __init__(self, routes: Any) -> None:
        self.routes = routes  # (segments, kind)
        # Every edge by the names of the edges before it: what was registered first comes first.
        self.edges: list[tuple[str, ...]] = []
        for segments, _ in routes:
            for expansion in expansions(segments):
                shapes = tuple(shape(s) for s in expansion if s is not None)
                self.edges += (shapes[: i + 1] for i in range(len(shapes)))

    def ways(self, number: Any, names: Any, *, partly: bool = False) -> Any:
        """All ways in which route *number* matches; partly: (expansion, index) that it gets to."""
        segments = self.routes[number][0]
        order = tuple(0 if isinstance(s, Known) else 1 if s[:2] != "**" else 2 for s in segments)
        for expansion in expansions(segments):
            yield from self.assign(expansion, 0, names, (), (), [], number, order, partly)

    def assign(
        self, expansion: Any, index: int, names: Any, choices: Any, shapes: Any, values: Any,
        number: int, order: Any, partly: bool,
    ) -> Any:  # fmt: skip
        if partly and not names:
            yield expansion, index
        if index == len(expansion):
            if not names and not partly:
                yield Way(choices, order, number, values)
            return
        segment = expansion[index]
        following = (number, order, partly)
        if segment is None:
            empty: list[Any] = [[]] if segments_name(self.routes[number][0][index]) else []
            yield from self.assign(
                expansion, index + 1, names, choices, shapes, values + empty, *following
            )
            return
        shapes = (*shapes, shape(segment))
        if isinstance(segment, Known):
            found = segment.match(names[0]) if names else None
            if found is not None:
                tie = self.edges.index(shapes) if segment.rank[0] == 1 else 0
                yield from self.assign(
                    expansion, index + 1, names[1:], (*choices, (*segment.rank, tie)), shapes,
                    values + found, *following,
                )  # fmt: skip
            return
        for count in range(1, len(names) + 1):
            taken = [list(names[:count])] if segments_name(segment) else []
            yield from self.assign(
                expansion, index + 1, names[count:], (*choices, *[(3,)] * count), shapes,
                values + taken, *following,
            )  # fmt: skip

    def winner(self, names: Any, kind: Any) -> Any:
        numbers = [n for n, route in enumerate(self.routes) if route[1] == kind]
        return min((w for n in numbers for w in self.ways(n, names)), key=Way.key, default=None)

    def below(self, names: Any) -> Any:
        """(is_prefix, static_children, has_dynamic) as the routes' ways to get here say."""
        static, goes_on, dynamic = set(), False, False
        for number in range(len(self.routes)):
            for expansion, index in self.ways(number, names, partly=True):
                kept = [s for s in expansion[index:] if s is not None]
                before = [s for s in expansion[:index] if s is not None]
                goes_on = goes_on or bool(kept)
                dynamic = dynamic or bool(before and isinstance(before[-1], str))
                if kept and isinstance(kept[0], Known) and kept[0].rank[0] == 0:
                    static.add(kept[0].template)
                elif kept:
                    dynamic = True
        return goes_on, static, dynamic


def segments_name(segment: Any) -> Any:
    return segment.endswith("{}")


def without_neighbours(segments: Any) -> Any:
    """The segments without the recursive ones that follow another one directly."""
    kept: list[Known | str] = []
    for segment in segments:
        if not (kept and isinstance(segment, str) and isinstance(kept[-1], str)):
            kept.append(segment)
    return tuple(kept)


def routes_of(segments: Any, kinds: Any, most: int = 3) -> Any:
    route = st.lists(st.sampled_from(segments), max_size=most).map(without_neighbours)
    return st.lists(st.tuples(route, st.sampled_from(kinds)), min_size=1, max_size=8)


# Few different segments at a time, so that many routes match one path.
ROUTES = st.lists(
    st.sampled_from([*FIXED, *RECURSIVE]), min_size=2, max_size=5, unique=True
).flatmap(lambda segments: routes_of(segments, KINDS))
PATHS = st.lists(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5), min_size=3).map(
    lambda paths: [[], *([name] for name in NAMES), *paths]
)


def registered(routes: Any) -> Any:
    """A router with those of *routes* that it takes, these, and those that it refuses."""
    router: Router[int] = Router()
    taken: list[Any] = []
    refused: list[Any] = []
    for segments, kind in routes:
        try:
            router.add(text_of(segments), kind, len(taken))
        except RouteError:
            refused.append((list(taken), (segments, kind)))
        else:
            taken.append((segments, kind))
    return router, taken, refused


@settings(max_examples=1000, deadline=None)
@given(ROUTES, PATHS)
def test_the_best_way_wins(routes: Any, paths: Any) -> None:
    router, taken, _ = registered(routes)
    reference = Reference(taken)
    for names in paths:
        path = "/" + "/".join(names)
        resolution = router.resolve(path)
        for kind in KINDS:
            expected, match = reference.winner(names, kind), resolution.get(kind)
            if expected is None:
                assert match is None
                continue
            assert match is not None
            assert (match.route.value, list(match.params)) == (expected.route, expected.values)
            if "**" not in taken[expected.route][0]:
                assert match.route.pattern.path(**match.params._asdict()) == path
        assert set(resolution.handlers) == {k for k in KINDS if reference.winner(names, k)}


@settings(max_examples=200, deadline=None)
@given(ROUTES, PATHS)
def test_what_is_below(routes: Any, paths: Any) -> None:
    router, taken, _ = registered(routes)
    reference = Reference(taken)
    for names in paths:
        resolution = router.resolve("/" + "/".join(names))
        goes_on, static, dynamic = reference.below(names)
        assert resolution.is_prefix == goes_on
        assert set(resolution.static_children) == static
        assert len(resolution.static_children) == len(static)
        assert resolution.has_dynamic == dynamic
        reached = any(
            any(reference.ways(n, names, partly=True)) for n in range(len(reference.routes))
        )
        assert bool(resolution) == (reached or not names)


@settings(max_examples=200, deadline=None)
@given(ROUTES)
def test_str_and_parse_agree(routes: Any) -> None:
    router, taken, _ = registered(routes)
    again: Router[int] = Router()
    for route, (segments, kind) in zip(router.routes, taken, strict=True):
        assert str(route.pattern) == text_of(segments)
        again.add(str(route.pattern), kind, route.value)
    assert router.resolve("/").static_children == again.resolve("/").static_children


def wins_somewhere(routes: Any, number: Any, depth: Any) -> Any:
    """Whether route *number* wins a path of at most *depth* names, one for each thing to match."""
    reference = Reference(routes)
    kind = routes[number][1]
    for count in range(depth + 1):
        for names in itertools.product(["a", "c"], repeat=count):
            if any(reference.ways(number, names)):
                winner = reference.winner(names, kind)
                if winner is not None and winner.route == number:
                    return True
    return False


@settings(max_examples=500, deadline=None)
@given(routes_of([FIXED[0], PLAIN, PLAIN, *RECURSIVE[:2]], ["read"]).map(lambda routes: routes[:5]))
def test_a_route_is_refused_if_and_only_if_one_would_win_nothing(routes: Any) -> None:
    _, taken, refused = registered(routes)
    assert all(wins_somewhere(taken, number, 5) for number in range(len(taken)))
    for before, route in refused:
        all_routes = [*before, route]
        duplicate = any(
            kind == route[1] and [shape_of(s) for s in segments] == [shape_of(s) for s in route[0]]
            for segments, kind in before
        )
        event("duplicate" if duplicate else "out of reach")
        assert duplicate or not all(
            wins_somewhere(all_routes, number, 5) for number in range(len(all_routes))
        )


def shape_of(segment: Any) -> Any:
    return segment.template if isinstance(segment, Known) else segment.replace("{}", "")
