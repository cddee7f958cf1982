"""Patterns, converters, routers and the binding of handlers."""

from __future__ import annotations

import functools
import stat
import sys
from datetime import date
from typing import Any

import pytest

from fastfuse.routes.binding import bind
from fastfuse.routes.converters import CONVERTERS, Converter
from fastfuse.routes.patterns import Pattern, RouteError
from fastfuse.routes.router import Match, Router

TYPES = {
    "read": stat.S_IFREG,
    "write": stat.S_IFREG,
    "list": stat.S_IFDIR,
    "readlink": stat.S_IFLNK,
}


def router_of(*patterns: Any, kind: str = "read") -> Router[Any]:
    router: Router[Any] = Router()
    for pattern in patterns:
        router.add(pattern, kind, pattern)
    return router


def match_of(router: Router[Any], path: str) -> Match[Any]:
    match = router.resolve(path).get("read")
    assert match is not None
    return match


def won(router: Any, path: Any, kind: str = "read") -> Any:
    """The value and the parameters that win for *path*."""
    match = router.resolve(path).get(kind)
    return None if match is None else (match.route.value, match.params._asdict())


def params(pattern: Any, path: Any) -> Any:
    match = router_of(pattern).resolve(path).get("read")
    return None if match is None else match.params._asdict()


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/", {}),
        ("/", "/a", None),
        ("/a/b", "/a/b", {}),
        ("/a/b", "/a", None),
        ("/a/b", "/a/b/c", None),
        ("/::a::", "/:a:", {}),
        ("/:n", "/x", {"n": "x"}),
        ("/:n", "/", None),
        ("/:n", "/\udcff", {"n": "\udcff"}),
        ("/:n.png", "/12.png", {"n": "12"}),
        ("/:n.png", "/.png", None),
        ("/:n.png", "/12.png.png", {"n": "12.png"}),
        ("/:year-:month", "/2024-05", {"year": "2024", "month": "05"}),
        ("/:year-:month", "/2024-", None),
        ("/:year-:month", "/a-b-c", {"year": "a", "month": "b-c"}),
        ("/:year-:month", "/--c", {"year": "-", "month": "c"}),
        ("/v:major.:minor", "/v1.2.3", {"major": "1", "minor": "2.3"}),
        ("/aa:n.aa", "/aa.aa", None),
        ("/:a:::::b", "/x::y", {"a": "x", "b": "y"}),
        ("/:n<str>_s", "/x_s", {"n": "x"}),
        ("/*p", "/a/b", {"p": ["a", "b"]}),
        ("/*p", "/", None),
        ("/r/*p/end", "/r/a/end/end", {"p": ["a", "end"]}),
        ("/r/*p/end", "/r/a/end", {"p": ["a"]}),
        ("/r/*p/end", "/r/end", None),
        ("/r/*p/x/*q", "/r/a/x/x/b", {"p": ["a"], "q": ["x", "b"]}),
        ("/**p", "/", {"p": []}),
        ("/**p", "/a/b", {"p": ["a", "b"]}),
        ("/r/**/end", "/r/end", {}),
        ("/r/**/end", "/r/a/b/end", {}),
        ("/**a/x/**b", "/x", {"a": [], "b": []}),
        ("/**a/x/**b", "/y/x/z", {"a": ["y"], "b": ["z"]}),
        ("/:y/**p/:z", "/1/2/3", {"y": "1", "p": ["2"], "z": "3"}),
        ("/:n<int>", "/7", {"n": 7}),
        ("/:n<int>", "/-7", {"n": -7}),
        ("/:n<int>", "/0", {"n": 0}),
        *(("/:n<int>", f"/{bad}", None) for bad in ("007", "+7", "-0", "7 ", "1_0", "٣", "--1")),
        ("/:f<float>", "/1.5", {"f": 1.5}),
        *(("/:f<float>", f"/{bad}", None) for bad in ("1.50", "1", "nan", "inf", "1e5")),
        ("/:d<date>", "/2024-02-29", {"d": date(2024, 2, 29)}),
        *(("/:d<date>", f"/{bad}", None) for bad in ("2023-02-29", "20240229", "2024-2-29")),
        ("/:a-:d<date>", "/x-y-2024-02-29", {"a": "x-y", "d": date(2024, 2, 29)}),
        ("/:a-:d<date>", "/x-y-2024-02-30", None),
        ("/:x<choice(a,b c)>", "/b c", {"x": "b c"}),
        ("/:x<choice(a,b c)>", "/c", None),
        (r"/:x<re((a|b)/?[^/]{2})>", "/axy", {"x": "axy"}),
        (r"/:x<re((a|b)/?[^/]{2})>", "/axyz", None),
        ("/:x<str>", "/a", {"x": "a"}),
    ],
)
def test_one_pattern(pattern: Any, path: Any, expected: Any) -> None:
    assert params(pattern, path) == expected


def test_values_have_their_types() -> None:
    match = match_of(router_of("/:n<int>/*rest"), "/1/a")
    assert type(match.params.n) is int and type(match.params.rest) is list
    assert match.params.n == 1 and list(match.params) == [1, ["a"]]


def test_a_list_of_names_belongs_to_its_match() -> None:
    resolution = router_of("/*p").resolve("/a/b")
    one, two = (match.params for _ in range(2) for match in resolution.handlers.values())
    one.p.append("c")
    assert two.p == ["a", "b"] == resolution.handlers["read"].params.p


def test_the_class_of_the_parameters_is_made_at_registration() -> None:
    router = router_of("/:n")
    one, two = (match_of(router, path).params for path in ("/a", "/b"))
    assert type(one) is type(two) is router.routes[0].pattern.parameters


def test_many_splits_of_a_name_end_soon() -> None:
    # Without a memory of what failed this takes some 10**9 steps.
    assert params("/:a-:b-:c-:d-:e-:f<int>", "/" + "x-" * 120 + "x") is None


def test_many_splits_of_a_path_end_soon() -> None:
    assert params("/*a/x/*b/x/*c/x/*d/x/*e/x/*f/end", "/x" * 120) is None


def test_a_name_is_converted_once_however_many_ways_lead_to_it() -> None:
    converted = []
    router: Router[Any] = Router({"noted": Converter(lambda text: converted.append(text))})
    router.add("/*a/x/*b/x/*c/:n<noted>", "read", None)
    names = ["x"] * 12
    assert router.resolve("/" + "/".join(names)).get("read") is not None
    assert 0 < len(converted) <= len(names)


@pytest.mark.parametrize(
    "pattern",
    ["/", "/a/::b", "/:n", "/v:major.:minor<int>", "/*p/end", "/**p", "/**/x", "/:n<str>_x",
     "/:n<str><x", "/:x<choice(a,b)>", r"/:x<re([^/]:\d+)>/:d<date>", "/:a:::::b", "/a*"],
)  # fmt: skip
def test_str_gives_the_pattern_back(pattern: Any) -> None:
    assert str(Pattern.parse(pattern)) == pattern


def test_a_needless_str_is_left_out() -> None:
    assert str(Pattern.parse("/:n<str>.png")) == "/:n.png"


@pytest.mark.parametrize(
    ("pattern", "values", "path"),
    [
        ("/", {}, "/"),
        ("/c/:n<int>.png", {"n": 7}, "/c/7.png"),
        ("/:d<date>", {"d": date(2024, 2, 9)}, "/2024-02-09"),
        ("/:f<float>", {"f": 1e16}, "/1e+16"),
        ("/*p/x", {"p": ["a", "b"]}, "/a/b/x"),
        ("/**p/x", {"p": ()}, "/x"),
        ("/**/x", {}, "/x"),
        ("/:x<choice(a,b)>", {"x": "b"}, "/b"),
        ("/:x<re(a+)>-::", {"x": "aa"}, "/aa-:"),
    ],
)
def test_path_from_parameters(pattern: Any, values: Any, path: Any) -> None:
    parsed = Pattern.parse(pattern)
    assert parsed.path(**values) == path
    match = match_of(router_of(pattern), path)
    assert match.params == tuple(list(v) if k == "p" else v for k, v in values.items())


@pytest.mark.parametrize(
    ("pattern", "values", "complaint"),
    [
        ("/:n", {}, "takes ['n'], not []"),
        ("/:n", {"n": "a", "m": "b"}, "takes ['n'], not ['n', 'm']"),
        ("/:n", {"n": "a/b"}, "'a/b' does not stand for"),
        ("/:n", {"n": ".."}, "'..' does not stand for"),
        ("/:n", {"n": ""}, "'' does not stand for"),
        ("/:n", {"n": 5}, "'5' does not stand for (5,)"),
        ("/:n<int>", {"n": "x"}, "'x' does not stand for"),
        ("/:n<int>", {"n": True}, "'True' does not stand for"),
        ("/:d<date>", {"d": "2024"}, "d cannot be '2024'"),
        ("/:x<choice(a,b)>", {"x": "c"}, "'c' does not stand for"),
        ("/:a-:b", {"a": "x-y", "b": "z"}, "'x-y-z' does not stand for"),
        ("/*p", {"p": []}, "p cannot be []"),
        ("/*p", {"p": "ab"}, "p cannot be 'ab'"),
        ("/*p", {"p": ["a", "."]}, "'.' in p is not a name"),
        ("/**p", {"p": ["a", 1]}, "1 in p is not a name"),
    ],
)
def test_no_path_from_parameters(pattern: Any, values: Any, complaint: Any) -> None:
    with pytest.raises(ValueError) as caught:
        Pattern.parse(pattern).path(**values)
    assert complaint in str(caught.value)


def test_own_converters() -> None:
    router: Router[Any] = Router({"hex": Converter(lambda text: int(text, 16), "{:x}".format)})
    router.converters["upto"] = lambda limit: Converter(
        lambda text: "0123456789"[: int(limit)].index(text)
    )
    router.add("/:n<hex>", "read", "hex")
    router.add("/d/:n<upto(3)>", "read", "upto")
    assert won(router, "/ff") == ("hex", {"n": 255})
    assert won(router, "/FF") is None
    assert won(router, "/d/2") == ("upto", {"n": 2})
    assert won(router, "/d/3") is None
    assert router.routes[0].pattern.path(n=255) == "/ff"
    with pytest.raises(ValueError, match="cannot write n"):
        router.routes[1].pattern.path(n=2)
    assert "hex" not in CONVERTERS


def test_an_error_in_a_converter_is_not_a_mismatch() -> None:
    def broken(text: Any) -> Any:
        raise RuntimeError(text)

    router: Router[Any] = Router({"bad": Converter(broken)})
    router.add("/:n<bad>", "read", 0)
    with pytest.raises(RuntimeError):
        router.resolve("/a")


@pytest.mark.parametrize(
    ("patterns", "path", "winner"),
    [
        (["/:n", "/a"], "/a", "/a"),
        (["/:n", "/:m<int>"], "/7", "/:m<int>"),
        (["/:n", "/:m<int>"], "/x", "/:n"),
        (["/:n.png", "/:m.tar.png"], "/x.tar.png", "/:m.tar.png"),
        (["/:n<re(a.*)>", "/:m<re(.*b)>"], "/ab", "/:n<re(a.*)>"),
        (["/:m<re(.*b)>", "/:n<re(a.*)>"], "/ab", "/:m<re(.*b)>"),
        (["/:a-:b", "/:a-:b<int>"], "/x-1", "/:a-:b<int>"),
        (["/*p", "/:n"], "/a", "/:n"),
        (["/*p", "/a/b"], "/a/c", "/*p"),  # back out of /a
        (["/:a/b", "/a/:b/c"], "/a/b", "/:a/b"),
        (["/*p", "/*p/end"], "/a/b/end", "/*p/end"),
        (["/*p", "/**/end"], "/end", "/**/end"),
        (["/*p", "/**/end"], "/a/b/end", "/**/end"),
        (["/**p", "/"], "/", "/"),
        (["/**p", "/"], "/a", "/**p"),
        (["/**p", "/*q"], "/a", "/*q"),
        (["/**p", "/*q"], "/", "/**p"),
        (["/**p/x", "/x"], "/x", "/x"),
    ],
)
def test_precedence(patterns: Any, path: Any, winner: Any) -> None:
    assert won(router_of(*patterns), path)[0] == winner
    if "<re" not in winner:  # between equals the first one registered wins
        assert won(router_of(*reversed(patterns)), path)[0] == winner


def test_each_kind_is_resolved_by_itself() -> None:
    router: Router[Any] = Router()
    for pattern, kind in [("/a", "stat"), ("/:n", "read"), ("/*p", "list"), ("/:n<int>", "read")]:
        router.add(pattern, kind, pattern)
    handlers = router.resolve("/a").handlers
    found = {kind: (match.route.value, tuple(match.params)) for kind, match in handlers.items()}
    assert found == {"stat": ("/a", ()), "read": ("/:n", ("a",)), "list": ("/*p", (["a"],))}
    assert set(router.resolve("/a/b").handlers) == {"list"}
    assert router.resolve("/").handlers == {}


def test_a_resolution_says_what_is_below() -> None:
    router = router_of("/a/b/c", "/a/:n.png", "/r/*p/end", "/d/x", "/d/x/y", "/s/t", "/s/u")
    root = router.resolve("/")
    assert root.is_prefix and not root.has_dynamic
    assert root.static_children == ["a", "r", "d", "s"]
    a = root.child("a")
    assert a.is_prefix and a.has_dynamic and a.static_children == ["b"]
    assert not a.child("x.png").is_prefix and won(router, "/a/x.png") == ("/a/:n.png", {"n": "x"})
    r = router.resolve("/r")
    assert r.is_prefix and r.has_dynamic and r.static_children == []
    below = router.resolve("/r/1/2")
    assert below.is_prefix and below.has_dynamic and below.static_children == ["end"]
    end = router.resolve("/r/1/end")
    assert end.is_prefix and end.static_children == ["end"]
    assert not router.resolve("/s").has_dynamic
    nothing = router.resolve("/nothing")
    assert not nothing and not nothing.is_prefix and nothing.handlers == {}


def test_static_children_of_all_routes_that_reach_a_path() -> None:
    router = router_of("/a/x", "/:n/y", "/*p/z", "/:n/x/1")
    assert router.resolve("/a").static_children == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("/", {stat.S_IFDIR}),
        ("/file", {stat.S_IFREG}),
        ("/link", {stat.S_IFLNK}),
        ("/dir", {stat.S_IFDIR}),
        ("/dir/only", {stat.S_IFDIR}),
        ("/any", {stat.S_IFREG}),
        ("/both", {stat.S_IFREG, stat.S_IFDIR}),
        ("/fileanddir", {stat.S_IFREG, stat.S_IFDIR}),
        ("/asked", {stat.S_IFREG}),
        ("/deep/a", set()),
        ("/any/none", set()),
    ],
)
def test_types(path: Any, types: Any) -> None:
    router: Router[Any] = Router()
    for pattern, kind in [
        ("/file", "read"), ("/file", "write"), ("/link", "readlink"), ("/dir/only/x", "stat"),
        ("/:n", "read"), ("/both", "read"), ("/both", "list"), ("/fileanddir", "write"),
        ("/fileanddir/x", "read"), ("/asked", "stat"), ("/deep/*p", "stat"),
    ]:  # fmt: skip
        router.add(pattern, kind, None)
    assert router.resolve(path).types(TYPES) == types


@pytest.mark.parametrize("path", ["", "a", "a/b", "/a/", "//", "/a//b"])
def test_resolve_refuses_what_is_no_path(path: Any) -> None:
    with pytest.raises(ValueError, match="not an absolute, normal path"):
        router_of("/*p").resolve(path)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "does not begin with '/'"),
        ("a/b", "does not begin with '/'"),
        (b"/a", "not a str"),
        ("/a\0", "no name holds a NUL"),
        ("//", "segment 1 (''): empty"),
        ("/a/", "segment 2 (''): empty"),
        ("/a//b", "segment 2 (''): empty"),
        ("/a/../b", "segment 2 ('..'): no path holds this name"),
        ("/.", "segment 1 ('.'): no path holds this name"),
        ("/a/:", "segment 2 (':'): a colon needs a parameter's name"),
        ("/:-x", "segment 1 (':-x'): a colon needs a parameter's name"),
        ("/12:30", "segment 1 ('12:30'): '30' is not a parameter's name"),
        ("/:class", "segment 1 (':class'): 'class' is not a parameter's name"),
        ("/*class", "segment 1 ('*class'): 'class' is not a parameter's name"),
        ("/:_n", "segment 1 (':_n'): '_n' is not a parameter's name"),
        ("/x/*", "segment 2 ('*'): * needs a name"),
        ("/***p", "a recursive parameter is * or ** and a name, and fills its segment"),
        ("/*p.txt", "a recursive parameter is * or ** and a name, and fills its segment"),
        ("/*p:n", "a recursive parameter is * or ** and a name, and fills its segment"),
        ("/*p<int>", "a recursive parameter is * or ** and a name, and fills its segment"),
        ("/:a:b", "segment 1 (':a:b'): no text between :a and :b"),
        ("/:a<int>:b", "no text between :a and :b"),
        ("/:n<num>", "no converter is named 'num'; there are choice, date, float, int, re, str"),
        ("/:n<>", "no converter is named ''"),
        ("/:n<int", "the converter of :n is not <name> or <name(argument)>"),
        ("/:n<re(a>", "the converter of :n is not <name> or <name(argument)>"),
        ("/:n<int(3)>", "<int> takes no argument"),
        ("/:n<choice>", "<choice> needs an argument"),
        ("/:n<str(3)>", "no converter is named 'str'"),
        ("/:n<choice()>", "<choice()>: a choice is made of different texts"),
        ("/:n<choice(a,,b)>", "a choice is made of different texts"),
        ("/:n<choice(a,a)>", "a choice is made of different texts"),
        ("/:n<re([)>", "<re([)>: bad regular expression: unterminated character set"),
        ("/:n/:n", "two parameters are named 'n'"),
        ("/:n-:n", "two parameters are named 'n'"),
        ("/:n/*n", "two parameters are named 'n'"),
        ("/*a/*b", "*b may not follow *a directly"),
        ("/**/**a", "**a may not follow ** directly"),
    ],
)
def test_a_wrong_pattern_is_refused(pattern: Any, complaint: Any) -> None:
    router: Router[Any] = Router()
    with pytest.raises(RouteError) as caught:
        router.add(pattern, "read", None)
    assert str(caught.value).startswith(f"route {pattern!r}: ")
    assert complaint in str(caught.value)
    assert router.routes == () and not router.resolve("/").is_prefix


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        (["/a", "/a"], ["/a"]),
        (["/:a", "/:b"], ["/:a", "/:b"]),
        (["/:a", "/:b<str>"], ["/:a", "/:b"]),
        (["/:a<int>.x", "/:b<int>.x"], ["/:a<int>.x", "/:b<int>.x"]),
        (["/:a<re(x+)>", "/:b<re(x+)>"], ["/:a<re(x+)>", "/:b<re(x+)>"]),
        (["/x/*a", "/x/*b"], ["/x/*a", "/x/*b"]),
        (["/x/**a", "/x/**"], ["/x/**a", "/x/**"]),
        (["/**a/x/**b", "/**c/x/**d"], ["/**a/x/**b", "/**c/x/**d"]),
    ],
)
def test_a_duplicate_is_refused(patterns: Any, named: Any) -> None:
    router = router_of(*patterns[:-1])
    with pytest.raises(RouteError, match="matches the same paths as") as caught:
        router.add(patterns[-1], "read", None)
    assert all(f"route {name!r} (read)" in str(caught.value) for name in named)
    router.add(patterns[-1], "write", None)  # another kind: no duplicate


@pytest.mark.parametrize(
    ("patterns", "lost", "named"),
    [
        (["/:b/*a", "/*a/:b"], "/*a/:b", ["/:b/*a"]),
        (["/x", "/x/*a", "/x/**b"], "/x/**b", ["/x", "/x/*a"]),
        (["/:a", "/:a/*b", "/*c"], "/*c", ["/:a", "/:a/*b"]),
        (["/*a", "/**b/:c"], "/*a", ["/**b/:c"]),
        (["/:a/**b/x", "/*c/y/x"], "/*c/y/x", ["/:a/**b/x"]),
    ],
)
def test_a_route_out_of_reach_is_refused(patterns: Any, lost: Any, named: Any) -> None:
    for order in (patterns, patterns[::-1]):
        router = router_of(*order[:-1])
        with pytest.raises(RouteError) as caught:
            router.add(order[-1], "read", None)
        assert str(caught.value).startswith(f"route {lost!r} (read) is out of reach: ")
        assert all(f"route {name!r} (read)" in str(caught.value) for name in named)
        assert [route.value for route in router.routes] == list(order[:-1])


def test_what_is_not_out_of_reach() -> None:
    patterns = ["/", "/:a", "/:a/:b", "/:a/:b/:c", "/*d", "/**e/x", "/**f"]
    with pytest.raises(RouteError, match=r"'/\*\*f'.* is out of reach"):
        router_of(*patterns)
    assert won(router_of(*patterns[:-1]), "/1/2/3/4")[0] == "/*d"


def test_a_refused_route_changes_nothing() -> None:
    router = router_of("/a/:n", "/*p")
    with pytest.raises(RouteError):
        router.add("/b/**x/y/*p", "read", router.add("/b/**x/y/*p", "read", 1))
    assert len(router.routes) == 3
    other = router_of("/new", "/a/:m")
    with pytest.raises(RouteError, match=r"'/a/:m' \(read\) matches the same .* '/a/:n' \(read\)"):
        router.include("/", other)
    assert len(router.routes) == 3
    assert won(router, "/new") == ("/*p", {"p": ["new"]})
    assert "new" not in router.resolve("/").static_children


def test_include() -> None:
    sub = router_of("/", "/:n<int>", "/**rest/x")
    sub.add("/", "list", "sub")
    router = router_of("/top")
    router.include("/sub/:who", sub)
    assert won(router, "/sub/me") == ("/", {"who": "me"})
    assert won(router, "/sub/me", "list") == ("sub", {"who": "me"})
    assert won(router, "/sub/me/7") == ("/:n<int>", {"who": "me", "n": 7})
    assert won(router, "/sub/me/a/x") == ("/**rest/x", {"who": "me", "rest": ["a"]})
    assert [str(route.pattern) for route in router.routes] == [
        "/top", "/sub/:who", "/sub/:who/:n<int>", "/sub/:who/**rest/x", "/sub/:who",
    ]  # fmt: skip
    sub.add("/later", "read", None)
    assert won(router, "/sub/me/later") is None


@pytest.mark.parametrize(
    ("prefix", "pattern", "complaint"),
    [
        ("/:n", "/:n", "route '/:n/:n': two parameters are named 'n'"),
        ("/*p", "/**q", "route '/*p/**q': **q may not follow *p directly"),
        ("sub", "/a", "route 'sub': does not begin with '/'"),
        ("/sub/", "/a", "route '/sub/': segment 2 (''): empty"),
    ],
)
def test_a_wrong_include_is_refused(prefix: Any, pattern: Any, complaint: Any) -> None:
    with pytest.raises(RouteError) as caught:
        Router().include(prefix, router_of(pattern))
    assert complaint in str(caught.value)


class Handlers:
    def method(self, n: Any, path: Any) -> Any:
        return n, path

    def __call__(self, ps: Any) -> Any:
        return tuple(ps)

    @classmethod
    def of_class(cls, m: Any) -> Any:
        return m

    @staticmethod
    def static(ctx: Any, n: Any) -> Any:
        return ctx, n


def positional_only(n: Any, path: Any, /, *, ctx: Any) -> Any:
    return n, path, ctx


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (lambda path, ps: (path, ps.n, ps.m), ("/7/x", 7, "x")),
        (lambda: "nothing", "nothing"),
        (lambda n: n, 7),
        (lambda m, n: (m, n), ("x", 7)),
        (lambda n, other=1: (n, other), (7, 1)),
        (lambda n=1: n, 7),
        (lambda **kwargs: kwargs, {"n": 7, "m": "x"}),
        (lambda n, **kwargs: (n, kwargs), (7, {"m": "x"})),
        (lambda *args, ctx: (args, ctx), ((), "ctx")),
        (positional_only, (7, "/7/x", "ctx")),
        (functools.partial(lambda extra, n: (extra, n), 5), (5, 7)),
        (functools.partial(lambda extra, n: (extra, n), extra=5), (5, 7)),
        (Handlers().method, (7, "/7/x")),
        (Handlers(), (7, "x")),
        (Handlers.of_class, "x"),
        (Handlers.static, ("ctx", 7)),
    ],
)
def test_bind(handler: Any, result: Any) -> None:
    router: Router[Any] = Router()
    router.add("/:n<int>/:m", "read", None)
    match = match_of(router, "/7/x")
    call = bind(handler, match.route.pattern)
    assert call(match.params, path="/7/x", ctx="ctx") == result


def test_a_call_bound_for_a_route_serves_it_below_a_prefix() -> None:
    sub: Router[object] = Router()
    call = bind(lambda n: n, Pattern.parse("/:n"))
    sub.add("/:n", "read", call)
    router: Router[object] = Router()
    router.include("/:who", sub)
    match = match_of(router, "/me/x")
    assert match.route.value is call
    assert call(match.params, path="/me/x", ctx=None) == "x"


def unknown_name(size: Any, n: Any) -> Any:
    raise AssertionError


def takes_path(path: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("pattern", "handler", "complaint"),
    [
        ("/:n", unknown_name, "unknown_name takes 'size', but there are only n, path, ps, ctx"),
        ("/:n", Handlers.method, "Handlers.method takes 'self', but there are only"),
        ("/*path", takes_path, "takes_path takes 'path': the route's parameter or what all"),
        ("/:n", 5, "the parameters of 5 are unknown"),
    ],
)
def test_bind_refuses(pattern: Any, handler: Any, complaint: Any) -> None:
    with pytest.raises(RouteError) as caught:
        bind(handler, Pattern.parse(pattern))
    assert str(caught.value).startswith(f"route {pattern!r}: ")
    assert complaint in str(caught.value)


def test_a_parameter_named_path_is_in_ps() -> None:
    match = match_of(router_of("/*path"), "/a/b")
    call = bind(lambda ps, **kwargs: (ps.path, kwargs), match.route.pattern)
    assert call(match.params, path="/a/b", ctx=None) == (["a", "b"], {"path": ["a", "b"]})


def test_more_names_can_be_given() -> None:
    call = bind(lambda off, n: (off, n), Pattern.parse("/:n"), ("path", "off"))
    assert call(Pattern.parse("/:n").parameters("x"), path="/x", off=3) == (3, "x")


def steps_to_resolve(router: Router[Any], path: str) -> int:
    """How many functions are called, Python's and C's, to find the handler of *path*."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        router.resolve(path).get("read")
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("shape", ["/dir{}/:name", "/dir{}/:n<int>.png", "/dir{}/*names/end"])
def test_the_work_does_not_grow_with_the_number_of_routes(shape: str) -> None:
    path = "/dir5/7.png" if ".png" in shape else "/dir5/a/b/end"
    few, many = (
        steps_to_resolve(router_of(*map(shape.format, range(count))), path) for count in (10, 500)
    )
    assert few == many > 0
