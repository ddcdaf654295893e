"""A tool's name stands in its own files, in the list of tools, in tests and in docs, and nowhere else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import PACKAGE, Source, dotted, sources

TEXTS = {".md", ".toml", ".json", ".sh", ".txt"}

# (path or folder, name): why the word stands there although it is a tool's name. "*" stands for every name.
ALLOWED: dict[tuple[str, str], str] = {
    ("demo/story.py", "*"): "a scripted model's calls name the tools, as a model's own do",
    ("policy/rules.py", "read"): "a verb of rules, over the effect",
    ("policy/rules.py", "write"): "a verb of rules, over the effect",
    ("record/display.py", "plan"): "a kind of display, whoever shows it",
    ("record/events.py", "plan"): "the mode in which nothing is changed",
    ("record/events.py", "research"): "the role that a model is asked as",
    ("app/options.py", "research"): "the role that a model is asked as",
    ("cli/main.py", "research"): "the role that a model is asked as",
    ("headless/report.py", "task"): "a field of the result: what a sub-agent was asked",
    ("sandbox/", "read"): "how a root is mounted: readable",
    ("sandbox/", "write"): "how a root is mounted: writable",
}


def tool_names(folder: Path) -> dict[str, str]:
    """Every tool's name, and the stem of the file that it is defined in."""
    names: dict[str, str] = {}
    for file in sources(folder):
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef):
                names |= dict.fromkeys(_declared(node), Path(file.path).stem)
    return names


def _declared(class_: ast.ClassDef) -> Iterator[str]:
    for node in class_.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                yield name
            case ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(value=str(name))):
                yield name
            case ast.FunctionDef(name="name", body=[*_, ast.Return(value=ast.Constant(value=str(name)))]):
                yield name
            case _:
                pass


def spoken(file: Source, names: set[str]) -> Iterator[tuple[str, str]]:
    """(path, name) of every tool's name in a Python file: as a whole string, or as a word if it is no English one."""
    unmistakable = {name for name in names if "_" in name}
    for node in ast.walk(file.tree):
        match node:
            case ast.Constant(value=str(text)) if text in names:
                yield file.path, text
            case ast.Constant(value=str(text)) if unmistakable:
                yield from ((file.path, name) for name in unmistakable if re.search(rf"\b{name}\b", text))
            case ast.Name() | ast.Attribute() if (name := dotted(node).rpartition(".")[2]) in unmistakable:
                yield file.path, name
            case _:
                pass


def written(path: str, text: str, names: set[str]) -> Iterator[tuple[str, str]]:
    """The same of another text: in quotes or backticks, or as a word if it is no English one."""
    for name in names:
        if re.search(rf"\b{name}\b" if "_" in name else rf"[`\"']{name}[`\"']", text):
            yield path, name


def spread(folder: Path) -> set[tuple[str, str]]:
    """Where in the package at `folder` a tool's name stands that should not."""
    homes = tool_names(folder / "tools")
    names = set(homes)
    found = {pair for file in sources(folder) for pair in spoken(file, names)}
    for path in (path for path in folder.rglob("*") if path.suffix in TEXTS):
        found |= set(written(path.relative_to(folder).as_posix(), path.read_text(), names))
    return {(path, name) for path, name in found if not _at_home(path, homes[name])}


def _at_home(path: str, stem: str) -> bool:
    return path == "tools/__init__.py" or (path.startswith("tools/") and Path(path).stem == stem)


def _covers(allowed: tuple[str, str], found: tuple[str, str]) -> bool:
    return found[0].startswith(allowed[0]) and allowed[1] in {"*", found[1]}


def test_there_are_tools_to_look_for():
    assert tool_names(PACKAGE / "tools")


def test_a_tools_name_stands_nowhere_else():
    assert {pair for pair in spread(PACKAGE) if not any(_covers(allowed, pair) for allowed in ALLOWED)} == set()


def test_every_exception_is_still_needed_and_says_why():
    found = spread(PACKAGE)
    assert [allowed for allowed in ALLOWED if not any(_covers(allowed, pair) for pair in found)] == []
    assert all(len(reason.split()) >= 5 for reason in ALLOWED.values())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for path, text in {
        "tools/__init__.py": "ALL = ('bash', 'jobs_submit')",
        "tools/bash.py": "class Bash:\n    name = 'bash'",
        "tools/bash.md": "`bash` runs a command",
        "tools/jobs.py": "class Submit:\n    name: ClassVar[str] = 'jobs_submit'\nclass Stop:\n"
        "    @property\n    def name(self):\n        return 'stop'",
        "sandbox/commands.py": "argv = ('/bin/bash', '-c', 'stop it')",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_names_in_their_own_files_are_left_alone(package):
    assert set(tool_names(package / "tools")) == {"bash", "jobs_submit", "stop"}
    assert spread(package) == set()


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("agent.py", "if call.tool == 'bash': ...", "bash"),
        ("agent.py", "'first call jobs_submit, then wait'", "jobs_submit"),
        ("agent.py", "from x import jobs_submit\njobs_submit()", "jobs_submit"),
        ("prompt.md", "Prefer `bash`.", "bash"),
        ("tools/other.md", "like jobs_submit does", "jobs_submit"),
        ("tools/other.py", "same_as = 'stop'", "stop"),
    ],
)
def test_a_planted_name_is_found(package, path, text, name):
    (package / path).write_text(text)
    assert spread(package) == {(path, name)}


def test_a_word_of_english_in_prose_is_left_alone(package):
    (package / "prompt.md").write_text("Stop when you are done; bash is a shell.")
    assert spread(package) == set()
