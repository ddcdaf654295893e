"""Regular expressions that a model wrote, matched in time linear in the text (RE2), and globs. Knows no file.

Python's own `re` may take for ever on such an expression, and holds the interpreter while it does.
https://github.com/google/re2/wiki/Syntax
"""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, cast

from ml_intern.base.errors import ToolFailed

_MOST_CHARS = 2_000


class Pattern:
    """One expression: `^` and `$` match at line ends, nothing matches across lines.

    Raises:
        ToolFailed: it cannot be understood.
    """

    def __init__(self, expression: str, *, ignore_case: bool = False, literal: bool = False) -> None:
        re2: Any = import_module("re2")  # 20 ms: not before something is searched

        if len(expression) > _MOST_CHARS:
            raise ToolFailed(f"The expression is longer than {_MOST_CHARS:,} characters.", "Search for less at a time.")
        options: Any = re2.Options()
        options.case_sensitive, options.literal = not ignore_case, literal
        options.never_nl, options.log_errors = True, False
        try:
            # The group is no part of a literal, and of an expression it changes nothing but the meaning of ^ and $.
            self._compiled: Any = re2.compile(expression if literal else f"(?m:{expression})", options)
        except re2.error as error:
            why: object = error.args[0]
            what = f"{expression!r} is no regular expression: {why.decode() if isinstance(why, bytes) else why}."
            raise ToolFailed(
                what, "The syntax is RE2's: no look-around, no back-references; escape ( [ { . + * ? | with \\."
            ) from error

    def finds(self, text: str) -> bool:
        """Whether it matches anywhere in `text`."""
        return self._compiled.search(text) is not None

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it matches, in order."""
        for match in self._compiled.finditer(text):
            yield cast("tuple[int, int]", match.span())


def glob(pattern: str) -> re.Pattern[str]:
    """Paths (with `/`) that fit: `*` and `?` stay within a name, `**` crosses folders, `{a,b}` is either.

    A pattern without `/` is matched against the last name alone.

    Raises:
        ToolFailed: braces or brackets that do not close.
    """
    pattern = pattern.strip().removeprefix("./")
    anywhere = "" if "/" in pattern.rstrip("/") else "(?:.*/)?"
    try:
        return re.compile(anywhere + "".join(_parts(pattern.strip("/"))), re.DOTALL)
    except re.error as error:
        raise ToolFailed(
            f"{pattern!r} is no pattern for names: {error}.", "For example **/*.py or *.{csv,json}."
        ) from error


_GLOB = re.compile(r"\*\*/|\*+|\?|\[[!^]?\]?[^\]]*\]|[{},]|[^*?\[{},]+|\[")


def _parts(pattern: str) -> Iterator[str]:
    depth = 0
    for found in _GLOB.finditer(pattern):
        part = found.group()
        match part[0]:
            case "*":
                yield "(?:.*/)?" if part == "**/" else ".*" if len(part) > 1 else "[^/]*"
            case "?":
                yield "[^/]"
            case "[" if len(part) > 1:
                yield "[" + ("^" if part[1] in "!^" else "") + part[1:-1].lstrip("!^").replace("\\", "\\\\") + "]"
            case "{":
                depth += 1
                yield "(?:"
            case "}" if depth:
                depth -= 1
                yield ")"
            case "," if depth:
                yield "|"
            case _:
                yield re.escape(part)
