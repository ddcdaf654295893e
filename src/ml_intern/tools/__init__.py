"""The tools: the only list of them, and what they are built from. Knows no adapter's insides and no door."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct

from ml_intern.agent.prompt import Ability
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.paths import Roots
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.spawn import Spawn
from ml_intern.toolkit.tool import Tool
from ml_intern.tools import background
from ml_intern.tools.ask_user import AskUser
from ml_intern.tools.bash import Bash
from ml_intern.tools.bash_output import BashOutput
from ml_intern.tools.bash_stop import BashStop
from ml_intern.tools.edit import Edit
from ml_intern.tools.find import Find
from ml_intern.tools.plan import Plan
from ml_intern.tools.read import Read
from ml_intern.tools.recall import History, Recall
from ml_intern.tools.research import Research
from ml_intern.tools.scripts import Scripts
from ml_intern.tools.task import Task
from ml_intern.tools.watch import Watch
from ml_intern.tools.write import Write

_AFTER = f"{BashOutput.name} shows what it prints and waits for it; {BashStop.name} ends it."


class Workshop(Struct, frozen=True):
    """What a session's tools work with. `environ` is the whole environment of commands; `folder` the session's own.

    `environments` is the store of the environments that PEP 723 scripts run in; `history` the session's own record.
    `sees`: its model can look at images. `spawn` runs sub-agents; None: there are none.
    """

    roots: Roots
    commands: Commands
    blobs: Blobs
    environments: Path
    environ: Mapping[str, str]
    folder: Path
    history: History
    sees: bool = True
    offline: bool = False
    spawn: Spawn | None = None


_ABILITIES: dict[str, Ability] = {
    Read.name: "look",
    Find.name: "look",
    Write.name: "make",
    Edit.name: "make",
    Bash.name: "run",
    Plan.name: "todo",
    AskUser.name: "ask",
    Recall.name: "past",
}


def abilities_of(names: Iterable[str]) -> frozenset[Ability]:
    """What an agent can do that is offered the tools of these names."""
    return frozenset(_ABILITIES[name] for name in names if name in _ABILITIES)


def make_watch(workshop: Workshop) -> Watch:
    """What looks after the commands that the session leaves running."""
    return Watch(workshop.commands, workshop.roots, f"{BashOutput.name} shows what was printed.")


def make_tools(workshop: Workshop) -> tuple[Tool, ...]:
    """Every tool of a session, in the order in which models are told of them."""
    roots = workshop.roots
    scripts = Scripts(roots, workshop.environments, workshop.folder.resolve() / "scripts", offline=workshop.offline)
    own: tuple[Tool, ...] = (
        Read(roots, workshop.blobs, sees=workshop.sees),
        Find(roots),
        Write(roots),
        Edit(roots),
        Bash(workshop.commands, roots, workshop.blobs, scripts, workshop.environ, after=_AFTER),
        BashOutput(workshop.commands, roots, workshop.blobs, workshop.folder),
        BashStop(workshop.commands, roots),
        Plan(),
        AskUser(),
        Recall(workshop.history, workshop.blobs),
    )
    return own if workshop.spawn is None else (*own, *_for_others(workshop.spawn, workshop, own))


def _for_others(spawn: Spawn, workshop: Workshop, own: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """Those that have a sub-agent work with some of `own`. Plan and person are the main agent's."""
    looking = tuple(tool.name for tool in own if isinstance(tool, Read | Find | Recall))
    working = tuple(tool.name for tool in own if not isinstance(tool, Plan | AskUser))
    left = partial(background.left_by, workshop.commands, _AFTER)
    return (Research(spawn, workshop.blobs, looking), Task(spawn, workshop.blobs, working, left))
