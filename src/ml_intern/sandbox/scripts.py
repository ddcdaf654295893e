"""Python scripts that describe their own packages (https://peps.python.org/pep-0723/): their headers, which of them a
command line runs, and the map that the shims read. Knows no installer."""

import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import BaseModel, Field, ValidationError

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.sandbox.indexes import mask

# The reference regular expression of the specification.
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_START = re.compile(r"(?m)^# /// script$")
_EXAMPLE = 'Write it as: # /// script, then # dependencies = ["numpy"], then # ///.'
_OTHER_SOURCES = (
    "sources",
    "index",
    "index-url",
    "extra-index-url",
    "find-links",
    "no-binary",
    "override-dependencies",
)
_OPERATORS = ";|&()<>\n"
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_PATH = re.compile(r"[^\s'\"`;|&()<>=]+\.py\b")


class _Written(BaseModel):
    """The header as written. Of `tool.uv` only the names are looked at."""

    dependencies: list[str] = []
    requires_python: str = Field("", alias="requires-python")
    tool: dict[str, dict[str, object]] = {}


@dataclass(frozen=True, slots=True)
class Header:
    """What a script asks for: normalised requirements, sorted, and the Python versions it runs on ("" = any)."""

    dependencies: tuple[str, ...] = ()
    requires_python: str = ""


def header(script_text: str) -> Header | None:
    """The header of a script; None if it has none.

    Raises:
        EnvironmentFailed: two blocks, an open one, bad TOML, or requirements that are no names of an index.
    """
    text = script_text.replace("\r\n", "\n")
    blocks = [
        found for found in _BLOCK.finditer(text if text.endswith("\n") else text + "\n") if found["type"] == "script"
    ]
    if len(blocks) > 1:
        raise EnvironmentFailed("The script has two `# /// script` blocks.", "Keep one.")
    if not blocks:
        if _START.search(text):
            raise EnvironmentFailed("The `# /// script` block has no end, or a line without `#`.", _EXAMPLE)
        return None
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
    )
    try:
        return _checked(_Written.model_validate(tomllib.loads(content)))
    except tomllib.TOMLDecodeError as error:
        raise EnvironmentFailed(f"The script's header is no TOML: {error}.", _EXAMPLE) from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise EnvironmentFailed(f"`{where}` in the script's header has the wrong type.", _EXAMPLE) from error


def _checked(written: _Written) -> Header:
    for name in _OTHER_SOURCES:
        if name in written.tool.get("uv", {}):
            raise EnvironmentFailed(
                f"The script's header sets tool.uv.{name}, which is not used here.",
                "Name packages of the configured indexes in `dependencies` alone.",
            )
    dependencies = sorted({_requirement(item) for item in written.dependencies})
    return Header(tuple(dependencies), _versions(written.requires_python))


def _versions(value: str) -> str:
    try:
        return str(SpecifierSet(value))
    except InvalidSpecifier as error:
        raise EnvironmentFailed(
            f"requires-python = {value!r} names no versions.", 'Write for example ">=3.11".'
        ) from error


def _requirement(text: str) -> str:
    remedy = "Name a package and its versions, for example scikit-learn>=1.5: only wheels of indexes are installed."
    if text.strip().startswith("-"):
        raise EnvironmentFailed(f"{text!r} is an option, not a requirement.", remedy)
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        raise EnvironmentFailed(f"{mask(text, {})!r} is no requirement: a path, or badly written.", remedy) from error
    if found.url:
        raise EnvironmentFailed(f"{found.name} is asked for from a URL or a path.", remedy)
    found.name = canonicalize_name(found.name)
    return str(found)


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
