"""What a call would do to the world. Policy judges these; nothing here knows a tool or a rule."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Reads:
    """Looks at `target` (a path, a repo, a page). `within`: it lies inside the session's roots or is public."""

    target: str
    within: bool = True
    kind: Literal["reads"] = "reads"


@dataclass(frozen=True, slots=True)
class Writes:
    """Creates or changes `target`. `within`: it lies in the workspace, the private home or /tmp of the session."""

    target: str
    within: bool = True
    kind: Literal["writes"] = "writes"


@dataclass(frozen=True, slots=True)
class Executes:
    """Runs `command`. `walled`: inside the sandbox at the level the session demands."""

    command: str
    walled: bool = True
    kind: Literal["executes"] = "executes"


@dataclass(frozen=True, slots=True)
class Reaches:
    """Opens a connection to `host`. `known`: the host is on the user's allow-list."""

    host: str
    known: bool = False
    kind: Literal["reaches"] = "reaches"


@dataclass(frozen=True, slots=True)
class Spends:
    """Costs at most `amount` micro-dollars of `payer`. `own`: the session's own payer."""

    amount: int
    payer: str
    what: str
    own: bool = True
    kind: Literal["spends"] = "spends"


@dataclass(frozen=True, slots=True)
class Publishes:
    """Sends something to `target`; `public`: anyone could then see it."""

    target: str
    public: bool
    kind: Literal["publishes"] = "publishes"


@dataclass(frozen=True, slots=True)
class Destroys:
    """Deletes `target` for good. `remote`: on someone's server, where no undo reaches."""

    target: str
    remote: bool
    kind: Literal["destroys"] = "destroys"


@dataclass(frozen=True, slots=True)
class Notifies:
    """Sends a message to `recipient`."""

    recipient: str
    kind: Literal["notifies"] = "notifies"


Effect = Reads | Writes | Executes | Reaches | Spends | Publishes | Destroys | Notifies


def is_read_only(effects: tuple[Effect, ...]) -> bool:
    """Whether a call with these effects only looks, inside the roots: such calls may run side by side."""
    return all(isinstance(effect, Reads) and effect.within for effect in effects)
