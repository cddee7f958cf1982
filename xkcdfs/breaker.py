"""Who stops asking a site that is down, and who waits when it says how long."""

from __future__ import annotations

import threading
import time

__all__ = ["Breaker"]


class Breaker:
    """The state of one site (scheme, host and port). Thread-safe; seconds are time.monotonic().

    It opens after *attempts* failures to connect in a row, or after *urls* different URLs in a row
    whose every try failed. While it is open, no request is sent for *pause* seconds; then one is
    let through: if it fails, the pause doubles up to *longest_pause*.
    """

    def __init__(self, attempts: int, urls: int, pause: float, longest_pause: float) -> None:
        self._attempts = attempts
        self._urls = urls
        self._first_pause = pause
        self._longest_pause = longest_pause
        self._lock = threading.Lock()
        self._until: float | None = None
        self._pause = pause
        self._cause = ""
        self._probing = False
        self._failures = 0
        self._failed_urls: set[str] = set()

    def blocked(self) -> str | None:
        """Why no request may be sent now; None when one may. While the site is on probation, the
        first caller gets None and has to report `succeeded`, `failed` or `dropped`."""
        with self._lock:
            if self._until is None:
                return None
            left = self._until - time.monotonic()
            if left > 0:
                return f"the site is down ({self._cause}); next try in {max(1, round(left))} s"
            if self._probing:
                return f"the site is down ({self._cause}); trying it just now"
            self._probing = True
            return None

    @property
    def state(self) -> str:
        """Why the site is not asked, or on probation; '' when it is in good standing."""
        return self._cause if self._until is not None else ""

    @property
    def on_probation(self) -> bool:
        """Whether the site was down and has not answered since."""
        return self._until is not None

    def succeeded(self) -> bool:
        """The site gave an answer. True when it was down before."""
        with self._lock:
            was_down = self._until is not None
            self._reset()
            return was_down

    def failed(self, url: str, cause: str, *, connecting: bool, final: bool) -> bool:
        """A try failed, while *connecting* or later; *final*: it was the last one for this URL.
        True when the site is now given up."""
        with self._lock:
            if connecting:
                self._failures += 1
            if final:
                self._failed_urls.add(url)
            was_open = self._until is not None
            if was_open and not self._probing:
                return False  # a request that was under way when another one gave the site up
            if not was_open and self._failures < self._attempts \
                    and len(self._failed_urls) < self._urls:  # fmt: skip
                return False
            self._pause = min(self._pause * 2 if was_open else self._pause, self._longest_pause)
            self._until = time.monotonic() + self._pause
            self._cause = cause
            self._probing = False
            return True

    def refused_for(self, seconds: float, cause: str) -> None:
        """The site itself asks for *seconds* without a request."""
        with self._lock:
            self._until = max(self._until or 0, time.monotonic() + seconds)
            self._cause = cause
            self._probing = False

    def dropped(self) -> None:
        """The request that was let through ended without telling anything about the site."""
        with self._lock:
            self._probing = False

    def _reset(self) -> None:
        self._until = None
        self._pause = self._first_pause
        self._probing = False
        self._failures = 0
        self._failed_urls.clear()
