"""Running handlers: one code path for `def` and `async def`, one for what they raise."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, TypeVar

from fastfuse.core.calls import ERRNO_OF_CLASS
from fastfuse.errors import FuseError
from fastfuse.routes.binding import Call

log = logging.getLogger("fastfuse")

T = TypeVar("T")


class _Handover:
    """Awaited where only an event loop can go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class _Started:
    """The rest of a coroutine that has run for a while."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.work.__await__()


def drive(work: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
    """Run *work* on this thread. Returns its result, or the rest of it, for an event loop.

    All that is done here is written as coroutines, which wait for nothing unless a handler is one:
    so plain handlers run where the request came in, and the others where they belong.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    return _rest(work)


async def _rest(work: Coroutine[Any, Any, T]) -> T:
    result: T = await _Started(work)
    return result


def on_loop() -> bool:
    """Whether this thread runs an event loop just now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Turn:
    """A lock around what `drive` runs: waits on the thread or, on an event loop, lets others run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # may be let go of by another thread than took it

    async def __aenter__(self) -> None:
        if not on_loop():
            self._lock.acquire()
            return
        while not self._lock.acquire(blocking=False):
            await asyncio.sleep(0.001)

    async def __aexit__(self, *exc: object) -> None:
        self._lock.release()


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling *function* gives a coroutine."""
    if isinstance(function, Call):
        function = function.handler
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (the method itself is wanted)
    )


async def run(what: object, function: Callable[..., Any], *args: Any, **given: Any) -> Any:
    """The result of a handler, or of something that it gave, which is *what* in the log.

    An async function runs on the event loop; a plain one where `drive` is, or, when that is the
    loop, on a thread. Raises FuseError: of an OSError's errno or class, else EIO, and it is logged.
    """
    try:
        if on_loop() and not is_async(function):
            result = await asyncio.to_thread(function, *args, **given)
        else:
            result = function(*args, **given)
        if inspect.isawaitable(result):
            if not on_loop():
                await _Handover()
            result = await result
    except Exception as error:
        raise failure(what, error) from error
    return result


async def items(what: object, given: Any) -> list[Any]:
    """All items of an iterable, maybe an async one. Raises as `run`."""
    if not hasattr(given, "__aiter__"):
        return await run(what, list, given)  # type: ignore[no-any-return]
    found: list[Any] = []
    parts, end = aiter(given), object()
    while (item := await next_of(what, parts, end)) is not end:
        found.append(item)
    return found


async def next_of(what: object, parts: AsyncIterator[T], end: T) -> T:
    """The next of *parts*, or *end*. Raises as `run`."""
    if not on_loop():
        await _Handover()
    try:
        return await anext(parts)
    except StopAsyncIteration:
        return end
    except Exception as error:
        raise failure(what, error) from error


def failure(what: object, error: Exception) -> FuseError:
    """What the caller gets for *error*; logged if nobody chose an errno."""
    if isinstance(error, FuseError):
        return error
    if isinstance(error, OSError):
        code = error.errno
        if not isinstance(code, int) or not 0 < code < 512:
            code = ERRNO_OF_CLASS.get(type(error), 0)
        if code:
            return FuseError(code, str(error))
    log.error("%s failed", what, exc_info=error)
    return FuseError(5, f"{what} failed: {error!r}")
