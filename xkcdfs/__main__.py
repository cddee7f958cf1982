"""`xkcdfs MOUNTPOINT`: the command line."""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from fastfuse import command
from xkcdfs import __version__
from xkcdfs.cache import Cache, default_directory
from xkcdfs.client import Client
from xkcdfs.collection import SITE, Collection
from xkcdfs.demo import Site
from xkcdfs.filesystem import comics
from xkcdfs.shelf import Shelf
from xkcdfs.sync import parse_range, sync

__all__ = ["main"]

log = logging.getLogger("xkcdfs")

USAGE = "xkcdfs [options] [URL] MOUNTPOINT\n       xkcdfs [options] --sync [RANGE]"
EPILOG = """\
examples:
  xkcdfs ~/xkcd                mount in the background; fusermount3 -u ~/xkcd ends it
  xkcdfs ~/xkcd -f --demo      try it on a made-up site, without the network
  xkcdfs --sync 3000-          bring all comics from 3000 on into the cache
  xkcdfs ~/xkcd --offline      show what is in the cache, and ask nobody

In /etc/fstab, options of xkcdfs itself stand among the mount options:
  https://xkcd.com  /mnt/xkcd  fuse.xkcdfs  allow_other,cache-dir=/var/cache/xkcdfs  0  0
"""
#: What may also stand behind -o, because fstab has no other place for it.
IN_O = ("url", "cache-dir", "cache-size", "offline", "demo", "log")


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    _take_out_of_o(parser, args)
    if args.places and urlsplit(args.places[0]).scheme in ("http", "https"):
        args.url = args.places[0]
    elif args.places and len(args.places) > 1 and args.places[0] not in ("xkcdfs", "none"):
        parser.error(f"{args.places[0]!r} is no http or https URL")
    if urlsplit(args.url).scheme not in ("http", "https") or not urlsplit(args.url).hostname:
        parser.error(f"--url {args.url!r} is no http or https URL")
    if args.sync is None:
        if not args.places or len(args.places) > 2 or args.places[-1] == args.url:
            parser.error("give one mountpoint, or --sync")
        return _mount(parser, args)
    if args.places or args.offline:
        parser.error("--sync only fills the cache: it takes no mountpoint and needs the network")
    command.log_to_stderr()
    with ExitStack() as ending:
        return sync(_shelf(args, ending)[0].collection, args.sync)


def _mount(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    args.mountpoint = args.places[-1]
    try:
        _log_to(args.log, in_background=not (args.foreground or args.debug))
    except OSError as error:
        parser.error(f"--log {args.log}: {error.strerror or error}")
    # Images are served from the cache's files, which are open for as long.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))
    with ExitStack() as ending:
        shelf, site = _shelf(args, ending)
        fs = comics(shelf)
        if site:
            fs.init(site.start)
        if args.foreground:
            fs.init(lambda: log.info("%s is at %s; Ctrl-C unmounts", args.url, args.mountpoint))
        # Not left to the with statement: in the background, the process ends before its end.
        fs.destroy(ending.close)
        # Read-only also for the kernel, which then need not ask for the time of the last access.
        options = ["fsname=xkcdfs", "subtype=xkcdfs", "default_permissions", "ro"]
        return command.serve(fs.operations, args, program="xkcdfs", options=options)


def _shelf(args: argparse.Namespace, ending: ExitStack) -> tuple[Shelf, Site | None]:
    site = None
    if args.demo:
        site = Site()
        site.listen()
        ending.callback(site.stop)
        args.url = site.url
        if args.cache_dir is None:
            # The next demo has another port, and other URLs with it.
            args.cache_dir = Path(tempfile.gettempdir(), f"xkcdfs-demo-{os.getpid()}")
            ending.callback(shutil.rmtree, args.cache_dir, ignore_errors=True)
    directory = args.cache_dir or default_directory()
    client = ending.enter_context(Client(offline=args.offline))
    cache = Cache(directory.absolute(), args.url, limit=args.cache_size)
    return Shelf(Collection(client, cache, args.url)), site


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xkcdfs",
        usage=USAGE,
        description="Browse xkcd as files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    parser.add_argument("places", nargs="*", metavar="MOUNTPOINT", help="an empty directory")
    add("-f", "--foreground", action="store_true", help="stay in the foreground; Ctrl-C unmounts")
    add("-o", dest="options", action="append", default=[], metavar="OPTIONS",
        help="mount options: allow_other,...")  # fmt: skip
    add("-d", "--debug", action="store_true", help="as -f, and print each request of the kernel")
    add("--url", default=SITE, help=f"a mirror of the site (default: {SITE})")
    add("--offline", action="store_true", help="never use the network")
    add("--sync", nargs="?", const=(1, None), type=_range, metavar="RANGE",
        help="fetch all comics, or 7, 7-9, 7-, into the cache, and end")  # fmt: skip
    add("--cache-dir", type=Path, metavar="DIR",
        help=f"where comics are kept (default: {_short(default_directory())})")  # fmt: skip
    add("--cache-size", type=_size, default="1G", metavar="SIZE",
        help="how much is kept, as in 500M or 2G (default: 1G)")  # fmt: skip
    add("--log", metavar="FILE", help="where to log: a file, or syslog (the background's default)")
    add("--demo", action="store_true", help="show a made-up site that runs on this machine")
    add("--version", action="version", version=f"xkcdfs {__version__}")
    return parser


def _take_out_of_o(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Options of this program that stand behind -o, where fstab has them."""
    kept: list[str] = []
    own: list[str] = []
    for option in (part for word in args.options for part in word.split(",")):
        (own if option.partition("=")[0] in IN_O else kept).append(option)
    parser.parse_args([*(f"--{option}" for option in own), "--", *args.places], args)
    # mount(8) says rw of all that is not ro.
    args.options = [option for option in kept if option not in ("", "rw")]


def _log_to(where: str | None, *, in_background: bool) -> None:
    """Set up logging, unless it goes to standard error, which `command` does."""
    handler: logging.Handler
    if where == "syslog" or (where is None and in_background and os.path.exists("/dev/log")):
        handler = logging.handlers.SysLogHandler("/dev/log")
        form = f"xkcdfs[{os.getpid()}]: %(message)s"
    elif where is not None:
        handler = logging.FileHandler(where, encoding="utf-8")
        form = "%(asctime)s %(levelname)s %(message)s"
    else:
        return
    logging.basicConfig(level=logging.INFO, format=form, handlers=[handler])


def _range(text: str) -> tuple[int, int | None]:
    try:
        return parse_range(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range such as 7, 7-9 or 7-") from None


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kKmMgGtT]?)i?[bB]?", text)
    size = float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ") if match else 0
    if size < 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of 1M or more, such as 500M or 2G")
    return int(size)


def _short(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(f"{home}/") else str(path)


if __name__ == "__main__":
    sys.exit(main())
