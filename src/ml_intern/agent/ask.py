"""One attempt at a model, from its reservation to its outcome, all of it recorded. Knows no wire and no tool.

The record decides what comes next: a passing failure leaves a planned retry, any other one ends the turn.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.agent.context import Head, bound_tokens, make_request
from ml_intern.agent.day import REMEDY, Day, EveryDay, spent_words
from ml_intern.base.clock import Clock
from ml_intern.base.errors import ModelError, NoServer, Unreachable
from ml_intern.base.ids import new_id
from ml_intern.base.money import Micro, show
from ml_intern.model.port import CallDelta, Delta, Finished, Model, Request, TextDelta, ThinkingDelta
from ml_intern.model.prices import price_of
from ml_intern.policy.purse import quote_attempt
from ml_intern.record.events import (
    Event,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    RetryPlanned,
    Role,
    TurnEnded,
)
from ml_intern.record.folds.purse import Purse
from ml_intern.record.live import Live, LiveItem
from ml_intern.record.log import Log, Refusal
from ml_intern.record.messages import Reply
from ml_intern.record.next import MOST_FAILURES
from ml_intern.record.secrets import CleanStream
from ml_intern.record.view import View

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 900.0
"""A provider that wants a longer pause than this is as good as gone for an unattended turn."""


_Claim = tuple[str, Micro | None]
"""The id of an attempt to be, and what is left of the day (None: no cap)."""


class Asker(Struct, frozen=True):
    """Asks the models of one session. `heads` are what each role is told before the conversation."""

    log: Log
    live: Live
    clock: Clock
    models: Mapping[Role, Model]
    heads: Mapping[Role, Head]
    day: Day = EveryDay()

    async def ask(self, lane: str, role: Role = "main") -> None:
        """Make one attempt and record how it went, or end the turn where the purse cannot pay for one.

        Raises:
            asyncio.CancelledError: stopped; what came so far is recorded if a person asked for the stop.
            SessionError: the record can no longer be written.
        """
        await self._close_lost(lane)
        key, left = new_id(), await self.day.left()
        wanted = self._propose(self.log.view, lane, role, (key, left))
        if isinstance(wanted, ModelAsked) and not await self.day.reserve(key, wanted.reserved):
            return  # Another session was faster: the loop asks again, with what is left now.
        entry = await self.log.add(lambda view: self._granted(view, lane, role, (key, left), wanted), lane)
        asked = entry.event if not isinstance(entry, Refusal) else None
        if isinstance(asked, ModelAsked):
            await self._attempt(lane, role, asked)
        elif isinstance(wanted, ModelAsked):
            self.day.book(key, 0)

    def _granted(self, view: View, lane: str, role: Role, claim: _Claim, granted: Event) -> Event | Refusal:
        """The attempt as the view is now, unless it would take more of the day than was reserved."""
        proposed = self._propose(view, lane, role, claim)
        if isinstance(proposed, ModelAsked) and isinstance(granted, ModelAsked):
            return proposed if proposed.reserved <= granted.reserved else Refusal("A message came in.")
        return proposed if isinstance(proposed, TurnEnded) else Refusal("The budget was raised.")

    def _propose(self, view: View, lane: str, role: Role, claim: _Claim) -> ModelAsked | TurnEnded:
        key, left = claim
        chosen, head = view.settings.models[role], self.heads[role]
        bound = bound_tokens(view, lane, head)
        quote = quote_attempt(_with_day(view.purse, left), chosen, bound)
        if quote is None and left is not None and left < view.purse.free:
            return TurnEnded("budget", spent_words(left), REMEDY)
        if quote is None:
            cap = show(Micro(view.purse.cap or 0))
            left = show(Micro(view.purse.free))
            what = f"The budget cannot pay for another reply: {left} of {cap} is left."
            return TurnEnded("budget", what, "Resume the session with a higher --budget.")
        return ModelAsked(key, role, chosen.model, quote.reserved, bound, quote.max_output, head.digest)

    async def _close_lost(self, lane: str) -> None:
        """An attempt found open is one whose process died: it may have been billed, so its worst case is booked."""
        lost = self.log.view.lane(lane).turn.attempt
        if lost is not None:
            what = "The process ended while the model was answering."
            failed = ModelFailed(lost.attempt, "lost", what, "", transient=True, cost=lost.reserved, bound=True)
            await self.log.add(failed, lane)

    async def _attempt(self, lane: str, role: Role, asked: ModelAsked) -> None:
        begun = self.clock.now_ms()
        shown = _Shown(self.live, self.log, lane, asked.attempt)
        request = make_request(self.log.view, lane, self.heads[role], asked.max_output)
        chosen = self.log.view.settings.models[role]
        try:
            finished = await _consume(
                self.models[role], request, lambda item: shown.show(item, self.clock.now_ms() - begun)
            )
        except ModelError as error:
            await self._failed(lane, asked, error)
            return
        except asyncio.CancelledError:
            await self._stopped(lane, asked, shown)
            raise
        total_ms = self.clock.now_ms() - begun
        await self.log.add(_replied(asked, chosen, finished, shown.first_ms or total_ms, total_ms), lane)

    async def _failed(self, lane: str, asked: ModelAsked, error: ModelError) -> None:
        """An answer that is an error was not billed; a request that was cut may have been: its worst case is booked."""
        too_long = error.retry_after_s is not None and error.retry_after_s > LONGEST_RETRY_AFTER_S
        never_there = isinstance(error, NoServer) and not _has_answered(self.log.view, lane)
        cost = asked.reserved if error.may_be_billed else 0
        failed = ModelFailed(
            asked.attempt,
            error.kind,
            error.what,
            error.remedy,
            error.transient and not too_long and not never_there,
            cost,
            error.retry_after_s,
            error.may_be_billed,
        )
        await self.log.add(failed, lane)
        failures = self.log.view.lane(lane).turn.failures
        if failed.transient and failures <= MOST_FAILURES:
            due = self.clock.now_ms() + round(_wait_s(failures, error.retry_after_s) * 1000)
            await self.log.add(RetryPlanned(due, failures), lane)

    async def _stopped(self, lane: str, asked: ModelAsked, shown: "_Shown") -> None:
        """Only a stop that is in the record leaves a trace; a dying process leaves the attempt open,
        as a crash would.
        """
        if self.log.view.lane(lane).turn.stopping is not None:
            await self.log.add(ModelStopped(asked.attempt, shown.text, asked.reserved, bound=True), lane)


async def _consume(model: Model, request: Request, show: Callable[[Delta], None]) -> Finished:
    """The end of the stream, after every delta was shown."""
    async with aclosing(model.ask(request)) as stream:
        async for item in stream:
            if isinstance(item, Finished):
                return item
            show(item)
    raise Unreachable("The model's answer ended without its end.", "It is asked again.", may_be_billed=True)


def _replied(asked: ModelAsked, chosen: ModelChosen, finished: Finished, first_ms: int, total_ms: int) -> ModelReplied:
    usage = finished.usage
    cost = asked.reserved if usage is None or chosen.prices is None else price_of(chosen.prices, usage)
    return ModelReplied(
        asked.attempt,
        finished.reply,
        usage,
        cost,
        finished.finish,
        finished.served_by,
        first_ms,
        total_ms,
        bound=usage is None,
        overrun=cost > asked.reserved,
    )


def _with_day(purse: Purse, left: Micro | None) -> Purse:
    """The purse, with no more in it than is left of the day."""
    return purse if left is None else replace(purse, cap=min(purse.cap or 0, purse.committed + left))


def _has_answered(view: View, lane: str) -> bool:
    return any(isinstance(line.message, Reply) for line in view.lane(lane).transcript.lines)


def _wait_s(failures: int, retry_after_s: float | None) -> float:
    """Exponential with full jitter in its upper half, or what the provider said plus a little,
    so that callers spread.
    """
    if retry_after_s is not None:
        return retry_after_s + random.uniform(0, 0.25)
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1))
    return random.uniform(longest / 2, longest)


class _Shown:
    """What of an attempt was shown so far; keeps the text for a stop."""

    def __init__(self, live: Live, log: Log, lane: str, attempt: str) -> None:
        self._live = live
        self._lane = lane
        self._attempt = attempt
        self._clean = {kind: CleanStream(log.secrets) for kind in ("text", "thinking", "call")}
        self._pieces: list[str] = []
        self.first_ms = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def show(self, delta: Delta, passed_ms: int) -> None:
        self.first_ms = self.first_ms or passed_ms
        if isinstance(delta, TextDelta):
            self._pieces.append(delta.text)
        if not self._live.watched:
            return
        match delta:
            case TextDelta(text=text) | ThinkingDelta(text=text):
                piece, index = text, 0
            case CallDelta(index=index, name=name, arguments=arguments):
                piece = f"{name} {arguments}" if name else arguments
        if cleaned := self._clean[delta.kind].push(piece):
            self._live.send(LiveItem(self._lane, self._attempt, delta.kind, cleaned, index))
