"""Asks the person's own hooks about a call that is about to start, and records what they said. Knows no process."""

from typing import Protocol

from msgspec import Struct

from ml_intern.policy.hooks import strictest
from ml_intern.policy.judge import Ask, Deny
from ml_intern.record.events import Nudged
from ml_intern.record.hooks import HookRan
from ml_intern.record.log import Log
from ml_intern.record.messages import Call
from ml_intern.toolkit.tool import Prepared

SPEAKER = "hook"


class Gate(Protocol):
    """Who must be asked before a call starts."""

    async def before_call(self, lane: str, call: Call, prepared: Prepared) -> tuple[HookRan, ...]:
        """What each hook said; cancelled when a person stops the turn."""
        ...


class OpenGate(Struct, frozen=True):
    """Nobody is asked."""

    async def before_call(self, lane: str, call: Call, prepared: Prepared) -> tuple[HookRan, ...]:
        """Nothing."""
        return ()


async def consult(gate: Gate, log: Log, lane: str, call: Call, prepared: Prepared) -> Ask | Deny | None:
    """What the hooks demand beyond the judge's verdict. Their answers are recorded, their notes told to the model.

    Raises:
        SessionError: the record can no longer be written.
    """
    answers = await gate.before_call(lane, call, prepared)
    for answer in answers:
        await log.add(answer, lane)
        if answer.note:
            await log.add(Nudged(SPEAKER, f"A hook of the user's says of this call: {answer.note}"), lane)
    found = strictest(answers)
    if found is None:
        return None
    who, why = f"the user's hook {found.hook!r}", found.reason or "it gave no reason"
    if found.decision == "deny":
        return Deny(f"{who} forbids it: {why}", "Find another way, or tell the user.")
    if found.fault:
        return Ask(f"is to be asked, as {who} failed ({why})", by_rule=True, since=f"{who} failed ({why})")
    return Ask(f"is to be asked, says {who}: {why}", by_rule=True, since=f"{who} has it asked ({why})")
