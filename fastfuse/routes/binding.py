"""Binding: a handler gets what its parameters' names ask for. Pure Python, no I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from fastfuse.routes.patterns import Pattern, route_error


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


def bind(handler: Callable[..., Any], pattern: Pattern, given: Collection[str] = ("path", "ps", "ctx")) -> Call:
    """Return how to call *handler* for *pattern*, by the names of its own parameters.

    It takes what it wants of the pattern's parameters and of the names in *given*; its `**kwargs`
    get the rest of the pattern's. A parameter with a default may be unknown, and keeps it.
    Raises: RouteError for a name that neither has, or that both have.
    """
    called = getattr(handler, "__qualname__", None) or repr(handler)
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError) as error:
        raise route_error(pattern, f"the parameters of {called} are unknown: {error}") from error
    positional: list[str] = []
    keywords: list[str] = []
    catches_all = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            catches_all = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif name in given and name in pattern.names:
            raise route_error(pattern, f"{called} takes {name!r}: the route's parameter or what all handlers get?")
        elif name in given or name in pattern.names:
            by_position = parameter.kind is parameter.POSITIONAL_ONLY
            (positional if by_position else keywords).append(name)
        elif parameter.default is parameter.empty:
            known = ", ".join((*pattern.names, *given))
            raise route_error(pattern, f"{called} takes {name!r}, but there are only {known}")
    taken = {*positional, *keywords}
    if catches_all:
        keywords += (name for name in pattern.names if name not in taken)
    own = {*positional, *keywords} & set(pattern.names)
    return Call(handler, tuple(positional), tuple(keywords), frozenset(own))
