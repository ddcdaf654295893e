"""Runs the person's own hooks: JSON in, a verdict out. They run as the person would run them, outside the sandbox.

Knows which file they stand in no more: only hooks of files that count get here.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ml_intern.agent.gate import SPEAKER
from ml_intern.app.hook_process import MOST_BYTES, run_command
from ml_intern.base.errors import SessionError
from ml_intern.base.text import one_line
from ml_intern.policy.hooks import Hook, failed, ran
from ml_intern.record.effects import Effect
from ml_intern.record.events import (
    Entry,
    ModelReplied,
    Nudged,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.hooks import HookOn, HookRan
from ml_intern.record.log import Log
from ml_intern.record.messages import Call
from ml_intern.record.view import MAIN
from ml_intern.toolkit.tool import Prepared

MOST_WAITING = 256
_AT_ONCE = 4


class _Told(Struct, frozen=True):
    """What one hook is told, and of which call."""

    hook: Hook
    lane: str
    call: str
    data: Mapping[str, Any]


class Hooks:
    """The hooks of one session: those before a call are asked, all others told while the work goes on."""

    def __init__(self, hooks: Sequence[Hook], log: Log, environ: Mapping[str, str]) -> None:
        self._hooks = tuple(hooks)
        self._log = log
        self._environ = dict(environ)
        self._telling: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        lanes = log.view.lanes.values()
        self._calls: dict[str, tuple[Call, tuple[Effect, ...]]] = {
            key: (each.call, each.started.effects if each.started else ())
            for lane in lanes
            for key, each in lane.calls.items()
        }

    async def before_call(self, lane: str, call: Call, prepared: Prepared) -> tuple[HookRan, ...]:
        """Ask every hook that is meant, one after the other; one that denies is the last."""
        self._calls[call.id] = (call, prepared.effects)
        answers: list[HookRan] = []
        for hook in self._meant("before_call", call.tool, prepared.effects):
            data = {
                **self._about(lane, call.id, prepared.effects),
                "display": msgspec.to_builtins(prepared.display),
                "quote": prepared.quote,
                "payer": prepared.payer,
            }
            answers.append(await self._run(_Told(hook, lane, call.id, data)))
            if answers[-1].decision == "deny":
                break
        return tuple(answers)

    def read(self, entry: Entry) -> None:
        """A reader of the record: tell the hooks that are meant, without waiting for them."""
        match entry.event:
            case ModelReplied(reply=reply):
                self._calls.update({call.id: (call, ()) for call in reply.calls})
            case UserSaid(text=text) if self._begins(entry):
                self._tell("before_turn", entry.lane, "", {"text": text})
            case TurnEnded(reason=reason, what=what, remedy=remedy) if entry.lane == MAIN:
                self._tell("after_turn", entry.lane, "", {"reason": reason, "what": what, "remedy": remedy})
            case ToolHeld(call=call, reason=reason, effects=effects, quote=quote, payer=payer):
                self._keep(call, effects)
                self._tell("held", entry.lane, call, {"reason": reason, "quote": quote, "payer": payer})
            case ToolAnswered(call=call, approve=approve, text=text):
                self._tell("answered", entry.lane, call, {"approve": approve, "text": text})
            case ToolStarted(call=call, effects=effects):
                self._keep(call, effects)
            case ToolFinished(call=call, outcome=outcome, text=text, total_ms=total_ms):
                more = {"outcome": outcome, "text": text, "total_ms": total_ms}
                self._tell("after_call", entry.lane, call, more)
                self._calls.pop(call, None)
            case _:
                pass

    async def slow(self, patience_s: float) -> list[str]:
        """Wait so long for those that are being told; what to tell a person of each that is not done then."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=patience_s)
        return [task.get_name() for task in self._telling if not task.done()]

    async def close(self) -> None:
        """Wait until all have been told; each has its own time."""
        while self._telling:
            await asyncio.wait(self._telling)

    def _begins(self, entry: Entry) -> bool:
        turn = self._log.view.lane(entry.lane).turn
        return entry.lane == MAIN and turn.open and turn.started_seq == entry.seq

    def _keep(self, call: str, effects: tuple[Effect, ...]) -> None:
        if known := self._calls.get(call):
            self._calls[call] = (known[0], effects)

    def _meant(self, on: HookOn, tool: str, effects: tuple[Effect, ...]) -> list[Hook]:
        return [hook for hook in self._hooks if hook.wants(on, tool, effects)]

    def _about(self, lane: str, call: str, effects: tuple[Effect, ...]) -> dict[str, Any]:
        started = self._log.view.started
        about: dict[str, Any] = {
            "session": started.session if started else "",
            "workspace": started.workspace if started else "",
            "lane": lane,
        }
        known = self._calls.get(call)
        if known is not None:
            about["call"] = {"id": call, "tool": known[0].tool, "arguments": known[0].arguments}
            about["effects"] = msgspec.to_builtins(effects)
        return about

    def _tell(self, on: HookOn, lane: str, call: str, more: Mapping[str, Any]) -> None:
        known = self._calls.get(call)
        effects = known[1] if known is not None else ()
        for hook in self._meant(on, known[0].tool if known is not None else "", effects):
            if len(self._telling) >= MOST_WAITING:
                return
            told = _Told(hook, lane, call, {**self._about(lane, call, effects), **more})
            name = f"the hook {hook.name!r} ({on}), {hook.timeout_s:g} s at most"
            task = asyncio.get_running_loop().create_task(self._tell_one(told), name=name)
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_one(self, told: _Told) -> None:
        async with self._slots:
            answer = await self._run(told)
        # Who closed the record meanwhile has no use for it.
        with contextlib.suppress(SessionError):
            await self._log.add(answer, told.lane)
            if answer.note and told.hook.on == "before_turn":
                await self._log.add(Nudged(SPEAKER, f"A hook of the user's says: {answer.note}"), told.lane)

    async def _run(self, told: _Told) -> HookRan:
        hook, begun = told.hook, time.monotonic()
        data = json.dumps({"event": hook.on, **told.data}, ensure_ascii=False).encode(errors="replace")
        try:
            async with asyncio.timeout(hook.timeout_s):
                ended = await run_command(hook.command, data, self._environ, str(told.data["workspace"]))
        except TimeoutError:
            return failed(hook, told.call, f"no answer within {hook.timeout_s:g} s", _since(begun))
        except OSError as error:
            return failed(hook, told.call, f"it cannot be started: {error.strerror}", _since(begun))
        if ended.code != 0:
            last = one_line((ended.complaint.decode(errors="replace").strip().splitlines() or [""])[-1], 200)
            return failed(hook, told.call, f"code {ended.code}" + (f": {last}" if last else ""), _since(begun))
        if not ended.is_whole:
            return failed(hook, told.call, f"it printed more than {MOST_BYTES // 1024} kB", _since(begun))
        return ran(hook, told.call, ended.output, _since(begun))


def _since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
