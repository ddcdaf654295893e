"""The project's own source as these tests read it: files, syntax trees, places. Knows no rule."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ml_intern"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """A Python file: its path below the folder that was asked for, its text, its syntax tree."""

    path: str
    text: str
    tree: ast.Module


class Place(NamedTuple):
    """A function or class with its name for people: `agent/road.py:Road.take`."""

    where: str
    node: ast.AST


@cache
def sources(folder: Path = PACKAGE) -> tuple[Source, ...]:
    """Every Python file below `folder`, in order of path."""
    files = sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
    return tuple(source(path.relative_to(folder).as_posix(), path.read_text()) for path in files)


def source(path: str, text: str) -> Source:
    """A Python text as if it stood at `path`."""
    return Source(path, text, ast.parse(text))


def places(file: Source) -> Iterator[Place]:
    """Every function and class of a file, outermost first."""
    yield from _places(file.tree, f"{file.path}:")


def _places(node: ast.AST, prefix: str) -> Iterator[Place]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            yield Place(prefix + child.name, child)
            yield from _places(child, f"{prefix}{child.name}.")
        else:
            yield from _places(child, prefix)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute chain; of a call or subscript, that of what is called; else an empty text."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}".lstrip(".")
        case ast.Call(func=value) | ast.Subscript(value=value):
            return dotted(value)
        case _:
            return ""
