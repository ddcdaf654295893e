"""Events, entries and views made by hand, and what `Progress` writes of them. Knows no session."""

import io

from ml_intern.headless.progress import Progress
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Effect, Notifies
from ml_intern.record.events import Entry, Event, ModelReplied, ToolHeld
from ml_intern.record.messages import Call, Reply, ReplyPart, Text, Usage
from ml_intern.record.view import MAIN, View, fold

NASTY = "\x1b[2K\x07\u202eevil\u200b"
SPELLED = "\\x1b[2K\\x07\\u202eevil\\u200b"
UNSEEN = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} | set("\u200b\u200f\u202e\u2066")
"""Characters that move a cursor, hide or turn round what a person reads."""


def entry(event: Event, seq: int = 1, lane: str = MAIN) -> Entry:
    return Entry(seq, 1_800_000_000_000 + seq, lane, event)


def view_of(*events: Event | tuple[str, Event]) -> View:
    """The view after these; a pair is an event with its lane."""
    view = View()
    for each in events:
        lane, event = each if isinstance(each, tuple) else (MAIN, each)
        view = fold(view, entry(event, view.seq + 1, lane))
    return view


def written(*events: Event) -> str:
    """All that a person reads on stderr of these events."""
    stream = io.StringIO()
    progress = Progress(stream)
    for seq, event in enumerate(events, start=1):
        progress.read(entry(event, seq))
    return stream.getvalue()


def call(key: str, arguments: str = "{}", tool: str = "tool") -> Call:
    return Call(key, f"w-{key}", tool, arguments)


def replied(
    text: str = "", *made: Call, usage: Usage | None = Usage(1_200, 34), cost: int = 4_200, total_ms: int = 2_345
) -> ModelReplied:
    parts: tuple[ReplyPart, ...] = (*((Text(text),) if text else ()), *made)
    return ModelReplied("a", Reply(parts), usage, cost, "calls" if made else "stop", total_ms=total_ms)


def held(
    key: str,
    *effects: Effect,
    reason: str = "sends a message to boss",
    quote: int = 0,
    payer: str = "",
) -> ToolHeld:
    return ToolHeld(key, f"b-{key}", reason, effects or (Notifies("boss"),), quote, payer, TextDisplay("tell", "hi"))
