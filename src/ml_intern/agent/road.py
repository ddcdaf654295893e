"""The one road of every call: resolve, validate, prepare, judge, reserve and start, run, finish. Knows no tool by name.

The road never raises for a call's sake: each ends finished or held, and the model always gets an answer. Only a record
that can no longer be written, and cancellation, come out of it.
"""

import asyncio
import logging
import shlex
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.agent.binding import binding_of
from ml_intern.agent.day import REMEDY, Day, EveryDay, spent_words
from ml_intern.agent.gate import Gate, OpenGate, consult
from ml_intern.agent.share import purse_of
from ml_intern.base.clock import Clock
from ml_intern.base.errors import MlInternError, SessionError
from ml_intern.base.money import ZERO, Micro, show
from ml_intern.policy.grants import grants_at, line_of
from ml_intern.policy.guards.malformed import INVALID
from ml_intern.policy.judge import Ask, Deny, judge
from ml_intern.policy.rules import parse_rules
from ml_intern.policy.taint import taints
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import is_read_only
from ml_intern.record.events import LOOKING, Event, Outcome, ToolFinished, ToolHeld, ToolStarted
from ml_intern.record.folds.calls import OpenCall
from ml_intern.record.frame import new_frame
from ml_intern.record.live import Live, LiveItem
from ml_intern.record.log import Log, Refusal
from ml_intern.record.messages import Call
from ml_intern.record.secrets import CleanStream
from ml_intern.record.view import View
from ml_intern.toolkit.registry import Registry
from ml_intern.toolkit.schema import Invalid, parse
from ml_intern.toolkit.tool import Context, Prepared, Result, Tool

SIDE_BY_SIDE = 8

_log = logging.getLogger(__name__)


class _Ready(Struct, frozen=True):
    """A call that was prepared and judged: `ask` is set where a person must decide first, `grants` where one has."""

    tool: Tool
    args: Any
    prepared: Prepared
    binding: str
    ask: Ask | None
    grants: tuple[str, ...] = ()


class Road(Struct, frozen=True):
    """The road of one session's calls. `looking`: those that it takes may only look, whatever the mode."""

    log: Log
    live: Live
    clock: Clock
    registry: Registry
    day: Day = EveryDay()
    looking: bool = False
    gate: Gate = OpenGate()

    async def settle(self, lane: str) -> bool:
        """Take every open call of `lane` as far as it goes now; whether any moved.

        Calls are taken in order. Those that only look run side by side; each other one waits for all before it,
        and a held
        one holds back every later one that would change something.
        """
        before = self.log.view.seq
        looking: list[asyncio.Task[None]] = []
        slots = asyncio.Semaphore(SIDE_BY_SIDE)
        try:
            for call_id in tuple(self.log.view.lane(lane).calls):
                await self._take(lane, call_id, looking, slots)
            await _all(looking)
        finally:
            await _end(looking)
        return self.log.view.seq > before

    async def _take(self, lane: str, call_id: str, looking: list[asyncio.Task[None]], slots: asyncio.Semaphore) -> None:
        open_call = self.log.view.lane(lane).calls[call_id]
        if refusal := self._refusal(lane, open_call):
            await self._finish(lane, open_call.call, *refusal)
            return
        match open_call.state:
            case "held":
                return
            case "started":
                assert open_call.started is not None
                if is_read_only(open_call.started.effects):
                    looking.append(asyncio.create_task(self._recover_looking(lane, open_call, slots)))
                    return
                await _all(looking)
                await self._recover(lane, open_call)
                return
            case _:
                ready = await self._make_ready(lane, open_call.call)
        if ready is not None and ready.ask is None and is_read_only(ready.prepared.effects):
            looking.append(asyncio.create_task(self._start_looking(lane, open_call, ready, slots)))
        elif ready is not None and not self._is_before(lane, call_id, "held"):
            await self._take_changing(lane, open_call, ready, looking)

    def _refusal(self, lane: str, open_call: OpenCall) -> tuple[Outcome, str] | None:
        """Why a call that has not started never will."""
        stopping = self.log.view.lane(lane).turn.stopping
        if open_call.state == "denied":
            words = f" and said: {open_call.answer}" if open_call.answer else "."
            return "denied", f"Not run. The user said no{words}"
        if stopping is not None and open_call.state != "started":
            return "stopped", f"Not run. {stopping.what}"
        if self.log.secrets.labelled(open_call.call.arguments):
            return "denied", (
                "Not run: the arguments hold a credential. Never write one out; what needs a credential is given it by "
                "the sandbox, or the user must set it up. Leave it out."
            )
        return None

    def _is_before(self, lane: str, call_id: str, state: Literal["held", "started"]) -> bool:
        """Whether a call of this state stands before this one."""
        for other_id, other in self.log.view.lane(lane).calls.items():
            if other_id == call_id:
                return False
            if other.state == state:
                return True
        return False

    async def _take_changing(
        self, lane: str, open_call: OpenCall, ready: _Ready, looking: list[asyncio.Task[None]]
    ) -> None:
        """A call that changes something starts after all before it; what it was prepared on may have changed."""
        if looking:
            await _all(looking)
            if self._is_before(lane, open_call.call.id, "started"):
                return  # One of them waits for a person.
            fresh = await self._make_ready(lane, open_call.call)
            if fresh is None:
                return
            ready = fresh
        await self._pass(lane, open_call, ready)

    async def _start_looking(self, lane: str, open_call: OpenCall, ready: _Ready, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._pass(lane, open_call, ready)

    async def _pass(self, lane: str, open_call: OpenCall, ready: _Ready) -> None:
        """Start the call, if neither the judge nor a hook of the person's own stands before it."""
        demand = await consult(self.gate, self.log, lane, open_call.call, ready.prepared)
        if isinstance(demand, Deny):
            await self._finish(lane, open_call.call, "denied", f"Denied: {demand.reason}. {demand.remedy}")
            return
        ask = ready.ask or demand
        if ask is not None and not _approves(open_call, ready.binding):
            await self._ask_person(lane, open_call, ready, ask)
            return
        await self._start(lane, open_call, ready)

    async def _recover_looking(self, lane: str, open_call: OpenCall, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._recover(lane, open_call)

    async def _make_ready(self, lane: str, call: Call) -> _Ready | None:
        """Resolve, validate, prepare and judge; None where that already answered the call."""
        tool = self.registry.find(call.tool)
        if tool is None:
            await self._finish(lane, call, "invalid", self.registry.unknown(call.tool))
            return None
        args = parse(tool.args, call.arguments)
        if isinstance(args, Invalid):
            await self._finish(lane, call, "invalid", f"{INVALID} {args.text}")
            return None
        prepared = await self._guarded(lane, call, tool.prepare, args, self._context(lane, call))
        if not isinstance(prepared, Prepared):
            return None
        settings = self.log.view.settings
        mode = settings.mode.mode if settings.mode is not None else "ask"
        mode = LOOKING if self.looking else mode
        grants = grants_at(self.log.view.grants, self.clock.now_ms())
        tainted = taints(prepared.effects, self.log.view.origins)
        verdict = judge(prepared.effects, mode, parse_rules(settings.rules.rules), grants, tainted)
        if isinstance(verdict, Deny):
            await self._finish(lane, call, "denied", f"Denied: {verdict.reason}. {verdict.remedy}")
            return None
        binding = binding_of(call, prepared)
        if isinstance(verdict, Ask):
            return _Ready(tool, args, prepared, binding, verdict)
        return _Ready(tool, args, prepared, binding, None, verdict.grants)

    async def _ask_person(self, lane: str, open_call: OpenCall, ready: _Ready, ask: Ask) -> None:
        """Hold the call, or answer "no" where nobody is there to ask."""
        mode = self.log.view.settings.mode
        if mode is None or mode.on_ask == "deny":
            await self._finish(lane, open_call.call, "denied", _nobody_there(ask))
            return
        reason = ask.reason
        if open_call.state == "approved":
            reason = f"{reason} (approved before, but what it would do has changed since)"
        prepared = ready.prepared
        held = ToolHeld(
            open_call.call.id,
            ready.binding,
            reason,
            prepared.effects,
            prepared.quote,
            prepared.payer,
            prepared.display,
        )
        await self.log.add(held, lane)

    async def _start(self, lane: str, open_call: OpenCall, ready: _Ready) -> None:
        call, prepared = open_call.call, ready.prepared
        started = ToolStarted(
            call.id,
            ready.binding,
            prepared.effects,
            prepared.replay,
            prepared.quote,
            prepared.payer,
            prepared.inputs,
            prepared.writes,
            # What a person has answered for itself uses up nothing that was given for others.
            () if _approves(open_call, ready.binding) else ready.grants,
        )
        if not await self.day.reserve(call.id, started.reserved):
            await self._finish(lane, call, "denied", f"Not run. {spent_words(await self.day.left() or ZERO)} {REMEDY}")
            return
        now_ms = self.clock.now_ms()
        entry = await self.log.add(lambda view: reserve(view, lane, started, now_ms), lane)
        if isinstance(entry, Refusal):
            self.day.book(call.id, 0)
            outcome = "stopped" if self.log.view.lane(lane).turn.stopping is not None else "denied"
            await self._finish(lane, call, outcome, f"Not run. {entry.what} {entry.remedy}".strip())
            return
        await self._run(lane, call, ready)

    async def _run(self, lane: str, call: Call, ready: _Ready) -> None:
        begun = self.clock.now_ms()
        result = await self._guarded(lane, call, ready.tool.run, ready.prepared, self._context(lane, call))
        if isinstance(result, Result):
            await self._finish_with(lane, call, result, self.clock.now_ms() - begun)

    async def _recover(self, lane: str, open_call: OpenCall) -> None:
        """A call that was started by a process that is gone: find its effect, or do it if it surely did not happen."""
        call, started = open_call.call, open_call.started
        assert started is not None
        tool = self.registry.find(call.tool)
        args = parse(tool.args, call.arguments) if tool is not None else Invalid("")
        if tool is None or isinstance(args, Invalid) or started.replay == "unsafe":
            text = (
                "Interrupted: the process ended while this ran, and whether it took effect is unknown. "
                "Look before you repeat it."
            )
            await self._finish(lane, call, "lost", text)
            return
        if started.replay != "pure":
            found = await self._guarded(lane, call, tool.recover, args, started, self._context(lane, call))
            if found is not None:
                if isinstance(found, Result):
                    await self._finish_with(lane, call, found, 0)
                return
        await self._run_again(lane, open_call, started)

    async def _run_again(self, lane: str, open_call: OpenCall, started: ToolStarted) -> None:
        """The effect did not happen; it may now, if it is still the very same call and no stop was asked."""
        stopping = self.log.view.lane(lane).turn.stopping
        if stopping is not None:
            await self._finish(lane, open_call.call, "stopped", f"Not run. {stopping.what}")
            return
        ready = await self._make_ready(lane, open_call.call)
        if ready is None:
            return
        if started.replay != "pure" and ready.binding != started.binding:
            text = (
                "Not run: the process ended before it began, and what it looked at has changed since. "
                "Look again, then repeat it."
            )
            await self._finish(lane, open_call.call, "lost", text)
            return
        await self._run(lane, open_call.call, ready)

    async def _guarded(self, lane: str, call: Call, step: Callable[..., Any], *given: Any) -> Any:
        """What `step` returns, or the call's failure already recorded as its answer, which comes back then."""
        try:
            return await step(*given)
        except SessionError:
            raise
        except MlInternError as error:
            return await self._finish(lane, call, "failed", f"{error.what} {error.remedy}".strip(), error.quoted)
        except asyncio.CancelledError:
            if self.log.view.lane(lane).turn.stopping is not None:
                await self._finish(lane, call, "stopped", "Stopped while it ran; what it had done so far stands.")
            raise
        except Exception as error:  # A tool's bug must not cost the turn: the model is told, the log keeps the trace.
            _log.exception("the tool of call %s broke", call.id)
            text = f"The tool itself broke ({type(error).__name__}). Try other arguments or another way."
            return await self._finish(lane, call, "failed", text, str(error))

    async def _finish(self, lane: str, call: Call, outcome: Outcome, own: str, quoted: str = "") -> ToolFinished:
        """Answer in our own words, and behind them, framed as data, what somebody else said of it."""
        own = self._with_use(lane, call, own)
        text = f"{own}\n{quoted}" if quoted else own
        finished = ToolFinished(call.id, outcome, text, TextDisplay(call.tool, text))
        if quoted:
            finished = replace(finished, frame=new_frame(text), own_lines=own.count("\n") + 1)
        await self.log.add(_once(finished, lane), lane)
        return finished

    async def _finish_with(self, lane: str, call: Call, result: Result, total_ms: int) -> None:
        finished = ToolFinished(
            call.id,
            result.outcome,
            self._with_use(lane, call, result.text),
            result.display,
            result.facts,
            result.images,
            result.cost,
            result.blob,
            total_ms,
            "" if result.ours or not result.text else new_frame(result.text),
        )
        await self.log.add(_once(finished, lane), lane)

    def _with_use(self, lane: str, call: Call, text: str) -> str:
        """The answer, and which permission the call has used up one of."""
        view = self.log.view
        open_call = view.lane(lane).calls.get(call.id)
        used = open_call.started.grants if open_call is not None and open_call.started is not None else ()
        now_ms = self.clock.now_ms()
        told = [f"[Allowed beforehand by {line_of(view.grants[key], now_ms)}.]" for key in used if key in view.grants]
        return "\n".join([text, *told])

    def _context(self, lane: str, call: Call) -> Context:
        stream = CleanStream(self.log.secrets)

        def send(text: str) -> None:
            if self.live.watched and (cleaned := stream.push(text)):
                self.live.send(LiveItem(lane, call.id, "output", cleaned))

        view = self.log.view
        return Context(call.id, call.id, lane, view.started.workspace if view.started else "", view, send)


def _nobody_there(ask: Ask) -> str:
    """The answer to a call that asks where nobody is there; it names the rule that would have allowed it."""
    way = "Find another way."
    if ask.rule:
        way += f" The user can allow it beforehand with --allow {shlex.quote(ask.rule)}."
    return f"Denied: {ask.demand}, and nobody is there. {way}"


def _approves(open_call: OpenCall, binding: str) -> bool:
    """An approval holds only for exactly what was shown."""
    return open_call.state == "approved" and open_call.held is not None and open_call.held.binding == binding


def reserve(view: View, lane: str, started: ToolStarted, now_ms: int) -> Event | Refusal:
    """Reservation and start are one proposal: no two calls reserve the same money, or use the same last permission."""
    if view.lane(lane).turn.stopping is not None:
        return Refusal("The turn was stopped.")
    for grant in grants_at(view.grants, now_ms):
        if grant.id in started.grants and (grant.over or not grant.pays(started.effects)):
            over = grant.over or "what is left of it is less"
            what = f"{grant.words} allowed it, but {over}: another call was first."
            return Refusal(what, "Repeat it to be judged anew.")
    if started.reserved > (free := purse_of(view, lane).free):
        left, need = show(Micro(free)), show(Micro(started.reserved))
        return Refusal(f"The budget has {left} left and this may cost {need}.", "Only the user can raise the budget.")
    return started


def _once(finished: ToolFinished, lane: str) -> Callable[[View], Event | Refusal]:
    """The answer, unless the call has one: what was cut off while it wrote its own may still do so."""

    def propose(view: View) -> Event | Refusal:
        return finished if finished.call in view.lane(lane).calls else Refusal("The call is answered.")

    return propose


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.gather(*tasks)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """After a cancellation or a failure nothing is left running."""
    for task in tasks:
        # One that is ending already is not to be disturbed: it is writing its answer.
        if not task.cancelling():
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
