"""Progress for a person on stderr: one line per reply and one per finished call. Draws kinds of display,
knows no tool.
"""

from typing import TextIO, assert_never

from ml_intern.base.money import Micro, show
from ml_intern.base.text import one_line, size, visible, visible_line
from ml_intern.headless.report import follow_ups
from ml_intern.headless.streams import tell
from ml_intern.record.asides import ASIDES, COMPACTION
from ml_intern.record.display import (
    DiffDisplay,
    Display,
    ImageDisplay,
    LinkDisplay,
    LogDisplay,
    PlanDisplay,
    TableDisplay,
    TextDisplay,
)
from ml_intern.record.events import (
    Cleared,
    Compacted,
    Entry,
    Event,
    LaneOpened,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    Nudged,
    Paused,
    RetryPlanned,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.hooks import HookRan
from ml_intern.record.messages import Usage
from ml_intern.record.view import MAIN

WIDTH = 100
_BYTES_A_TOKEN = 3.5
_TOO_LONG = (
    "  prompt: your message alone ({size}) was longer than the model's window, so the model sees its beginning and its "
    "end only; put what is long into a file of the workspace and name that, or choose a --model with a larger window"
)
_TOLD_OF = {
    "silence": "empty reply",
    "unfinished": "open plan",
    "truncated": "cut reply",
    "malformed": "calls that do not fit",
    "ground": "what changed",
}
"""What the model is told of, where the name in the record is not what a person would call it."""
_BOXES = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}


class Progress:
    """A reader of the record that writes lines to `stream`; None: to what is stderr when they are written.

    Lines of a sub-agent begin with its name. Unless `whole`, its calls stand in the line of their step.
    """

    def __init__(self, stream: TextIO | None = None, *, whole: bool = False) -> None:
        self._stream = stream
        self._whole = whole
        self._steps: dict[str, int] = {}
        self._served: dict[str, str] = {}
        self._failed: dict[str, ModelFailed] = {}
        self._cleared: dict[str, set[int]] = {}
        self._prompt = _Prompt()

    def read(self, entry: Entry) -> None:
        """Write what `entry` says to a person, if anything."""
        lines = [*self._failure(entry), *self._clearing(entry), *self._lines(entry), *self._prompt.read(entry)]
        text = "".join(f"{lane_mark(entry.lane)}{visible_line(line)}\n" for line in lines)
        if text and self._stream is None:
            tell(text)
        elif text and self._stream is not None:
            self._stream.write(text)
            self._stream.flush()

    def _failure(self, entry: Entry) -> list[str]:
        """The attempt that failed just before `event`, unless that is the end of the turn, which says the same."""
        event, failed = entry.event, self._failed.pop(entry.lane, None)
        if isinstance(event, ModelFailed):
            self._failed[entry.lane] = event
        if failed is None or (isinstance(event, TurnEnded) and failed.what in event.what):
            return []
        if isinstance(event, ModelChosen) and failed.what in event.why:
            return []
        return [f"  model: {failed.what}" + ("" if failed.transient else f" {failed.remedy}")]

    def _clearing(self, entry: Entry) -> list[str]:
        """What was cleared just before `event`: room is often made in several rounds, which are one line."""
        if isinstance(entry.event, Cleared):
            self._cleared[entry.lane] = self._cleared.get(entry.lane, set()) | set(entry.event.entries)
            return []
        many = len(self._cleared.pop(entry.lane, ()))
        what = "1 old answer as a reference" if many == 1 else f"{many} old answers as references"
        return [f"  cleared: the model sees {what}"] if many else []

    def _who(self, lane: str, event: ModelReplied) -> list[str]:
        """Who really answered, where that is more than was asked for and another one than last time."""
        asked = event.reply.by.lower()
        named = "" if event.served_by.lower() in asked else event.served_by
        words = " at ".join(filter(None, (named, "" if event.served_at.lower() in asked else event.served_at)))
        before, self._served[lane] = self._served.get(lane, ""), words
        return [f"  served by {one_line(words, WIDTH)}"] if words and words != before else []

    def _lines(self, entry: Entry) -> list[str]:
        event, brief = entry.event, entry.lane != MAIN and not self._whole
        match event:
            case ModelReplied(role=role) if role in ASIDES:
                return [_aside(event)]
            case ModelReplied():
                step = self._steps[entry.lane] = self._steps.get(entry.lane, 0) + 1
                return [_replied(step, event, with_calls=brief), *self._who(entry.lane, event)]
            case ToolFinished(outcome="ok") | Nudged() if brief:
                return []
            case RetryPlanned(due=due, failures=failures):
                wait = max(0, due - entry.at) / 1000
                return [f"  asking again in {wait:.0f} s (failure {failures} in a row)"]
            case TurnEnded(reason=reason, what=what) if reason != "done" and entry.lane != MAIN:
                return [f"{reason}: {what}".rstrip()]
            case _:
                return _other_lines(event)


class _Prompt:
    """What was said last, and whether it alone is more than the model can be shown."""

    def __init__(self) -> None:
        self._said: tuple[int, str] | None = None
        self._replied = False
        self._window: int | None = None

    def read(self, entry: Entry) -> list[str]:
        """The line about a prompt that did not fit, when it is cut."""
        if entry.lane != MAIN:
            return []
        match entry.event:
            case ModelChosen(role="main", window=window):
                self._window = window
            case UserSaid(text=text):
                self._said, self._replied = (entry.seq, text), False
            case ModelReplied(role=role):
                self._replied = self._replied or role not in ASIDES
            case Compacted(upto=upto, summary=summary) if self._said is not None and self._said[0] <= upto:
                text = self._said[1]
                if self._is_too_long(text) and visible(text) not in summary:
                    self._said = None
                    return [_TOO_LONG.format(size=size(len(text.encode())))]
            case _:
                pass
        return []

    def _is_too_long(self, text: str) -> bool:
        """Cut before any reply it was what did not fit; a server that cuts in silence replies all the same."""
        return not self._replied or (self._window is not None and len(text.encode()) > self._window * _BYTES_A_TOKEN)


def _other_lines(event: Event) -> list[str]:
    match event:
        case LaneOpened(task=task, max_steps=most, budget=budget):
            share = f" and {show(Micro(budget))}" if budget is not None else ""
            return [f"begins, {most} step{'' if most == 1 else 's'}{share} at most: {one_line(task, WIDTH)}"]
        case ModelChosen():
            return [_chosen(event)]
        case ToolFinished(display=display, outcome=outcome, total_ms=total_ms):
            return [f"  {outcome:<7} {_title(display)}  {total_ms / 1000:.1f} s", *_body(display)]
        case ToolHeld(reason=reason, display=display):
            return [f"  held    {_title(display)}: it {reason}"]
        case Nudged(guard=guard, text=text):
            return [f"  told the model ({_TOLD_OF.get(guard, guard)}): {one_line(text, WIDTH)}"]
        case HookRan(fault=fault) if fault:
            return [f"  hook    {fault}"]
        case Paused(guard=guard, what=what):
            return [f"  {guard}: paused. {what}"]
        case TurnEnded(reason=reason, what=what, remedy=remedy, waiting=later) if reason != "done":
            waits = f" {follow_ups(later)} said before: heard after that." if later else ""
            return [f"{reason}: {what} {remedy}".rstrip() + waits]
        case _:
            return _room_lines(event)


def _room_lines(event: Event) -> list[str]:
    match event:
        case Compacted(upto=upto):
            return [f"  compacted: the model sees entries up to {upto} as a summary"]
        case _:
            return []


def lane_mark(lane: str) -> str:
    """What a line of this lane begins with."""
    return "" if lane == MAIN else f"[{visible_line(lane)}] "


def _aside(event: ModelReplied) -> str:
    figures = f"{_tokens(event.usage)}  {event.total_ms / 1000:.1f} s  {show(Micro(event.cost))}"
    what = "summary" if event.role == COMPACTION else f"title   {one_line(event.reply.text, WIDTH)} "
    return f"  {what} {figures}"


def _replied(step: int, event: ModelReplied, *, with_calls: bool) -> str:
    calls = len(event.reply.calls)
    text = one_line(event.reply.text, WIDTH)
    if with_calls and calls:
        names = one_line(", ".join(call.tool for call in event.reply.calls), WIDTH // 2)
        text = " · ".join(filter(None, (one_line(text, WIDTH // 2), names)))
    what = text or (f"{calls} call{'s' if calls > 1 else ''}" if calls else "(empty)")
    return f"step {step}: {what}  {event.total_ms / 1000:.1f} s  {_tokens(event.usage)}  {show(Micro(event.cost))}"


def _chosen(event: ModelChosen) -> str:
    """Who answers from here on; where it was not a person's choice, why."""
    role = "" if event.role == "main" and event.why else f" ({event.role})"
    others = [each for each in event.chain if each != event.model]
    facts = (
        f"model{role}: {event.model}{' answers from here on' if event.why else ''}, paid by {event.payer}",
        f"effort {event.effort}" if event.effort else "",
        f"falls back to {', '.join(others)}" if others and not event.why else "",
    )
    line = ", ".join(filter(None, facts))
    return f"  {line}. {event.why}" if event.why else line


def _tokens(usage: Usage | None) -> str:
    if usage is None:
        return "tokens unknown"
    cached = f", {100 * usage.cached // usage.prompt} % cached" if usage.cached and usage.prompt else ""
    return f"{usage.prompt:,}+{usage.output:,} tokens{cached}"


def _title(display: Display) -> str:
    match display:
        case TextDisplay(title=title, text=text):
            return one_line(f"{title}: {text}" if text else title, WIDTH)
        case DiffDisplay(path=path, added=added, removed=removed):
            return f"{path} (+{added} -{removed})"
        case PlanDisplay(items=items):
            return f"plan, {sum(item.status == 'completed' for item in items)} of {len(items)} done"
        case LogDisplay(title=title, exit_code=code):
            return one_line(title, WIDTH) + (f" (exit {code})" if code else "")
        case TableDisplay(title=title) | LinkDisplay(title=title) | ImageDisplay(title=title):
            return one_line(title, WIDTH)
        case _ as never:
            assert_never(never)


def _body(display: Display) -> list[str]:
    """Only a plan is worth its lines here: the rest is in `ml-intern show`."""
    if isinstance(display, PlanDisplay):
        return [f"          {_BOXES[item.status]} {one_line(item.content, WIDTH)}" for item in display.items]
    return []
