"""Progress for a person on stderr: one line per reply and one per finished call. Draws kinds of display,
knows no tool.
"""

from typing import TextIO, assert_never

from ml_intern.base.money import Micro, show
from ml_intern.base.text import one_line, visible_line
from ml_intern.headless.streams import tell
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
)
from ml_intern.record.hooks import HookRan
from ml_intern.record.messages import Usage
from ml_intern.record.view import MAIN

WIDTH = 100
_BOXES = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}


class Progress:
    """A reader of the record that writes lines to `stream`; None: to what is stderr when they are written.

    Lines of a sub-agent begin with its name. Unless `whole`, its calls stand in the line of their step.
    """

    def __init__(self, stream: TextIO | None = None, *, whole: bool = False) -> None:
        self._stream = stream
        self._whole = whole
        self._steps: dict[str, int] = {}
        self._failed: dict[str, ModelFailed] = {}

    def read(self, entry: Entry) -> None:
        """Write what `entry` says to a person, if anything."""
        lines = [*self._failure(entry), *self._lines(entry)]
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

    def _lines(self, entry: Entry) -> list[str]:
        event, brief = entry.event, entry.lane != MAIN and not self._whole
        match event:
            case ModelReplied(role="compaction"):
                return [_summed(event)]
            case ModelReplied():
                step = self._steps[entry.lane] = self._steps.get(entry.lane, 0) + 1
                return [_replied(step, event, with_calls=brief)]
            case ToolFinished(outcome="ok") | Nudged() if brief:
                return []
            case _:
                return _other_lines(event)


def _other_lines(event: Event) -> list[str]:
    match event:
        case LaneOpened(task=task, max_steps=most):
            return [f"begins, {most} step{'' if most == 1 else 's'} at most: {one_line(task, WIDTH)}"]
        case RetryPlanned(failures=failures):
            return [f"  asking again (failure {failures} in a row)"]
        case ModelChosen():
            return [_chosen(event)]
        case ToolFinished(display=display, outcome=outcome, total_ms=total_ms):
            return [f"  {outcome:<7} {_title(display)}  {total_ms / 1000:.1f} s", *_body(display)]
        case ToolHeld(reason=reason, display=display):
            return [f"  held    {_title(display)}: it {reason}"]
        case Nudged(guard=guard, text=text):
            return [f"  {guard}: {one_line(text, WIDTH)}"]
        case HookRan(fault=fault) if fault:
            return [f"  hook    {fault}"]
        case Paused(guard=guard, what=what):
            return [f"  {guard}: paused. {what}"]
        case TurnEnded(reason=reason, what=what, remedy=remedy) if reason != "done":
            return [f"{reason}: {what} {remedy}".rstrip()]
        case _:
            return _room_lines(event)


def _room_lines(event: Event) -> list[str]:
    match event:
        case Compacted(upto=upto):
            return [f"  compacted: the model sees entries up to {upto} as a summary"]
        case Cleared(entries=entries):
            many = len(entries)
            return [f"  cleared: the model sees {many} old answer{'' if many == 1 else 's'} as references"]
        case _:
            return []


def lane_mark(lane: str) -> str:
    """What a line of this lane begins with."""
    return "" if lane == MAIN else f"[{visible_line(lane)}] "


def _summed(event: ModelReplied) -> str:
    return f"  summary {_tokens(event.usage)}  {event.total_ms / 1000:.1f} s  {show(Micro(event.cost))}"


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
    facts = (
        f"model{role}: {event.model}{' answers from here on' if event.why else ''}, paid by {event.payer}",
        f"effort {event.effort}" if event.effort else "",
        f"chain {', '.join(event.chain)}" if event.chain and not event.why else "",
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
