"""Where one lane stands in its turn: open or at rest, steps, the open attempt, failures in a row, what ends it.
Knows no guard.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.record.asides import ASIDES
from ml_intern.record.events import (
    Ending,
    Entry,
    Event,
    Lifted,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Paused,
    RetryPlanned,
    Role,
    StopAsked,
    ToolFinished,
    TurnEnded,
    Undone,
    UserSaid,
)


class Stopping(Struct, frozen=True):
    """The turn is to end for this reason as soon as nothing runs."""

    reason: Ending
    what: str = ""
    remedy: str = ""


class Turn(Struct, frozen=True):
    """`steps` counts replies of this turn; `failures` attempts that failed in a row;
    `queued` messages wait for its end; of these so many (`put_off`) were said before a person's stop.

    `denied` is the answer to the last call that was denied, while nothing was called since. `waited_ms` is how long it
    stood still for a person so far, `waiting_ms` since when it does so now.

    `failed_at` is the attempt that failed last, `answered_by` the model of the last reply; `tried` is what each model
    said that was left for another one since then, once for each time.
    """

    open: bool = False
    started_seq: int = 0
    started_ms: int = 0
    waited_ms: int = 0
    waiting_ms: int | None = None
    steps: int = 0
    failures: int = 0
    retry_due: int | None = None
    attempt: ModelAsked | None = None
    failed: ModelFailed | None = None
    replied: ModelReplied | None = None
    stopping: Stopping | None = None
    paused: Paused | None = None
    queued: int = 0
    put_off: int = 0
    denied: str = ""
    ended: TurnEnded | None = None
    failed_at: ModelAsked | None = None
    answered_by: str = ""
    tried: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def passed_ms(self, now_ms: int) -> int:
        """How long the turn has worked by `now_ms`; waiting for a person is no work."""
        until = now_ms if self.waiting_ms is None else self.waiting_ms
        return until - self.started_ms - self.waited_ms


def with_wait(turn: Turn, at: int, *, waits: bool) -> Turn:
    """The turn that, from entry time `at` on, waits for a person, or no longer does."""
    if waits is (turn.waiting_ms is not None):
        return turn
    if turn.waiting_ms is None:
        return replace(turn, waiting_ms=at)
    return replace(turn, waiting_ms=None, waited_ms=turn.waited_ms + at - turn.waiting_ms)


def fold_turn(turn: Turn, entry: Entry) -> Turn:
    """The turn after `entry`."""
    match entry.event:
        case ModelAsked() | ModelReplied() | ModelFailed():
            return _attempted(turn, entry.event)
        case ToolFinished(outcome=outcome, text=text):
            return replace(turn, denied=text) if outcome == "denied" else turn
        case UserSaid(when=when):
            if not turn.open:
                return Turn(open=True, started_seq=entry.seq, started_ms=entry.at, queued=turn.queued)
            return replace(turn, queued=turn.queued + 1) if when == "after" else replace(turn, paused=None)
        case StopAsked(reason=reason):
            put_off = turn.queued if reason == "interrupted" else turn.put_off
            return replace(turn, stopping=_asked_to_stop(reason), put_off=put_off) if turn.open else turn
        case TurnEnded() as ended:
            if turn.queued and not ended.waiting:
                return Turn(open=True, started_seq=entry.seq, started_ms=entry.at, ended=ended)
            return replace(turn, open=False, ended=ended, stopping=None, paused=None, put_off=0)
        case Undone():
            # How the turn before ended matters to nobody now: there is nothing to go on with.
            return Turn(ended=TurnEnded("done"))
        case _:
            return _between(turn, entry.event)


def _between(turn: Turn, event: Event) -> Turn:
    match event:
        case Paused() as paused:
            return replace(turn, paused=paused)
        case Lifted():
            return replace(turn, paused=None)
        case ModelChosen(role=role):
            return _left(turn, role)
        case ModelStopped():
            return replace(turn, attempt=None)
        case RetryPlanned(due=due):
            return replace(turn, retry_due=due)
        case _:
            return turn


def _attempted(turn: Turn, event: ModelAsked | ModelReplied | ModelFailed) -> Turn:
    match event:
        case ModelAsked(role=role) as asked:
            failed = turn.failed if role in ASIDES else None
            return replace(turn, attempt=asked, retry_due=None, failed=failed)
        case ModelReplied() | ModelFailed() if turn.attempt is not None and turn.attempt.role in ASIDES:
            overrun = isinstance(event, ModelReplied) and event.overrun
            return replace(turn, attempt=None, stopping=_overrun() if overrun else turn.stopping)
        case ModelReplied() as replied:
            return replace(
                turn,
                attempt=None,
                failures=0,
                failed=None,
                replied=replied,
                steps=turn.steps + 1,
                answered_by=turn.attempt.model if turn.attempt is not None else turn.answered_by,
                tried={},
                denied="" if replied.reply.calls else turn.denied,
                stopping=_overrun() if replied.overrun else turn.stopping,
            )
        case ModelFailed() as failed:
            at = turn.attempt or turn.failed_at
            failures = turn.failures + 1
            return replace(turn, attempt=None, failures=failures, failed=failed, failed_at=at, replied=None)


def _left(turn: Turn, role: Role) -> Turn:
    """Another model goes on where one failed: what it said is kept until somebody answers. Who is asked aside is no
    matter of the turn's own failure; there is only nothing to wait for.
    """
    if role in ASIDES:
        return replace(turn, retry_due=None)
    if turn.failed is None or turn.failed_at is None:
        return turn
    model = turn.failed_at.model
    tried = {**turn.tried, model: (*turn.tried.get(model, ()), turn.failed.what)}
    return replace(turn, failed=None, failures=0, retry_due=None, tried=tried)


def _asked_to_stop(reason: Literal["interrupted", "limit"]) -> Stopping:
    if reason == "limit":
        return Stopping(
            "limit",
            "The time for this turn is up.",
            "Resume the session, with a longer --max-time or a later --until if needed.",
        )
    return Stopping("interrupted", "The turn was stopped.", "Resume the session and say what to do next.")


def _overrun() -> Stopping:
    return Stopping(
        "budget",
        "The provider booked more than the worst case that was reserved.",
        "Check the price row of this model, then go on with a higher --budget.",
    )
