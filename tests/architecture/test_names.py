"""Modules and classes are named for what they are."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.tree import PACKAGE, ROOT, Source, places, source, sources

MODULES = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "handler", "core"}
CLASSES = re.compile(r"^(Abstract|I[A-Z][a-z])|(Utils?|Helpers?|Common|Misc|Manager|Handler|Core)$")
DOCUMENTED = 3


def bad_names(file: Source) -> list[str]:
    parts = Path(file.path).with_suffix("").parts
    modules = [f"{file.path}: {part}" for part in parts if MODULES & {*part.strip("_").split("_")}]
    return modules + [
        where for where, node in places(file) if isinstance(node, ast.ClassDef) and CLASSES.search(node.name.strip("_"))
    ]


def test_no_module_or_class_has_a_name_that_says_nothing():
    assert [name for file in sources() for name in bad_names(file)] == []


def test_no_folder_or_file_of_tests_has_one():
    assert [name for file in sources(ROOT / "tests") for name in bad_names(file)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("utils.py", ""),
        ("room/path_helpers.py", ""),
        ("core/x.py", ""),
        ("x.py", "class AbstractTool: ..."),
        ("x.py", "class ITool: ..."),
        ("x.py", "def f():\n    class _JobManager: ..."),
    ],
)
def test_a_planted_name_is_found(path, text):
    assert len(bad_names(source(path, text))) == 1


@pytest.mark.parametrize("text", ["class IOFailed: ...", "class Images: ...", "class Scores: ...", "class Id: ..."])
def test_a_plain_noun_is_left_alone(text):
    assert bad_names(source("images.py", text)) == []


def test_every_module_says_in_one_to_three_lines_what_it_does():
    first = {file.path: (ast.get_docstring(file.tree) or "").partition("\n\n")[0] for file in sources()}
    assert [path for path, text in first.items() if not 1 <= len(text.splitlines()) <= DOCUMENTED] == []


def test_every_room_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
