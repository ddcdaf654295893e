"""Sub-agents: each works in a lane of the session's own record, on the same road and from the same purse.

Knows no tool by name and no door. What a lane may do is what its parent may, or less.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.agent.context import Head, bound_tokens
from ml_intern.agent.loop import Tell, Worker, work
from ml_intern.agent.lost import close_attempt
from ml_intern.agent.share import purse_of, share_left
from ml_intern.base.errors import ToolFailed
from ml_intern.base.ids import new_id
from ml_intern.model.port import ToolSpec
from ml_intern.policy.purse import quote_attempt
from ml_intern.record.events import (
    LaneClosed,
    LaneOpened,
    Nudged,
    Role,
    StopAsked,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.log import Log, Refusal
from ml_intern.record.messages import Asked, Reply
from ml_intern.record.next import Wait
from ml_intern.record.view import MAIN, Lane, View
from ml_intern.toolkit.registry import Registry
from ml_intern.toolkit.spawn import Commission, Report
from ml_intern.toolkit.tool import Context, Tool, Waits

BROKE = "ml-intern broke while this sub-agent worked."
_LAST = "This is your last reply:"
_SAID_CHARS = 2_000
_LEAST_ADDED = 1_024
"""Bytes that a step adds to a conversation at the least, the line that says it is the last included."""


class Crew(Struct, frozen=True):
    """What lanes work with: the main agent's worker, the tools it has, the words for the walls."""

    worker: Worker
    tools: tuple[Tool, ...]
    walls: str = ""


class Lanes:
    """The sub-agents of one session. Implements `toolkit.spawn.Spawn`."""

    def __init__(self) -> None:
        self._furnished: Crew | None = None

    def furnish(self, crew: Crew) -> None:
        """Say what they work with. It comes later, because the tools that start them are among it."""
        self._furnished = crew

    async def run(self, commission: Commission, context: Context) -> Report | Waits:
        """Work in the lane of this call until it has an answer, ends without one, or waits for a person.

        Raises:
            ToolFailed: a sub-agent asked for one.
            SessionError: the record can no longer be written.
        """
        if context.lane != MAIN:
            raise ToolFailed(
                "A sub-agent cannot start another.", "Do it yourself, or leave it to who gave you the task."
            )
        crew = self._crew()
        log = crew.worker.log
        try:
            lane = lane_of_call(log.view, context.call) or await _open(log, commission, context)
            if log.view.lane(lane).turn.started_seq == 0:
                await log.add(UserSaid(context.call, commission.said), lane)
            opened = log.view.lane(lane).opened
            assert opened is not None
            worker = await _worker(crew, replace(commission, tools=opened.tools, max_steps=opened.max_steps))
        except asyncio.CancelledError:
            await _end_begun(crew, commission, context)
            raise
        if log.view.lane(lane).closed is None:
            if isinstance(await _work(worker, lane, context.lane), Wait):
                return Waits()
            await _close(log, lane)
        return report_of(log.view, lane)

    def is_open(self, context: Context) -> bool:
        """Whether this call has a lane."""
        return lane_of_call(self._crew().worker.log.view, context.call) is not None

    def _crew(self) -> Crew:
        assert self._furnished is not None
        return self._furnished


def lane_of_call(view: View, call: str) -> str | None:
    """The lane that was opened for `call`."""
    return next(
        (name for name, lane in view.lanes.items() if lane.opened is not None and lane.opened.call == call), None
    )


def report_of(view: View, name: str) -> Report:
    """What came of a lane that rests."""
    lane = view.lane(name)
    ended, answer = lane.turn.ended or TurnEnded("failed", BROKE), _answer(lane)
    text = answer or "\n\n".join(_said(lane))
    return Report(name, text, ended.reason, ended.what, lane.spent, tuple(lane.sources.items()), is_whole=bool(answer))


async def _open(log: Log, commission: Commission, context: Context) -> str:
    """A lane with a name of its own; several may be opened at once."""
    most = log.view.settings.limits.max_steps
    steps = commission.max_steps if most is None else min(commission.max_steps, most)
    opened = LaneOpened(
        context.lane,
        context.call,
        commission.agent,
        commission.task,
        commission.tools,
        steps,
        commission.budget,
    )
    number = sum(lane.opened is not None and lane.opened.agent == commission.agent for lane in log.view.lanes.values())
    while True:
        number += 1
        name = f"{commission.agent}-{number}"
        entry = await log.add(partial(_named, name, opened), name)
        if not isinstance(entry, Refusal):
            return name


def _named(name: str, opened: LaneOpened, view: View) -> LaneOpened | Refusal:
    return Refusal("This name is taken.") if name in view.lanes else opened


async def _work(worker: Worker, lane: str, parent: str) -> object:
    """What the lane comes to. When its parent is stopped it ends at once, and what did not start never will."""
    log, is_over = worker.log, False
    try:
        await _stop_with(log, lane, parent)
        pause = await work(worker, lane)
        is_over = True
    except asyncio.CancelledError:
        is_over = True
        if await _stop_with(log, lane, parent):
            await work(worker, lane)
            await _close(log, lane)
        raise
    finally:
        if not is_over:
            await _break_off(log, lane)
    return pause


async def _end_begun(crew: Crew, commission: Commission, context: Context) -> None:
    """It was cancelled as it began. What was to be recorded is recorded all the same: a stop must end that, too."""
    log = crew.worker.log
    # Whoever comes to the record last finds there what others have begun to add.
    await log.add(lambda _: Refusal("It only looks."))
    lane = lane_of_call(log.view, context.call)
    if lane is None or log.view.lane(context.lane).turn.stopping is None:
        return
    if log.view.lane(lane).turn.open:
        await _work(await _worker(crew, commission), lane, context.lane)
        await _close(log, lane)
    else:
        await log.add(LaneClosed("stopped"), lane)


async def _stop_with(log: Log, lane: str, parent: str) -> bool:
    """Whether the parent is stopped; then the lane is, too."""
    stopping = log.view.lane(parent).turn.stopping
    if stopping is None:
        return False
    turn = log.view.lane(lane).turn
    if turn.open and turn.stopping is None:
        await log.add(StopAsked(new_id(), "limit" if stopping.reason == "limit" else "interrupted"), lane)
    return True


async def _break_off(log: Log, lane: str) -> None:
    """A bug of ours, or a record that cannot be written: nothing of the lane is left open."""
    await close_attempt(log, lane, BROKE)
    await log.add(TurnEnded("failed", BROKE, "Report this please."), lane)
    await _close(log, lane)


async def _close(log: Log, lane: str) -> None:
    def closed(view: View) -> LaneClosed | Refusal:
        if view.lane(lane).closed is not None:
            return Refusal("It is closed.")
        return LaneClosed(report_of(view, lane).outcome)

    await log.add(closed, lane)


async def _worker(crew: Crew, commission: Commission) -> Worker:
    """The main agent's worker with a narrower road and a head of its own."""
    base = crew.worker
    registry = Registry(tool for tool in crew.tools if tool.name in commission.tools)
    specs = tuple(ToolSpec(row.name, row.text, row.parameters) for row in registry.specs())
    prompt = Path(__file__).parent / "prompts" / f"{commission.agent}.md"
    text = await asyncio.to_thread(prompt.read_text, encoding="utf-8")
    head = Head(_prompt(base.log.view, commission, crew.walls, text), specs)
    asker = replace(base.asker, heads={**base.asker.heads, commission.role: head})
    road = replace(base.road, registry=registry, looking=commission.looks)

    async def news(lane: str, tell: Tell) -> bool:
        return await _warn(base.log, lane, head, commission.role) or await base.news(lane, tell)

    return replace(base, asker=asker, road=road, news=news, role=commission.role)


def _prompt(view: View, commission: Commission, walls: str, text: str) -> str:
    """The same for every lane of one kind, so that its prefix stays cached."""
    workspace = view.started.workspace if view.started is not None else ""
    filled = text.format(workspace=workspace, walls=walls, steps=commission.max_steps)
    parts = (filled, view.settings.brief.append, commission.instructions)
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


async def _warn(log: Log, lane: str, head: Head, role: Role) -> bool:
    """Tell the lane once that its next reply is the last: a report that is cut off in mid-search helps nobody."""
    state = log.view.lane(lane)
    is_last_step = state.opened is not None and state.turn.steps >= state.opened.max_steps - 1
    if not is_last_step and not _pays_for_one_more(log.view, lane, head, role):
        return False
    last = state.transcript.lines[-1].message if len(state.transcript.lines) else None
    if isinstance(last, Asked) and last.text.startswith(_LAST):
        return False
    text = f"{_LAST} make no call, and report what you have found so far and what is missing."
    await log.add(Nudged("steps" if is_last_step else "budget", text), lane)
    return True


def _pays_for_one_more(view: View, lane: str, head: Head, role: Role) -> bool:
    """Whether the lane's share may not pay for a second reply from here, if steps go on to cost and to add what they
    did so far, and somewhat more.
    """
    state = view.lane(lane)
    steps = state.spent.steps
    if share_left(view, lane) is None or not steps:
        return False
    chosen, added = view.settings.model_of(role), max(_LEAST_ADDED, 2 * state.transcript.weight // steps)
    bound = bound_tokens(view, lane, head, chosen.model) + added
    return quote_attempt(purse_of(view, lane, less=2 * state.spent.cost // steps), chosen, bound) is None


def _answer(lane: Lane) -> str:
    """The reply without a call at the end of the turn; "" where it was stopped or cut."""
    lines, ended = lane.transcript.lines, lane.turn.ended
    if not len(lines) or ended is None or ended.reason not in {"done", "denied"}:
        return ""
    last = lines[-1].message
    return last.text.strip() if isinstance(last, Reply) and not last.calls else ""


def _said(lane: Lane) -> Iterable[str]:
    """The newest of what the lane said on its way, in order."""
    found, room = list[str](), _SAID_CHARS
    for index in range(len(lane.transcript.lines) - 1, -1, -1):
        message = lane.transcript.lines[index].message
        if isinstance(message, Reply) and message.text.strip() and room > 0:
            found.append(message.text.strip())
            room -= len(found[-1])
    return reversed(found)
