#!/usr/bin/env python3
"""A JSON document (or YAML, with PyYAML) as a tree to read and to write: json_tree.py MOUNTPOINT DOCUMENT -f

Objects and arrays are directories, the rest are files that hold a value in JSON's notation; text that is no JSON is
taken as a string. What is changed is written to the document at once.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from errno import EINVAL, ENOTEMPTY
from pathlib import Path
from typing import Any

from fastfuse import FileSystem, FuseError, command


def load(path: Path) -> Any:
    if path.suffix in (".yaml", ".yml"):
        return importlib.import_module("yaml").safe_load(path.read_text())
    return json.loads(path.read_text())


def dump(document: Any, path: Path) -> None:
    """Replace the file at *path* in one step: it is never half written."""
    if path.suffix in (".yaml", ".yml"):
        text = importlib.import_module("yaml").safe_dump(document, allow_unicode=True, sort_keys=False)
    else:
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def file_system(source: Path) -> FileSystem:
    """The document at *source*."""
    document: Any = load(source)
    if not isinstance(document, (dict, list)):
        raise ValueError(f"{source}: a tree needs an object or an array at its top")
    fs = FileSystem(ttl=60)
    lock = threading.RLock()

    def child(node: Any, key: str) -> Any:
        if isinstance(node, dict) and key in node:
            return node[key]
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            return node[int(key)]
        raise FileNotFoundError(key) if isinstance(node, (dict, list)) else NotADirectoryError(key)

    def find(keys: list[str]) -> Any:
        node = document
        for key in keys:
            node = child(node, key)
        return node

    def put(keys: list[str], value: Any) -> None:
        above = find(keys[:-1])
        if isinstance(above, dict):
            above[keys[-1]] = value
        elif keys[-1] == str(len(above)):
            above.append(value)
        else:
            child(above, keys[-1])
            above[int(keys[-1])] = value
        dump(document, source)

    def take(keys: list[str]) -> Any:
        above, value = find(keys[:-1]), find(keys)
        if isinstance(above, dict):
            del above[keys[-1]]
        elif keys[-1] == str(len(above) - 1):
            above.pop()
        else:
            raise FuseError(EINVAL, "only the last one of an array can go: the others' names are their places")
        dump(document, source)
        return value

    @fs.list("/**keys")
    def names(keys: list[str]) -> list[str]:
        node = find(keys)
        if not isinstance(node, (dict, list)):
            raise NotADirectoryError
        return [str(key) for key in (node if isinstance(node, dict) else range(len(node)))]

    @fs.read("/**keys")
    def read(keys: list[str]) -> str:
        value = find(keys)
        return (value if isinstance(value, str) else json.dumps(value)) + "\n"

    @fs.write("/**keys")
    def write(path: str, keys: list[str], text: str) -> None:
        try:
            value = json.loads(text)
        except ValueError:
            value = text.removesuffix("\n")
        with lock:
            put(keys, value)
        if isinstance(value, (dict, list)):
            fs.invalidate(path=path)  # the file has become a directory

    @fs.create("/**keys")
    def create(keys: list[str]) -> None:
        with lock:
            put(keys, "")

    @fs.mkdir("/**keys")
    def mkdir(keys: list[str]) -> None:
        with lock:
            put(keys, {})

    @fs.unlink("/**keys")
    def unlink(keys: list[str]) -> None:
        with lock:
            take(keys)

    @fs.rmdir("/**keys")
    def rmdir(keys: list[str]) -> None:
        with lock:
            if find(keys):
                raise FuseError(ENOTEMPTY)
            take(keys)

    @fs.rename("/**keys")
    def rename(keys: list[str], newpath: str, flags: int) -> None:
        new = newpath.split("/")[1:]
        with lock:
            find(new[:-1])
            try:
                there = find(new)
            except FileNotFoundError:
                there = None
            if flags:
                raise FuseError(EINVAL)
            if isinstance(there, (dict, list)) and there:
                raise FuseError(ENOTEMPTY)
            put(new, take(keys))

    return fs


def main() -> None:
    parser = command.make_parser(description=__doc__)
    parser.add_argument("document", type=Path, help="a .json, .yaml or .yml file")
    args = parser.parse_args()
    fs = file_system(Path(os.path.abspath(args.document)))
    raise SystemExit(command.serve(fs.operations, args, **fs.settings()))


if __name__ == "__main__":
    main()
