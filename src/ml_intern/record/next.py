"""What a lane's loop should do next: a pure function of the view and the time. Knows no guard, tool or model."""

from typing import Literal

from msgspec import Struct

from ml_intern.record.folds.memory import told_window
from ml_intern.record.folds.turn import Stopping, Turn
from ml_intern.record.messages import Reply
from ml_intern.record.room import fits_shorter, is_full
from ml_intern.record.view import Lane, View


class AskModel(Struct, frozen=True):
    """Ask the model: nothing is open and something new stands in the transcript."""


class SettleCalls(Struct, frozen=True):
    """Some call can go on: judge it, start it, or finish it."""


class Compact(Struct, frozen=True):
    """Make room in the transcript: the next request would not fit, or the last one did not."""


class Wait(Struct, frozen=True):
    """Nothing to do until a person answers, or until `due` (milliseconds since 1970)."""

    on: Literal["person", "instant"]
    due: int = 0


class Rest(Struct, frozen=True):
    """The lane rests. `ending` is set where the turn is over but its end is not yet recorded."""

    ending: Stopping | None = None


NextStep = AskModel | SettleCalls | Compact | Wait | Rest

MOST_FAILURES = 6
"""Attempts in a row that may fail for a passing reason before the turn ends, unless one more is planned."""
MOST_OVERFLOWS = 4
"""Requests in a row that may be too long, room being made after each, before the turn ends."""
_NOTHING_TO_GAIN_BYTES = 4_000
"""Of a transcript, below which a request that is too long is so because of its head."""


def next_step(view: View, lane_name: str, now_ms: int, head_bytes: int = 0) -> NextStep:
    """The next step of the lane at `now_ms`, whose requests begin with a head of so many bytes."""
    lane = view.lane(lane_name)
    turn = lane.turn
    if lane.calls:
        return _with_calls(lane)
    if not turn.open:
        return Rest()
    if turn.stopping is not None:
        return Rest(turn.stopping)
    if turn.paused is not None:
        return Wait("person")
    if turn.failed is not None:
        step = _after_failure(view, lane_name, now_ms)
    elif turn.replied is not None and _said_its_last(lane):
        step = Rest(_ending_of(turn))
    else:
        step = AskModel()
    return Compact() if isinstance(step, AskModel) and is_full(view, lane_name, head_bytes) else step


def _with_calls(lane: Lane) -> NextStep:
    """Which calls a held one holds back is found by preparing them: settling says whether anything moved."""
    if lane.turn.stopping is None and all(each.state == "held" for each in lane.calls.values()):
        return Wait("person")
    return SettleCalls()


def _said_its_last(lane: Lane) -> bool:
    """Whether the newest line of the transcript is the reply itself: nothing came after it."""
    lines = lane.transcript.lines
    return len(lines) > 0 and isinstance(lines[-1].message, Reply)


def _after_failure(view: View, lane_name: str, now_ms: int) -> NextStep:
    lane = view.lane(lane_name)
    turn, memory = lane.turn, lane.memory
    failed = turn.failed
    assert failed is not None
    is_short = not memory.squeezed and lane.transcript.weight < _NOTHING_TO_GAIN_BYTES
    is_told = memory.overflows <= MOST_OVERFLOWS and told_window(failed.what) is not None
    if failed.kind == "overflow" and is_told and fits_shorter(view, lane_name):
        return AskModel()
    if failed.kind == "overflow" and (is_short or memory.overflows > MOST_OVERFLOWS):
        return Rest(Stopping("overflow", _all_said(turn), failed.remedy))
    if failed.kind == "overflow":
        return AskModel() if memory.squeezed else Compact()
    # A death of our own process is no failure of the model: whoever resumes wants it asked.
    is_last = turn.failures > MOST_FAILURES and turn.retry_due is None and failed.kind != "lost"
    if not failed.transient or is_last:
        return Rest(Stopping("failed", _all_said(turn), failed.remedy))
    if turn.retry_due is not None and turn.retry_due > now_ms:
        return Wait("instant", turn.retry_due)
    return AskModel()


def _all_said(turn: Turn) -> str:
    """What failed; where others were asked before, what each of them said, too."""
    assert turn.failed is not None
    if not turn.tried or turn.failed_at is None:
        return turn.failed.what
    said = {model: whats[-1] for model, whats in turn.tried.items()} | {turn.failed_at.model: turn.failed.what}
    return "None of the models answered. " + " ".join(f"{model}: {what}" for model, what in said.items())


def _ending_of(turn: Turn) -> Stopping:
    replied = turn.replied
    assert replied is not None
    if turn.denied:
        return Stopping("denied", "The turn ended on a call that was denied.", turn.denied)
    match replied.finish:
        case "length":
            return Stopping(
                "failed", "The reply was cut at the output limit.", "Ask for the rest, or for a shorter answer."
            )
        case "filter":
            return Stopping("failed", "The provider's filter ended the reply.", "Word the task otherwise.")
        case _:
            return Stopping("done")
