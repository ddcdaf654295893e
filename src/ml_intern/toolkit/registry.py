"""The tools of a session by name. Knows no concrete tool and no model."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from ml_intern.toolkit.schema import schema_of
from ml_intern.toolkit.tool import Tool

# What every provider accepts as the name of a function.
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}")


class Row(Struct, frozen=True):
    """A tool as a model is told of it; `parameters` is the JSON Schema of its arguments."""

    name: str
    text: str
    parameters: dict[str, Any]


class Registry:
    """A fixed set of tools. Iterates over names in the order in which the tools were given.

    Raises:
        ValueError: two tools of one name, or a name that providers refuse.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        found: dict[str, Tool] = {}
        for tool in tools:
            if not _NAME.fullmatch(tool.name):
                raise ValueError(f"{tool.name!r} is no name for a tool")
            if tool.name in found:
                raise ValueError(f"two tools are called {tool.name!r}")
            found[tool.name] = tool
        self._tools: Mapping[str, Tool] = MappingProxyType(found)
        self._rows = tuple(Row(tool.name, tool.text, schema_of(tool.args)) for tool in found.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def find(self, name: str) -> Tool | None:
        """The tool of exactly this name."""
        return self._tools.get(name)

    def unknown(self, name: str) -> str:
        """What a model is told that called a tool which does not exist."""
        near = difflib.get_close_matches(name.lower(), self._tools, 1, 0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"There is no tool {name!r}.{hint} The tools are: {', '.join(self._tools)}."

    def specs(self) -> tuple[Row, ...]:
        """Every tool as a model is told of it, in order."""
        return self._rows
