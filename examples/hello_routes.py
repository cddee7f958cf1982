#!/usr/bin/env python3
"""The smallest file system of routes: hello_routes.py MOUNTPOINT -f

cat MOUNTPOINT/hello/world
"""

from __future__ import annotations

from fastfuse import FileSystem

fs = FileSystem()


@fs.list("/hello")
def names() -> list[str]:
    return ["world", "moon"]


@fs.read("/hello/:name")
def hello(name: str) -> str:
    return f"Hello, {name}!\n"


if __name__ == "__main__":
    fs.run()
