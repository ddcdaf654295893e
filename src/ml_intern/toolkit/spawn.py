"""What a tool asks for that has a sub-agent do the work, and what it gets back. Knows no tool, no loop and no model."""

from typing import Protocol

from msgspec import Struct

from ml_intern.base.money import Micro
from ml_intern.record.events import Ending, Outcome, Role
from ml_intern.record.folds.spent import Spent
from ml_intern.toolkit.tool import Context, Waits


class Commission(Struct, frozen=True):
    """Work for a sub-agent of the kind `agent`: `task` for people, `said` for the model. It may use `tools`, answers
    after `max_steps` replies at the latest, and is asked for as `role`.

    `looks`: its calls may only look, whatever the session's mode allows. `instructions` join its system text. `budget`:
    what it may spend of the session's, in micro-dollars; None: whatever is left of it.
    """

    agent: str
    task: str
    said: str
    tools: tuple[str, ...]
    max_steps: int
    role: Role = "main"
    looks: bool = False
    instructions: str = ""
    budget: Micro | None = None


class Report(Struct, frozen=True):
    """What came of it. `text` is the sub-agent's answer, or where it has none (`is_whole` False) what it said so far.

    `what` says why it ended, where that is not the answer. `sources`: files and pages, with the hash that was read.
    """

    lane: str
    text: str
    ending: Ending
    what: str
    spent: Spent
    sources: tuple[tuple[str, str], ...] = ()
    is_whole: bool = True

    @property
    def outcome(self) -> Outcome:
        """How the call ends that asked for it. A call that was denied on the way spoils no answer."""
        if self.ending == "interrupted":
            return "stopped"
        return "ok" if self.is_whole and self.ending in {"done", "denied"} else "failed"


class Spawn(Protocol):
    """Runs sub-agents, each in a lane of the session's own record. One call has one lane, found again by the call."""

    async def run(self, commission: Commission, context: Context) -> Report | Waits:
        """Open the lane of this call and work in it, or go on where it stands.

        Raises:
            ToolFailed: the call is a sub-agent's own.
            SessionError: the record can no longer be written.
        """
        ...

    def is_open(self, context: Context) -> bool:
        """Whether this call has a lane: then `run` goes on with it and begins nothing."""
        ...
