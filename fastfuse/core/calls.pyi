import logging
from collections.abc import Awaitable, Iterable

log: logging.Logger
ERRNO_OF_CLASS: dict[type[OSError], int]
OPERATIONS: tuple[str, ...]

async def await_each(waiting: Iterable[tuple[str, Awaitable[object]]]) -> None: ...

class Loan: ...

class PollHandle:
    def notify(self) -> None: ...
