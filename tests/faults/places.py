"""The hard places: the single moments at which a death has the best chance to lose something or to do it twice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults import walk
from tests.faults.yard import Death


@dataclass(frozen=True, slots=True)
class Hard:
    """`death` ends the first run; with `then` a second one dies, too, before a third goes on. `rules` is the script."""

    death: Death
    then: Death | None = None
    rules: tuple[Mapping[str, Any], ...] = field(default_factory=lambda: tuple(walk.rules()))


def append(place: str, phase: str, **more: Any) -> dict[str, Any]:
    return {"at": "append", "holds": place, "phase": phase, **more}


def function(target: str, phase: str = "after", **more: Any) -> dict[str, Any]:
    return {"at": "function", "target": f"ml_intern.{target}", "phase": phase, **more}


def audit(event: str, holds: str, **more: Any) -> dict[str, Any]:
    return {"at": "audit", "event": event, "holds": holds, **more}


WRITE, EDIT, FIRST_COMMAND = "call_1_0", "call_3_0", "call_4_0"
_MID_WALK = append("tool_finished:call_4_0", "after")
_ASK, _START = '{"op": "start"', "'op': 'start'"
_SHOWN = "agent.ask:_Shown.show"
_SLOWLY = tuple(walk.rules(replies={4: {"chunk_delay_ms": 15}}))
_TWICE_BUSY = tuple(walk.rules(walk.fault(2, times=2, status=500)))
_CUT = tuple(walk.rules(walk.fault(4, cut_after=5)))


def _opening() -> dict[str, Hard]:
    return {
        "folder of the session made, no row": Hard(function("store.sqlite:SqliteStore.write", "before")),
        "row of the session made, not owned": Hard(function("store.sqlite:SqliteStore.create")),
        "first entry in its transaction": Hard(append("session_started", "staged")),
        "first entry committed, not returned": Hard(append("session_started", "committed")),
        "prompt not stored": Hard(append("user_said", "before")),
        "prompt in its transaction": Hard(append("user_said", "staged")),
        "prompt committed, not returned": Hard(append("user_said", "committed")),
    }


def _hand_over() -> dict[str, Hard]:
    """The first owner dies in mid-walk; the one who takes over dies while it does."""
    deaths = {
        "mutex locked": function("store.lock:_enter"),
        "epoch read": function("store.sqlite:SqliteStore.epoch", nth=2),
        "epoch not yet raised": function("store.sqlite:SqliteStore.set_epoch", "before"),
        "epoch raised, file not locked": function("store.sqlite:SqliteStore.set_epoch"),
        "file locked, holder not told": function("store.lock:_tell", "before", nth=2),
        "holder told": function("store.lock:_tell", nth=2),
        "older file not removed": audit("os.remove", "owner.1"),
        "older files removed": function("store.lock:_remove_older"),
        "owner not in the record": append("owner_took", "before"),
        "owner in its transaction": append("owner_took", "staged"),
        "owner committed, not returned": append("owner_took", "committed"),
        "owner in the record": append("owner_took", "after"),
    }
    return {f"hand-over: {name}": Hard(_MID_WALK, death) for name, death in deaths.items()}


def _asking() -> dict[str, Hard]:
    return {
        "attempt in its transaction": Hard(append("model_asked:0", "staged")),
        "attempt stored, nothing sent": Hard(append("model_asked:3", "committed")),
        "attempt stored, connecting": Hard(audit("socket.connect", "127.0.0.1", armed_by="model_asked:0")),
        "first word of the reply": Hard(function(_SHOWN, holds="TextDelta", armed_by="model_asked:4"), rules=_SLOWLY),
        "middle of the text": Hard(
            function(_SHOWN, holds="TextDelta", nth=20, armed_by="model_asked:4"), rules=_SLOWLY
        ),
        "middle of a call": Hard(function(_SHOWN, holds="CallDelta", nth=5, armed_by="model_asked:4"), rules=_SLOWLY),
        "waiting for more of the reply": Hard(
            function(_SHOWN, holds="TextDelta", nth=10, delay_s=0.007, armed_by="model_asked:4"), rules=_SLOWLY
        ),
        "whole reply, not stored": Hard(append("model_replied:4", "before")),
        "reply in its transaction": Hard(append("model_replied:4", "staged")),
        "reply committed, not returned": Hard(append("model_replied:4", "committed")),
        "last reply, turn open": Hard(append("model_replied:18", "after")),
    }


def _retrying() -> dict[str, Hard]:
    return {
        "failure not stored": Hard(append("model_failed:2", "before"), rules=_TWICE_BUSY),
        "failure stored, no retry planned": Hard(append("model_failed:2", "after"), rules=_TWICE_BUSY),
        "retry in its transaction": Hard(append("retry_planned", "staged"), rules=_TWICE_BUSY),
        "retry sleep": Hard(append("retry_planned", "after", delay_s=0.2), rules=_TWICE_BUSY),
        "second retry sleep": Hard(append("retry_planned", "after", nth=2, delay_s=0.5), rules=_TWICE_BUSY),
        "stream cut, not stored": Hard(append("model_failed:4", "before"), rules=_CUT),
        "stream cut, retry sleep": Hard(append("retry_planned", "after", delay_s=0.2), rules=_CUT),
    }


def _changing() -> dict[str, Hard]:
    found: dict[str, Hard] = {}
    for name, call in (("write", WRITE), ("edit", EDIT)):
        started, finished = f"tool_started:{call}", f"tool_finished:{call}"
        found |= {
            f"{name}: start in its transaction": Hard(append(started, "staged")),
            f"{name}: start committed, not returned": Hard(append(started, "committed")),
            f"{name}: between start and effect": Hard(append(started, "after")),
            f"{name}: written beside, not renamed": Hard(audit("os.rename", ".ml-intern-write-", armed_by=started)),
            f"{name}: between effect and finish": Hard(function("sandbox.files:write_atomic", armed_by=started)),
            f"{name}: finish in its transaction": Hard(append(finished, "staged")),
            f"{name}: finish committed, not returned": Hard(append(finished, "committed")),
        }
    return found


def _looking() -> dict[str, Hard]:
    return {
        "reads side by side: second started": Hard(append("tool_started:call_2_1", "after")),
        "reads side by side: first not finished": Hard(append("tool_finished:call_2_0", "before")),
        "reads side by side: second not finished": Hard(append("tool_finished:call_2_1", "before")),
        "plan: between start and finish": Hard(append("tool_started:call_0_0", "after")),
        "plan: finish not stored": Hard(append("tool_finished:call_17_0", "before")),
    }


def _commanding() -> dict[str, Hard]:
    first, slow = f"tool_started:{FIRST_COMMAND}", f"tool_started:{walk.SLOW}"
    starting = {"holds": _START}
    return {
        "command: start committed, not returned": Hard(append(first, "committed")),
        "command: between start and effect": Hard(append(first, "after")),
        "command: supervisor not started": Hard(function("sandbox.connection:_start", "before")),
        "command: supervisor started, nothing asked": Hard(function("sandbox.connection:_start")),
        "command: connected, not sent": Hard(function("sandbox.connection:Link.ask", "before", **starting)),
        "command: sent, not confirmed": Hard(function("sandbox.connection:Link.ask", **starting)),
        "command: just confirmed": Hard(function("sandbox.connection:Link.answer", armed_by=slow)),
        "command: first output": Hard(function("sandbox.commands:_Tail.read", armed_by=slow)),
        "command: in the middle": Hard(append(slow, "after", delay_s=0.5)),
        "command: ended while nobody was there": Hard(append(slow, "after", delay_s=0.9)),
        "command: between effect and finish": Hard(function("sandbox.commands:Commands.run", armed_by=first)),
        "command: finish not stored": Hard(append(f"tool_finished:{FIRST_COMMAND}", "before")),
        "command: finish in its transaction": Hard(append(f"tool_finished:{FIRST_COMMAND}", "staged")),
        "command: finish committed, not returned": Hard(append(f"tool_finished:{FIRST_COMMAND}", "committed")),
        "command: failed, finish not stored": Hard(append("tool_finished:call_7_0", "before")),
        "command: changed a known file, finish not stored": Hard(append("tool_finished:call_13_0", "before")),
        "two changes in a reply: between them": Hard(append("tool_finished:call_6_0", "after")),
        "killed again while attached": Hard(
            append(slow, "after", delay_s=0.3), function("sandbox.commands:_Tail.read", nth=2)
        ),
    }


def _keeping() -> dict[str, Hard]:
    return {
        "blob: not written": Hard(function("store.blobs:Blobs.keep", "before")),
        "blob: written beside, not renamed": Hard(audit("os.rename", "/blobs/")),
        "blob: between blob and event": Hard(function("store.blobs:Blobs.keep")),
        "blob: event in its transaction": Hard(append(f"tool_finished:{walk.LONG}", "staged")),
        "blob: event committed, not returned": Hard(append(f"tool_finished:{walk.LONG}", "committed")),
    }


def _building() -> dict[str, Hard]:
    return {
        "environment: making its folder": Hard(audit("subprocess.Popen", "'venv'")),
        "environment: in the middle of making it": Hard(audit("subprocess.Popen", "'venv'", delay_s=0.02)),
        "environment: installing": Hard(audit("subprocess.Popen", "'install'")),
        "environment: in the middle of installing": Hard(audit("subprocess.Popen", "'install'", delay_s=0.02)),
        "environment: whole, not marked ready": Hard(function("sandbox.environment:_finish", "before")),
        "environment: ready, command not begun": Hard(function("sandbox.environment:_finish")),
    }


def _ending() -> dict[str, Hard]:
    return {
        "end of the turn not stored": Hard(append("turn_ended", "before")),
        "end of the turn in its transaction": Hard(append("turn_ended", "staged")),
        "end of the turn committed, not returned": Hard(append("turn_ended", "committed")),
        "end of the turn stored, nothing printed": Hard(append("turn_ended", "after")),
        "supervisor not put away": Hard(function("sandbox.commands:Commands.close", "before")),
        "supervisor put away": Hard(function("sandbox.commands:Commands.close")),
    }


HARD: Mapping[str, Hard] = {
    **_opening(),
    **_hand_over(),
    **_asking(),
    **_retrying(),
    **_changing(),
    **_looking(),
    **_commanding(),
    **_keeping(),
    **_building(),
    **_ending(),
}
