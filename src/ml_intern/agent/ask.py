"""One attempt at a model, from its reservation to its outcome, all of it recorded. Knows no wire and no tool.

The record decides what comes next: a passing failure leaves a planned retry, any other one ends the turn.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.agent.chain import Chains, first_link, followed, goes_on, next_aside, next_link
from ml_intern.agent.context import Head, bound_tokens, guessed_tokens, make_request, reply_tokens
from ml_intern.agent.day import REMEDY, Day, EveryDay, spent_words
from ml_intern.agent.lost import close_attempt
from ml_intern.agent.share import HELD_BY_OTHERS, freed, others_hold, purse_of, share_spent
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
from ml_intern.record.messages import Prices, Reply
from ml_intern.record.next import MOST_FAILURES, Rest, next_step
from ml_intern.record.secrets import CleanStream
from ml_intern.record.view import View

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LONGEST_RETRY_AFTER_S = 900.0
"""A provider that wants a longer pause than this is as good as gone for an unattended turn."""
LONGEST_WITH_OTHERS_S = 60.0
"""The same, where another model of the chain could answer meanwhile."""
MOST_PATIENT = 24
"""Attempts in a row that may fail where the model has answered before, nobody else could, and none was billed: with
their waits a quarter of an hour, so that an outage of the network is not the end of a night.
"""


_Claim = tuple[str, Micro | None]
"""The id of an attempt to be, and what is left of the day (None: no cap)."""


class Asker(Struct, frozen=True):
    """Asks the models of one session. `heads` are what each role is told before the conversation.

    `models` answer a role, and `chains` are all that may; a role that is in neither follows `main`.
    """

    log: Log
    live: Live
    clock: Clock
    models: Mapping[Role, Model]
    heads: Mapping[Role, Head]
    day: Day = EveryDay()
    chains: Chains = MappingProxyType({})

    async def ask(self, lane: str, role: Role = "main") -> None:
        """Make one attempt and record how it went, or end the turn where the purse cannot pay for one; for an aside of
        the conversation nothing happens then.

        Raises:
            asyncio.CancelledError: stopped; what came so far is recorded if a person asked for the stop.
            SessionError: the record can no longer be written.
        """
        await close_attempt(self.log, lane)
        await self._begin(lane, role)
        key, left = new_id(), await self.day.left()
        wanted = self._propose(self.log.view, lane, role, (key, left))
        if isinstance(wanted, Refusal):
            await freed(self.log, lane)
            return
        if isinstance(wanted, ModelAsked) and not await self.day.reserve(key, wanted.reserved):
            return  # Another session was faster: the loop asks again, with what is left now.
        entry = await self.log.add(lambda view: self._granted(view, lane, role, (key, left), wanted), lane)
        asked = entry.event if not isinstance(entry, Refusal) else None
        if isinstance(asked, ModelAsked):
            await self._attempt(lane, role, asked)
        elif isinstance(wanted, ModelAsked):
            self.day.book(key, 0)

    async def go_on(self, lane: str) -> bool:
        """Let the next model of the chain answer where one failed for good; says whether there is one.

        Raises:
            SessionError: the record can no longer be written.
        """
        return not isinstance(await self.log.add(lambda view: self._next(view, lane), lane), Refusal)

    async def pass_on(self, lane: str, role: Role) -> bool:
        """Let the next model of an aside's own chain answer where one failed; says whether there is one.

        Raises:
            SessionError: the record can no longer be written.
        """

        def propose(view: View) -> ModelChosen | Refusal:
            return next_aside(view, lane, self.chains, role) or Refusal("Nobody else is left.")

        return not isinstance(await self.log.add(propose, lane), Refusal)

    def _next(self, view: View, lane: str) -> ModelChosen | Refusal:
        match next_step(view, lane, self.clock.now_ms()):
            case Rest(ending=ending) if ending is not None and ending.reason in {"failed", "overflow"}:
                role = asked.role if (asked := view.lane(lane).turn.failed_at) is not None else "main"
                size = partial(guessed_tokens, view, lane, self._head(role))
                return next_link(view, lane, self.chains, size) or Refusal("Nobody else is left.")
            case _:
                return Refusal("The turn does not end on a failure.")

    async def _begin(self, lane: str, role: Role) -> None:
        """A turn begins with the first model of the chain, whoever answered before."""

        def propose(view: View) -> ModelChosen | Refusal:
            size = partial(guessed_tokens, view, lane, self._head(role))
            return first_link(view, lane, self.chains, role, size) or Refusal("It answers already.")

        if not isinstance(propose(self.log.view), Refusal):
            await self.log.add(propose, lane)

    def _head(self, role: Role) -> Head:
        return self.heads[role] if role in self.heads else self.heads["main"]

    def _model(self, role: Role, model: str) -> Model:
        """The access to `model`, which answers `role`."""
        own = followed(self.log.view, role)
        found = next((link.model for link in self.chains.get(own, ()) if link.chosen.model == model), None)
        return found or self.models[own if own in self.models else "main"]

    def _prices(self, role: Role, model: str) -> Prices | None:
        """The rates that the attempt was reserved at, whoever answers the role by now."""
        own = followed(self.log.view, role)
        found = next((link.chosen for link in self.chains.get(own, ()) if link.chosen.model == model), None)
        return (found or self.log.view.settings.model_of(role)).prices

    def _granted(self, view: View, lane: str, role: Role, claim: _Claim, granted: Event) -> Event | Refusal:
        """The attempt as the view is now, unless it would take more of the day than was reserved."""
        proposed = self._propose(view, lane, role, claim)
        if isinstance(proposed, ModelAsked) and isinstance(granted, ModelAsked):
            return proposed if proposed.reserved <= granted.reserved else Refusal("A message came in.")
        ends = isinstance(proposed, TurnEnded) and not self._head(role).aside
        return proposed if ends else Refusal("The budget was raised.")

    def _propose(self, view: View, lane: str, role: Role, claim: _Claim) -> ModelAsked | TurnEnded | Refusal:
        key, left = claim
        chosen, head = view.settings.model_of(role), self._head(role)
        bound = bound_tokens(view, lane, head, chosen.model)
        room = reply_tokens(view, lane, head, chosen)
        quote = quote_attempt(_with_day(purse_of(view, lane), left), chosen, bound, room)
        if quote is None and (ended := share_spent(view, lane)) is not None:
            return ended
        if quote is None and not head.aside and others_hold(view, lane):
            return HELD_BY_OTHERS
        if quote is None and left is not None and left < view.purse.free:
            return TurnEnded("budget", spent_words(left), REMEDY)
        if quote is None:
            cap = show(Micro(view.purse.cap or 0))
            left = show(Micro(view.purse.free))
            what = f"The budget cannot pay for another reply: {left} of {cap} is left."
            return TurnEnded("budget", what, "Resume the session with a higher --budget.")
        expected = guessed_tokens(view, lane, head)
        return ModelAsked(key, role, chosen.model, quote.reserved, bound, quote.max_output, head.digest, expected)

    async def _attempt(self, lane: str, role: Role, asked: ModelAsked) -> None:
        begun = self.clock.now_ms()
        head = self._head(role)
        shown = _Shown(Live() if head.aside else self.live, self.log, lane, asked.attempt)
        request = make_request(self.log.view, lane, head, asked.max_output)
        prices = self._prices(role, asked.model)
        try:
            finished = await _consume(
                self._model(role, asked.model), request, lambda item: shown.show(item, self.clock.now_ms() - begun)
            )
        except ModelError as error:
            await self._failed(lane, asked, error)
            return
        except asyncio.CancelledError:
            await self._stopped(lane, asked, shown)
            raise
        total_ms = self.clock.now_ms() - begun
        await self.log.add(_replied(asked, prices, finished, shown.first_ms or total_ms, total_ms), lane)

    async def _failed(self, lane: str, asked: ModelAsked, error: ModelError) -> None:
        """An answer that is an error was not billed; a request that was cut may have been: its worst case is booked."""
        others, known = goes_on(self.log.view, lane, self.chains), _has_answered(self.log.view, asked.model)
        longest = LONGEST_WITH_OTHERS_S if others else LONGEST_RETRY_AFTER_S
        too_long = error.retry_after_s is not None and error.retry_after_s > longest
        never_there = isinstance(error, NoServer) and not known
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
        most = MOST_PATIENT if known and not (others or error.may_be_billed) else MOST_FAILURES
        if failed.transient and failures <= most:
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


def _replied(
    asked: ModelAsked, prices: Prices | None, finished: Finished, first_ms: int, total_ms: int
) -> ModelReplied:
    usage = finished.usage
    cost = asked.reserved if usage is None or prices is None else price_of(prices, usage)
    return ModelReplied(
        asked.attempt,
        replace(finished.reply, by=asked.model),
        usage,
        cost,
        finished.finish,
        finished.served_by,
        first_ms,
        total_ms,
        bound=usage is None,
        overrun=cost > asked.reserved,
        role=asked.role,
        served_at=finished.served_at,
    )


def _with_day(purse: Purse, left: Micro | None) -> Purse:
    """The purse, with no more in it than is left of the day."""
    return purse if left is None else replace(purse, cap=min(purse.cap or 0, purse.committed + left))


def _has_answered(view: View, model: str) -> bool:
    """Whether this model gave a reply in any lane, or one that nobody wrote down, which is still there."""
    if any(model in lane.memory.answered for lane in view.lanes.values()):
        return True
    replies = (line.message for lane in view.lanes.values() for line in lane.transcript.lines)
    return any(isinstance(each, Reply) and each.by in {"", model} for each in replies)


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
