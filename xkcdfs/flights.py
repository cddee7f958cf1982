"""One call for all who want the same thing at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from xkcdfs.errors import FetchError

__all__ = ["Flights"]

T = TypeVar("T")


class Flights:
    """Calls under way, by key. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, Future[Any]] = {}

    def run(self, key: str, call: Callable[[], T]) -> T:
        """What *call* returns or raises; if a call for *key* is under way, what that one does."""
        with self._lock:
            flight = self._calls.get(key)
            leads = flight is None
            if flight is None:
                flight = self._calls[key] = Future()
        if not leads:
            shared: T = flight.result()
            return shared
        try:
            result = call()
        except Exception as error:
            flight.set_exception(error)
            raise
        except BaseException as error:
            # A KeyboardInterrupt is for this thread alone; the others learn that it gave up.
            flight.set_exception(FetchError(key, f"given up ({type(error).__name__})"))
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            with self._lock:
                del self._calls[key]
