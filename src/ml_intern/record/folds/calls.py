"""The calls of one lane's last reply: new, held, answered, started. A finished call leaves. Knows no tool."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.record.asides import ASIDES
from ml_intern.record.events import (
    Entry,
    ModelReplied,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    UserSaid,
)
from ml_intern.record.messages import Call


class OpenCall(Struct, frozen=True):
    """A call without an answer. `held` and `started` are the last such events; `answer` is the person's, if any."""

    call: Call
    state: Literal["new", "held", "approved", "denied", "started"] = "new"
    held: ToolHeld | None = None
    held_seq: int = 0
    answer: str = ""
    started: ToolStarted | None = None


Calls = Mapping[str, OpenCall]


def wait_for_person(calls: Calls) -> bool:
    """Whether nothing goes on before a person answers; a call behind the held one may still be looked at."""
    states = {each.state for each in calls.values()}
    return "held" in states and states <= {"held", "new"}


def fold_calls(calls: Calls, entry: Entry) -> Calls:
    """The open calls after `entry`, in the order of the reply."""
    match entry.event:
        case ModelReplied(reply=reply, role=role) if role not in ASIDES:
            return {**calls, **{call.id: OpenCall(call) for call in reply.calls}}
        case ToolStarted(call=key) as started:
            return {**calls, key: replace(calls[key], state="started", started=started)}
        case ToolFinished(call=key):
            return {other: open_call for other, open_call in calls.items() if other != key}
        case ToolHeld(call=key) as held:
            return {**calls, key: replace(calls[key], state="held", held=held, held_seq=entry.seq, answer="")}
        case ToolAnswered(call=key, approve=approve, text=text):
            state = "approved" if approve else "denied"
            return {**calls, key: replace(calls[key], state=state, answer=text)}
        case UserSaid(when="now", text=text, seen=seen):
            return {key: _answered_by(open_call, text, seen) for key, open_call in calls.items()}
        case _:
            return calls


def _answered_by(open_call: OpenCall, text: str, seen: int) -> OpenCall:
    """A message answers "no" only to calls that were held when its writer last looked."""
    if open_call.state == "held" and open_call.held_seq <= seen:
        return replace(open_call, state="denied", answer=text)
    return open_call
