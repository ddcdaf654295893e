"""Room in a lane's transcript: old large answers become references, then older entries a summary.

Each call makes one step of it and records it; the loop asks again. Knows no tool and no provider.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct

from ml_intern.agent.ask import Asker
from ml_intern.agent.context import Head
from ml_intern.agent.numbers import told_numbers
from ml_intern.agent.summary import Style, render
from ml_intern.base.clock import Clock
from ml_intern.base.errors import MlInternError
from ml_intern.record.asides import COMPACTION
from ml_intern.record.clearing import Cleared, Compacted, Told
from ml_intern.record.folds.lines import Line
from ml_intern.record.folds.references import is_reference
from ml_intern.record.folds.transcript import is_large
from ml_intern.record.log import Log, Refusal
from ml_intern.record.messages import Answered, Reply
from ml_intern.record.next import Compact, next_step
from ml_intern.record.room import Room, density_of, expected_tokens, room_of
from ml_intern.record.view import View
from ml_intern.record.weights import weight_of

KEPT_SHARE = 0.3
"""Of a conversation's room, that the newest steps may fill and keep as they are."""
WORTH_SHARE = 0.25
"""Of it, that clearing must free: less would break a cached prefix for too little."""
_NEWEST_SHARE = 0.5
_SUMMARY_SHARE = 0.25
_SMALLER = 0.8
"""Of what it weighed, that a transcript may weigh after a compaction."""
_MOST_LEFT = 0.85
_REFERENCE_BYTES = 400
_LEAST_SHOWN = 500
_LEAST_SUMMARY = 1_500
_LONGEST_WAIT_MS = 15_000
_TOLD_CHARS = 120_000
"""Of the conversation, that a model is told which writes for a summary."""


def compaction_head() -> Head:
    """What a model is told that writes for a summary."""
    text = (Path(__file__).parent / "prompts" / "compaction.md").read_text(encoding="utf-8")
    return Head(text, (), aside=_TOLD_CHARS)


Running = Callable[[], Awaitable[list[tuple[str, str]]]]
"""Id and command line of each command that runs in the background."""


class Compactor(Struct, frozen=True):
    """What making room takes: `head` stands before the lane's requests, `running` tells of commands."""

    log: Log
    asker: Asker
    clock: Clock
    head: Head
    running: Running

    async def make_room(self, lane: str) -> None:
        """One step: clear, ask for a summary, or compact. After it the loop looks again.

        A model that fails, says nothing or cannot be paid leaves a summary without its part.

        Raises:
            asyncio.CancelledError: stopped; what was asked is recorded as such.
            SessionError: the record can no longer be written.
        """
        view = self.log.view
        if (cleared := clearing(view, lane, _room(view, lane, self.head))) is not None:
            await self.log.add(cleared, lane)
            return
        if COMPACTION in self.asker.heads and await self._wants_prose(lane):
            tried = view.lane(lane).memory.tried
            await self.asker.ask(lane, COMPACTION)
            if self.log.view.lane(lane).memory.tried > tried:
                return
        running = await self._running()
        await self.log.add(lambda view: self._compacted(view, lane, running), lane)

    def _compacted(self, view: View, lane: str, running: Sequence[str]) -> Compacted | Refusal:
        step = next_step(view, lane, self.clock.now_ms(), self.head.bound)
        if not isinstance(step, Compact):
            return Refusal("There is room meanwhile.")
        return compacted(view, lane, _room(view, lane, self.head), running)

    async def _wants_prose(self, lane: str) -> bool:
        """Once, and once more: from the next model of the role's own chain, or, after a failure that passes or a death
        of the process, from the same one. A request that is too long again has no time for it.
        """
        memory, turn = self.log.view.lane(lane).memory, self.log.view.lane(lane).turn
        if memory.asks_no_more or memory.overflows > 1:
            return False
        if memory.missed is None or await self.asker.pass_on(lane, COMPACTION):
            return True
        if turn.retry_due is None:
            return False
        # It waits as it should, but not for long.
        await self.clock.sleep(max(0, min(turn.retry_due - self.clock.now_ms(), _LONGEST_WAIT_MS)) / 1000)
        return True

    async def _running(self) -> list[str]:
        try:
            return [f"{key}: {command}" for key, command in await self.running()]
        except MlInternError as error:
            return [f"it could not be found out which: {error.what}"]


def clearing(view: View, lane: str, room: Room) -> Cleared | None:
    """Which answers become references; None where that would make too little room.

    First whole old ones outside the newest steps; where a single step fills half the room, its own large ones in part.
    """
    transcript, memory = view.lane(lane).transcript, view.lane(lane).memory
    if memory.wanted:
        return None
    lines = transcript.lines.since(0)
    newest = _newest(lines)
    keep = min(_tail(lines, room.bytes_of(KEPT_SHARE)), newest)
    old = [line for line in lines[:keep] if line.entry and is_large(line)]
    if sum(weight_of(line.message) - _REFERENCE_BYTES for line in old) >= max(1, room.bytes_of(WORTH_SHARE)):
        return _cleared(old, 0)
    large = [line for line in lines[newest:] if line.entry and is_large(line)]
    if not large or sum(weight_of(line.message) for line in lines[newest:]) < room.bytes_of(_NEWEST_SHARE):
        return None
    shown = max(_LEAST_SHOWN, room.bytes_of(KEPT_SHARE) // len(large))
    return _cleared(more, shown) if (more := [each for each in large if _is_worth(each, shown)]) else None


def compacted(view: View, lane: str, room: Room, running: Sequence[str]) -> Compacted:
    """The compaction of all but the newest steps; of all but the newest one, where that is still too much; or, where it
    alone is, of everything.
    """
    transcript, memory = view.lane(lane).transcript, view.lane(lane).memory
    lines, all_of = transcript.lines.since(0), len(transcript.lines)
    start, newest = _tail(lines, room.bytes_of(KEPT_SHARE)), _newest(lines)
    if start == all_of and sum(weight_of(line.message) for line in lines[newest:]) <= room.bytes_of(_NEWEST_SHARE):
        start = newest
    limit = max(_LEAST_SUMMARY, room.bytes_of(_SUMMARY_SHARE))
    # The last is what can always be had: the rendered parts alone, in short.
    told = memory.prose or ""
    for cut, prose, most in (
        (start, told, limit),
        (start, "", limit),
        (newest, told, limit),
        (newest, "", limit // 2),
        (all_of, "", limit // 2),
    ):
        upto = lines[cut - 1].seq if cut else view.seq
        numbers = _told(lines[:cut])
        made = Compacted(upto, render(view, lane, upto, running, Style(most, prose, numbers)), numbers)
        left = len(made.summary.encode()) + sum(weight_of(line.message) for line in lines[cut:])
        if left <= min(_SMALLER * transcript.weight, room.bytes_of(_MOST_LEFT)):
            return made
    return made


def _room(view: View, lane: str, head: Head) -> Room:
    """How full it is; where nobody knows the window, as if it were full now."""
    if (room := room_of(view, lane, head.bound)) is not None:
        return room
    transcript = view.lane(lane).transcript
    held, density = expected_tokens(transcript, head.bound), density_of(transcript, head.bound)
    return Room(held, held, held, int(head.bound / density), density)


def _cleared(lines: Sequence[Line], shown: int) -> Cleared:
    return Cleared(tuple(line.entry for line in lines), shown, _told(lines))


def _is_worth(line: Line, shown: int) -> bool:
    return weight_of(line.message) > 2 * shown + _REFERENCE_BYTES


def _told(lines: Sequence[Line]) -> tuple[Told, ...]:
    """The numbers in answers that are about to go; those of a reference were taken before."""
    return tuple(
        told
        for line in lines
        if isinstance(line.message, Answered) and not is_reference(line)
        for told in told_numbers(line.message.text, line.entry)
    )


def _tail(lines: Sequence[Line], limit: int) -> int:
    """Where the newest whole steps begin that weigh no more than `limit` bytes."""
    start, weight = len(lines), 0
    for index in range(len(lines) - 1, 0, -1):
        weight += weight_of(lines[index].message)
        if weight > limit:
            break
        if _begins(lines, index):
            start = index
    return start


def _newest(lines: Sequence[Line]) -> int:
    """Where the newest step begins: what was answered since the last reply nobody has seen yet."""
    begins = [index for index in range(1, len(lines)) if _begins(lines, index)]
    replies = [index for index in begins if isinstance(lines[index].message, Reply)]
    return (replies or begins or [0])[-1]


def _begins(lines: Sequence[Line], index: int) -> bool:
    """Whether a transcript may be cut before this line: no answer without its call, and a number of its own."""
    return not isinstance(lines[index].message, Answered) and lines[index].seq > lines[index - 1].seq
