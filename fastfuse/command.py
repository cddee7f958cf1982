"""The command line of a file system: mountpoint, -f, -o, -d; the background; signals; the exit status."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastfuse.mountpoint import MountError
from fastfuse.operations import Operations
from fastfuse.session import Session

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def make_parser(**settings: Any) -> argparse.ArgumentParser:
    """A parser of the arguments that every file system has; add your own, and give it to `run`."""
    parser = argparse.ArgumentParser(**settings)
    parser.add_argument("mountpoint", help="an empty directory")
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground; Ctrl-C unmounts")
    parser.add_argument(
        "-o", dest="options", action="append", default=[], metavar="OPTIONS", help="mount options: ro,allow_other,..."
    )
    parser.add_argument("-d", "--debug", action="store_true", help="log each request; stay in the foreground")
    return parser


def run(
    ops: Operations,
    argv: Sequence[str] | None = None,
    *,
    parser: argparse.ArgumentParser | None = None,
    **settings: Any,
) -> int:
    """Mount *ops* as the command line says, and serve; the exit status.

    *settings* are Session's. A mount that fails is one line on standard error and status 1, also in the background.
    """
    parser = parser or make_parser()
    return serve(ops, parser.parse_args(argv), program=parser.prog, **settings)


def serve(ops: Operations, args: argparse.Namespace, *, program: str | None = None, **settings: Any) -> int:
    """`run`, with arguments that are parsed already; *program* names who has failed (None: as it was called)."""
    program = program or os.path.basename(sys.argv[0])
    options = [*settings.pop("options", ()), *args.options]
    log_to_stderr()
    try:
        mount(ops, args.mountpoint, args.foreground or args.debug, options=options, debug=args.debug, **settings)
    except (OSError, ValueError) as error:
        print(f"{program}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    return 0


def mount(ops: Operations, mountpoint: str | os.PathLike[str], foreground: bool, **settings: Any) -> None:
    """Mount *ops* and serve until it is unmounted: by a signal (SIGINT, SIGTERM, SIGHUP) or from outside.

    In the background, the caller's process ends (os._exit, status 0) once the file system is mounted; a mount that
    fails raises in the caller's process, which goes on. Raises MountError, ValueError.
    """
    session = Session(ops, mountpoint, **settings)
    if foreground:
        with until_signalled(session):
            session.run()
        return
    with in_background() as mounted, until_signalled(session):
        session.mount()
        try:
            session.start()
            mounted()
            session.wait()
        finally:
            session.close()


@contextlib.contextmanager
def until_signalled(session: Session) -> Iterator[None]:
    """Let the signals that end a program end the session instead. Only the main thread can; others change nothing.

    A signal is seen as a byte in a pipe (signal.set_wakeup_fd), by a thread of its own: the main thread may be about to
    wait, and would not look again, or the GIL may be held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen, tell = os.pipe()
    os.set_blocking(tell, False)

    def watch() -> None:
        while number := os.read(seen, 1):
            if number[0] in SIGNALS:
                session.exit()

    before = {number: signal.signal(number, lambda number, frame: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="fastfuse-signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(tell)
        watcher.join()
        os.close(seen)


@contextlib.contextmanager
def in_background() -> Iterator[Callable[[], None]]:
    """Fork: the block runs in a child of its own session. Calling what is yielded lets the parent exit with 0.

    What the child raises before that is raised in the parent. Must come before any thread: a child has only the thread
    that forks.
    """
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads cannot go to the background: mount in the foreground, or earlier")
    told, tell = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(tell)
        with open(told, encoding="utf-8", errors="surrogateescape") as report:
            failure = report.read()
        if failure == "mounted":
            os._exit(0)
        raise MountError(errno.EIO, failure or "the file system ended before it was mounted")
    os.close(told)
    os.setsid()

    def mounted() -> None:
        # Whoever started us may be waiting for the end of our output.
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.write(tell, b"mounted")
        os.close(tell)

    status = 0
    try:
        yield mounted
    except BaseException as error:
        status = 1
        with contextlib.suppress(OSError):
            os.write(tell, os.fsencode(str(getattr(error, "strerror", None) or error)))
    os._exit(status)


def log_to_stderr() -> None:
    """Show what is logged, unless the program has set up logging itself."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
