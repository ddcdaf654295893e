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
    Entry,
    Event,
    ModelFailed,
    ModelReplied,
    Nudged,
    RetryPlanned,
    ToolFinished,
    ToolHeld,
    TurnEnded,
)
from ml_intern.record.messages import Usage

WIDTH = 100
_BOXES = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}


class Progress:
    """A reader of the record that writes lines to `stream`; None: to what is stderr when they are written."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._step = 0
        self._failed: ModelFailed | None = None

    def read(self, entry: Entry) -> None:
        """Write what `entry` says to a person, if anything."""
        lines = [*self._failure(entry.event), *self._lines(entry.event)]
        text = "".join(f"{visible_line(line)}\n" for line in lines)
        if text and self._stream is None:
            tell(text)
        elif text and self._stream is not None:
            self._stream.write(text)
            self._stream.flush()

    def _failure(self, event: Event) -> list[str]:
        """The attempt that failed just before `event`, unless that is the end of the turn, which says the same."""
        failed, self._failed = self._failed, event if isinstance(event, ModelFailed) else None
        if failed is None or (isinstance(event, TurnEnded) and event.what == failed.what):
            return []
        return [f"  model: {failed.what}" + ("" if failed.transient else f" {failed.remedy}")]

    def _lines(self, event: Event) -> list[str]:
        match event:
            case ModelReplied():
                self._step += 1
                return [_replied(self._step, event)]
            case RetryPlanned(failures=failures):
                return [f"  asking again (failure {failures} in a row)"]
            case ToolFinished(display=display, outcome=outcome, total_ms=total_ms):
                return [f"  {outcome:<7} {_title(display)}  {total_ms / 1000:.1f} s", *_body(display)]
            case ToolHeld(reason=reason, display=display):
                return [f"  held    {_title(display)}: it {reason}"]
            case Nudged(guard=guard, text=text):
                return [f"  {guard}: {one_line(text, WIDTH)}"]
            case TurnEnded(reason=reason, what=what, remedy=remedy) if reason != "done":
                return [f"{reason}: {what} {remedy}".rstrip()]
            case _:
                return []


def _replied(step: int, event: ModelReplied) -> str:
    calls = len(event.reply.calls)
    text = one_line(event.reply.text, WIDTH)
    what = text or (f"{calls} call{'s' if calls > 1 else ''}" if calls else "(empty)")
    return f"step {step}: {what}  {event.total_ms / 1000:.1f} s  {_tokens(event.usage)}  {show(Micro(event.cost))}"


def _tokens(usage: Usage | None) -> str:
    return "tokens unknown" if usage is None else f"{usage.prompt:,}+{usage.output:,} tokens"


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
