"""Which scripts a command line runs, and the map that the shims read. Knows no header and no installer."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_OPERATORS = ";|&()<>\n"
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_PATH = re.compile(r"[^\s'\"`;|&()<>=]+\.py\b")


def scripts_in(command: str, cwd: str, exists: Callable[[str], bool]) -> tuple[str, ...]:
    """The existing .py files (absolute inside paths) that a shell command line seems to run, in order.

    A convenience that lets environments be built before the start, not a wall: what it misses the shims tell.
    """
    try:
        found = list(_runs(_tokens(command), cwd))
    except ValueError:
        found = [os.path.join(cwd, match.group()) for match in _PATH.finditer(command)]
    return tuple(dict.fromkeys(path for path in map(os.path.normpath, found) if exists(path)))


def write_map(folder: Path, name: str, pythons: Mapping[str, Path]) -> Path:
    """Write `<folder>/<name>.map` for the shims (variable ML_INTERN_SCRIPTS): script, tab, interpreter."""
    lines = [f"{script}\t{python}\n" for script, python in pythons.items() if not set(script) & set("\t\n")]
    path = folder / f"{name}.map"
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(lines), encoding="utf-8")
    beside.replace(path)
    return path


def _tokens(command: str) -> list[str]:
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace = " \t\r"
    lexer.commenters = ""
    lexer.whitespace_split = True
    return list(lexer)


def _runs(tokens: list[str], cwd: str) -> Iterator[str]:
    start = cwd
    for words in _simple_commands(tokens):
        for word in words:
            # A command in a string: bash -c "...", "$(...)".
            if " " in word and ".py" in word:
                yield from _inner(word, cwd)
        if words[0] == "cd" and len(words) > 1:
            cwd = os.path.normpath(os.path.join(cwd, words[-1]))
            continue
        script = _script(words)
        if script:
            yield os.path.join(cwd, script)
            # `cd` in a subshell or after `||` may not hold: the folder of the start is tried too.
            yield os.path.join(start, script)


def _inner(word: str, cwd: str) -> Iterator[str]:
    try:
        yield from _runs(_tokens(word.removeprefix("$(").removesuffix(")")), cwd)
    except ValueError:
        return


def _simple_commands(tokens: list[str]) -> Iterator[list[str]]:
    words: list[str] = []
    for token in [*tokens, ";"]:
        if token and set(token) <= set(_OPERATORS):
            # A redirection's target is no command of its own.
            if words and not set(token) <= set("<>"):
                yield words
                words = []
        else:
            words.append(token)


def _script(words: list[str]) -> str | None:
    """The script of one simple command, whatever stands before the interpreter (`time`, `env A=b`, `nohup`)."""
    names = [os.path.basename(word) for word in words]
    if words[0].endswith(".py"):
        return words[0]
    for index, name in enumerate(names):
        uv_run = name == "uv" and "run" in names[index + 1 : index + 4]
        if uv_run or _PYTHON.fullmatch(name):
            rest = words[index + 1 :]
            script = next((word for word in rest if word.endswith(".py")), None)
            before = rest[: rest.index(script)] if script else []
            return None if {"-c", "-m"} & set(before) else script
    return None
