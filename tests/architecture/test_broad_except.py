"""Everything is caught in three places only, and each says in a sentence why."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import Source, dotted, source, sources

# The road: every call must end finished or held. The fan-out to readers: one's fault is not the others'. The session's
# task: a fault ends the turn, not the process.
ALLOWED = {"agent/road.py", "record/log.py", "session/session.py"}
_BROAD = {"Exception", "BaseException", "BaseExceptionGroup", "ExceptionGroup"}


def broad_catches(file: Source) -> Iterator[tuple[int, str]]:
    """(line, what) of every place that catches everything."""
    for node in ast.walk(file.tree):
        match node:
            case ast.ExceptHandler(type=None):
                yield node.lineno, "except:"
            case ast.ExceptHandler(type=ast.expr() as caught) if _names(caught) & _BROAD:
                yield node.lineno, "except"
            case ast.Call(args=args) if dotted(node).endswith("suppress") and _BROAD & {dotted(arg) for arg in args}:
                yield node.lineno, "suppress"
            case _:
                pass


def _names(caught: ast.expr) -> set[str]:
    return {dotted(item) for item in caught.elts} if isinstance(caught, ast.Tuple) else {dotted(caught)}


def has_sentence(file: Source, line: int) -> bool:
    """Whether a comment of four words or more stands on the line, above it or below it, beside what lint tools read."""
    lines = file.text.splitlines()
    comments = [text.partition("#")[2].replace("noqa: BLE001", "") for text in lines[max(line - 2, 0) : line + 1]]
    return any(len(comment.split()) >= 4 for comment in comments)


def test_everything_is_caught_in_three_files_only():
    assert {file.path for file in sources() if list(broad_catches(file))} == ALLOWED


def test_each_says_why():
    assert [
        f"{file.path}:{line}" for file in sources() for line, _ in broad_catches(file) if not has_sentence(file, line)
    ] == []


@pytest.mark.parametrize(
    "clause",
    ["except:", "except Exception:", "except (OSError, BaseException) as error:"],
)
def test_a_planted_broad_except_is_found(clause):
    text = f"try:\n    f()\n{clause}\n    pass\n"
    assert [line for line, _ in broad_catches(source("x.py", text))] == [3]
    assert not has_sentence(source("x.py", text), 3)


def test_a_planted_suppress_is_found():
    assert list(broad_catches(source("x.py", "with contextlib.suppress(Exception): f()\n"))) == [(1, "suppress")]


def test_a_sentence_counts_and_a_bare_noqa_does_not():
    text = "try:\n    f()\nexcept Exception:  # noqa: BLE001{}\n    pass\n"
    assert not has_sentence(source("x.py", text.format("")), 3)
    assert has_sentence(source("x.py", text.format(" - one reader's fault is not the others'")), 3)
