#!/usr/bin/env python3
"""An SQLite database as directories of rows: sqlite_rows.py MOUNTPOINT DATABASE -f

MOUNTPOINT/TABLE/schema.sql     how the table was made
MOUNTPOINT/TABLE/table.csv      all rows, made while they are read
MOUNTPOINT/TABLE/ROWID/COLUMN   one value, also to write: the text is converted as SQLite does
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

from fastfuse import FileSystem, command


def quoted(name: str) -> str:
    """*name* as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def is_name(name: str) -> bool:
    """Whether a table or column can be a file."""
    return name not in ("", ".", "..") and not set("/\0") & set(name)


def file_system(path: str) -> FileSystem:
    """The database at *path*. Tables without rowid are left out."""
    fs = FileSystem()
    local = threading.local()

    def query(sql: str, *values: object) -> Any:
        # A connection serves the thread that made it.
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
        return local.connection.execute(sql, values)

    def schema(table: str) -> str:
        found = query("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", table).fetchone()
        if found is None or "WITHOUT ROWID" in found[0].upper():
            raise FileNotFoundError(table)
        return str(found[0])

    def columns(table: str) -> list[str]:
        return [name for (name,) in query("SELECT name FROM pragma_table_info(?)", table) if is_name(name)]

    def check(table: str, row: int, column: str | None = None) -> None:
        schema(table)
        if query(f"SELECT 1 FROM {quoted(table)} WHERE rowid = ?", row).fetchone() is None:
            raise FileNotFoundError(row)
        if column is not None and column not in columns(table):
            raise FileNotFoundError(column)

    @fs.list("/")
    def tables() -> list[str]:
        found = query("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
        return [name for name, sql in found if sql and is_name(name) and "WITHOUT ROWID" not in sql.upper()]

    @fs.list("/:table")
    def rows(table: str) -> list[str]:
        schema(table)
        return [str(number) for (number,) in query(f"SELECT rowid FROM {quoted(table)}")]

    @fs.list("/:table/:row<int>")
    def names(table: str, row: int) -> list[str]:
        check(table, row)
        return columns(table)

    @fs.read("/:table/schema.sql")
    def show(table: str) -> str:
        return schema(table) + ";\n"

    @fs.read("/:table/table.csv")
    def dump(table: str) -> Iterator[str]:
        schema(table)

        def lines() -> Iterator[str]:
            # Parts may be asked for by several threads, one after the other.
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
            found = connection.execute(f"SELECT rowid, * FROM {quoted(table)}")
            yield line([column[0] for column in found.description])
            for row in found:
                yield line(row)
            connection.close()

        return lines()

    @fs.read("/:table/:row<int>/:column")
    def value(table: str, row: int, column: str) -> str | bytes | None:
        check(table, row, column)
        (found,) = query(f"SELECT {quoted(column)} FROM {quoted(table)} WHERE rowid = ?", row).fetchone()
        return found if found is None or isinstance(found, bytes) else f"{found}\n"

    @fs.write("/:table/:row<int>/:column")
    def change(table: str, row: int, column: str, text: str) -> None:
        check(table, row, column)
        sql = f"UPDATE {quoted(table)} SET {quoted(column)} = ? WHERE rowid = ?"
        query(sql, text.removesuffix("\n"), row)

    @fs.rmdir("/:table/:row<int>")
    def remove(table: str, row: int) -> None:
        check(table, row)
        query(f"DELETE FROM {quoted(table)} WHERE rowid = ?", row)

    return fs


def line(row: Any) -> str:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def main() -> None:
    parser = command.make_parser(description=__doc__)
    parser.add_argument("database", help="an SQLite file")
    args = parser.parse_args()
    fs = file_system(os.path.abspath(args.database))
    raise SystemExit(command.serve(fs.operations, args, **fs.settings()))


if __name__ == "__main__":
    main()
