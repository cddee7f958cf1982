"""`python -m xkcdfs.demo [PORT]` serves the demo site until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import threading

from xkcdfs.demo import Site


def main() -> None:
    """Serve on 127.0.0.1, on the port given or a free one, and print the URL."""
    with Site(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as site:
        print(f"{site.url}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
