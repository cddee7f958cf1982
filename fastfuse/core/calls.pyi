import logging

log: logging.Logger
ERRNO_OF_CLASS: dict[type[OSError], int]
OPERATIONS: tuple[str, ...]

class Loan: ...

class PollHandle:
    def notify(self) -> None: ...
