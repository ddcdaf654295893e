"""A workspace with real roots and blobs, and a record of facts, for tests of tools."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_intern.record.display import TextDisplay
from ml_intern.record.events import Entry, Outcome, ToolFinished, ToolStarted
from ml_intern.record.facts import Fact
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import View, fold
from ml_intern.sandbox import variables
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.paths import Roots, command_path, session_roots
from ml_intern.store.blobs import Blobs
from ml_intern.toolkit.schema import Arguments, parse
from ml_intern.toolkit.tool import Context, Prepared, Result, Tool, Waits
from ml_intern.tools.bash import Bash
from ml_intern.tools.scripts import Scripts


@dataclass
class Bench:
    """Runs calls as the road does, and keeps what they tell the record."""

    workspace: Path
    folder: Path
    environments: Path
    roots: Roots
    blobs: Blobs
    view: View = field(default_factory=View)
    live: list[str] = field(default_factory=list)

    def context(self, lane: str = "main", key: str = "call-1") -> Context:
        return Context(key, key, lane, str(self.workspace), self.view, self.live.append)

    async def prepare(self, tool: Tool, lane: str = "main", key: str = "call-1", **arguments: object) -> Prepared:
        return await tool.prepare(fitting(tool, arguments), self.context(lane, key))

    async def call(self, tool: Tool, lane: str = "main", key: str = "call-1", **arguments: object) -> Result:
        prepared = await self.prepare(tool, lane, key, **arguments)
        result = await tool.run(prepared, self.context(lane, key))
        assert isinstance(result, Result)
        self.keep(result.facts, lane, result.outcome)
        return result

    async def recover(self, tool: Tool, prepared: Prepared, key: str = "call-1", **arguments: object) -> Result | None:
        started = ToolStarted(
            key, "", prepared.effects, prepared.replay, inputs=prepared.inputs, writes=prepared.writes
        )
        found = await tool.recover(fitting(tool, arguments), started, self.context(key=key))
        assert not isinstance(found, Waits)
        return found

    def keep(self, facts: Iterable[Fact], lane: str = "main", outcome: Outcome = "ok") -> None:
        finished = ToolFinished("call", outcome, "", TextDisplay(""), tuple(facts))
        self.view = fold(self.view, Entry(self.view.seq + 1, 0, lane, finished))

    def path(self, name: str) -> str:
        return str(self.workspace / name)


def make_bench(tmp_path: Path) -> Bench:
    workspace, folder, environments = (tmp_path / name for name in ("work", "session", "environments"))
    workspace.mkdir(exist_ok=True)
    roots = session_roots(workspace, folder, environments)
    return Bench(workspace, folder, environments, roots, Blobs(folder / "blobs", Secrets({})))


def fitting(tool: Tool, arguments: dict[str, object]) -> Arguments:
    """What the road would hand over: the arguments must fit."""
    found = parse(tool.args, json.dumps(arguments))
    assert isinstance(found, Arguments), found.text
    return found


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Shell:
    """Commands of a bench's session."""

    bench: Bench
    commands: Commands
    count: int = 0

    def bash(self) -> Bash:
        bench = self.bench
        scripts = Scripts(bench.roots, bench.environments, bench.folder / "scripts")
        environ = variables.inside({}, bench.roots.home, command_path())
        return Bash(self.commands, bench.roots, bench.blobs, scripts, environ)

    async def run(self, command: str, **arguments: Any) -> Result:
        self.count += 1
        return await self.bench.call(self.bash(), key=f"shell-{self.count}", command=command, **arguments)
