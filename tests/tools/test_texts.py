import json
import re

import pytest

from ml_intern.agent.subagent import Lanes
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level
from ml_intern.toolkit.registry import Registry
from ml_intern.tools import Workshop, make_tools

MOST_TOKENS = 400  # a command is the largest: it also says what it may write to the Hub
MOST_TOKENS_IN_ALL = 6_000
CHARS_PER_TOKEN = 4


class Nothing:
    async def lines(self, after: int = 0) -> list[bytes]:
        return []


@pytest.fixture
def registry(bench) -> Registry:
    commands = Commands(bench.folder, Level.NONE)
    places = bench.environments, {}, bench.folder, Nothing()
    return Registry(make_tools(Workshop(bench.roots, commands, bench.blobs, *places, spawn=Lanes())))


def test_the_tools_are_those_of_the_reference_and_ours(registry):
    ours = ["bash_output", "bash_stop", "plan", "ask_user", "recall", "research", "task"]
    assert list(registry) == ["read", "find", "write", "edit", "bash", *ours]


@pytest.mark.parametrize(
    ("tool", "arguments", "required"),
    [
        ("read", ["path", "offset", "limit", "pages", "raw"], ["path"]),
        ("write", ["path", "content"], ["path", "content"]),
        ("edit", ["path", "old_str", "new_str", "replace_all"], ["path", "old_str", "new_str"]),
        ("bash", ["command", "timeout", "description", "background", "work_dir", "hub"], ["command"]),
        ("plan", ["todos"], ["todos"]),
        ("research", ["task", "context", "files", "max_steps", "budget"], ["task"]),
        ("task", ["task", "context", "files", "tools", "instructions", "max_steps", "budget"], ["task"]),
    ],
)
def test_arguments_are_named_as_in_the_reference(registry, tool, arguments, required):
    row = next(row for row in registry.specs() if row.name == tool)
    assert list(row.parameters["properties"]) == arguments
    assert row.parameters["required"] == required
    assert row.parameters["additionalProperties"] is False


def test_texts_are_short_and_their_limits_are_filled_in(registry):
    for row in registry.specs():
        assert len(row.text) / CHARS_PER_TOKEN <= MOST_TOKENS, row.name
        assert not re.search(r"[{}]", row.text), row.name
    whole = sum(len(row.text) + len(json.dumps(row.parameters)) for row in registry.specs())
    assert whole / CHARS_PER_TOKEN <= MOST_TOKENS_IN_ALL
    texts = {row.name: row.text for row in registry.specs()}
    assert "2 000 at most unless" in texts["read"]
    assert "50 000\n  characters" in texts["read"]
    assert "120 unless set, 36 000 at most" in texts["bash"]
