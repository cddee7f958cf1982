#!/usr/bin/env python3
"""A directory of Markdown, rendered to HTML when it is read: markdown_html.py MOUNTPOINT DIRECTORY -f

NAME.md is there as NAME.html; everything else is as it is. With the package `markdown` all of Markdown is known,
without it headings, paragraphs, lists, code and links.
"""

from __future__ import annotations

import html
import importlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastfuse import FileSystem, command

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>body {{ max-width: 42em; margin: 2em auto; padding: 0 1em; font: 1em/1.5 sans-serif }}</style>
{body}
"""


def render(text: str) -> str:
    """The HTML of Markdown."""
    try:
        markdown = importlib.import_module("markdown")
    except ImportError:
        return "\n".join(blocks(text))
    return str(markdown.markdown(text, extensions=["extra"]))


def blocks(text: str) -> Iterator[str]:
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        if number % 2:
            yield f"<pre>{html.escape(part.strip())}</pre>"
            continue
        for block in re.split(r"\n\s*\n", part.strip()):
            heading = re.match(r"(#{1,6}) +(.*)", block)
            if heading:
                level = len(heading[1])
                yield f"<h{level}>{inline(heading[2])}</h{level}>"
                block = block[heading.end() :].strip()
            if re.match(r"[-*] ", block):
                items = re.split(r"^[-*] +", block, flags=re.MULTILINE)[1:]
                yield "<ul>" + "".join(f"<li>{inline(item.strip())}</li>" for item in items) + "</ul>"
            elif block:
                yield f"<p>{inline(block)}</p>"


def inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
    # Neighbours are linked to as the pages that they are here.
    text = re.sub(r"\]\(([^):\s]+)\.md\)", r"](\1.html)", text)
    return re.sub(r"\[([^]]+)\]\(([^)\s\"]+)\)", r'<a href="\2">\1</a>', text)


def file_system(root: Path) -> FileSystem:
    """The directory *root*. A page's size is known once it has been opened."""
    fs = FileSystem()

    def source(path: str) -> Path:
        """What stands behind *path*; for a page its Markdown."""
        found = root / path.lstrip("/")
        if found.suffix == ".html" and found.with_suffix(".md").is_file():
            return found.with_suffix(".md")
        if found.suffix == ".md" and found.is_file():
            raise FileNotFoundError(path)
        return found

    @fs.stat("/**names")
    def say(path: str) -> dict[str, Any]:
        found = source(path)
        there = found.stat()
        said = {"st_mode": stat.S_IFMT(there.st_mode) | 0o555, "st_mtime_ns": there.st_mtime_ns}
        if found.suffix == ".md":
            return {**said, "st_mode": stat.S_IFREG | 0o444}
        return {**said, "st_size": there.st_size}

    @fs.list("/**names")
    def names(path: str) -> Iterator[str]:
        for entry in os.scandir(source(path)):
            is_page = entry.name.endswith(".md") and entry.is_file()
            yield f"{entry.name.removesuffix('.md')}.html" if is_page else entry.name

    @fs.read("/**names")
    def read(path: str) -> str | Path:
        found = source(path)
        if found.suffix != ".md":
            return found
        return PAGE.format(title=html.escape(found.stem), body=render(found.read_text(errors="replace")))

    return fs


def main() -> None:
    parser = command.make_parser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where the Markdown is")
    args = parser.parse_args()
    fs = file_system(Path(os.path.abspath(args.directory)))
    raise SystemExit(command.serve(fs.operations, args, **fs.settings()))


if __name__ == "__main__":
    main()
