"""The text files that a comic has, and the list of all of them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from xkcdfs.catalogue import Catalogue
from xkcdfs.records import Record, repair_transcript, transcript_source

__all__ = ["index_tsv", "page_html", "plain", "transcript_in", "url_file"]


def plain(text: str) -> str:
    """*text* as a file: with a newline at its end, unless it is empty."""
    return f"{text}\n" if text and not text.endswith("\n") else text


def url_file(url: str) -> str:
    """A link to *url* that desktops of all kinds open in a browser."""
    return f"[InternetShortcut]\nURL={url}\n"


def page_html(record: Record, url: str, image: str, image_2x: str | None, transcript: str) -> str:
    """The comic as a page: *image* is the name of its image beside the page, '' if it has none."""
    title, alt = html.escape(record.title), html.escape(record.alt)
    parts = [f"<h1>{title}</h1>"]
    if image:
        source = f'<img src="{image}" alt="{alt}" title="{alt}"'
        parts.append(f"{source}>" if not image_2x else f'{source} srcset="{image_2x} 2x">')
    else:
        parts.append(f'<p>This comic is no image. <a href="{html.escape(url)}">See it there.</a></p>')
    parts.append(f"<p>{alt}</p>")
    if transcript:
        parts.append(
            f"<details><summary>Transcript</summary><pre>{html.escape(transcript)}</pre></details>"
        )
    day = record.date.isoformat()
    parts.append(f'<p><a href="{html.escape(url)}">Number {record.number}</a>, {day}</p>')
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" '
        'content="light dark">\n<style>body{font:1em/1.5 system-ui,sans-serif;max-width:52em;'
        "margin:2em auto;padding:0 1em;text-align:center}img{max-width:100%;background:#fff}"
        f"pre{{white-space:pre-wrap;text-align:left}}</style>\n<main>\n{body}\n</main>\n</html>\n"
    )


def index_tsv(catalogue: Catalogue, records: Mapping[int, Record], base_url: str) -> str:
    """A line for each comic, the newest last; alt text and transcript where *records* has them."""
    lines = ["number\tdate\ttitle\turl\tfolder\talt\ttranscript\n"]
    for number, entry in catalogue.index.items():
        record = records.get(number)
        fields = (
            str(number),
            entry.date.isoformat(),
            entry.title,
            f"{base_url}/{number}/",
            f"comics/{catalogue.folders[number]}",
            record.alt if record else "",
            transcript_in(records, number),
        )
        lines.append("\t".join(map(_one_line, fields)) + "\n")
    return "".join(lines)


def transcript_in(records: Mapping[int, Record], number: int) -> str:
    """The repaired transcript of comic *number* if *records* has the one that holds it; else ''."""
    source = transcript_source(number)
    found = records.get(source) if source is not None else None
    return repair_transcript(found.transcript) if found else ""


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
