"""What stands in a record, as items that can be searched and shown. Knows no store and no tool by name."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal, cast

from msgspec import Struct

from ml_intern.record.asides import ASIDES
from ml_intern.record.codec import decode
from ml_intern.record.events import (
    Compacted,
    Entry,
    Event,
    ModelFailed,
    ModelReplied,
    Nudged,
    ToolFinished,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.messages import Call
from ml_intern.record.view import MAIN

Kind = Literal["user", "reply", "call", "answer", "note"]


class Item(Struct, frozen=True):
    """One thing that was said or done. `blob` is the whole output where `text` was clipped."""

    seq: int
    at: int
    lane: str
    kind: Kind
    tool: str
    text: str
    blob: str | None = None

    @property
    def title(self) -> str:
        """One line that names it."""
        when = datetime.fromtimestamp(self.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        of = f" of {self.tool}" if self.tool else ""
        where = "" if self.lane == MAIN else f", in {self.lane}"
        return f"#{self.seq} {self.kind}{of}, {when}{where}"


def items(lines: Iterable[bytes], without: str | None) -> list[Item]:
    """What the lines of a record hold, in order, but for the calls of the tool `without` and what was asked aside.
    Blocks.
    """
    tools: dict[str, str] = {}
    found: list[Item] = []
    for line in lines:
        entry = decode(line)
        if isinstance(entry.event, ModelReplied):
            tools |= {call.id: call.tool for call in entry.event.reply.calls}
        found += [item for item in _items(entry, tools) if item.tool != without]
    return found


def _items(entry: Entry, tools: dict[str, str]) -> Iterator[Item]:
    match entry.event:
        case UserSaid(text=text):
            yield _item(entry, "user", text)
        case ModelReplied(reply=reply, role=role) if role not in ASIDES:
            if reply.text.strip():
                yield _item(entry, "reply", reply.text)
            for call in reply.calls:
                yield _item(entry, "call", _arguments(call), call.tool)
        case ToolFinished(call=call, text=text, blob=blob):
            yield Item(entry.seq, entry.at, entry.lane, "answer", tools.get(call, "?"), text, blob)
        case event:
            if note := _note(event):
                yield _item(entry, "note", note)


def _note(event: Event) -> str:
    match event:
        case Nudged(text=text):
            return text
        case Compacted(summary=summary):
            return summary
        case ModelFailed(what=what):
            return what
        case TurnEnded(what=what):
            return what
        case _:
            return ""


def _item(entry: Entry, kind: Kind, text: str, tool: str = "") -> Item:
    return Item(entry.seq, entry.at, entry.lane, kind, tool, text)


def _arguments(call: Call) -> str:
    """A call as it is read best: each argument by itself, its line breaks as such."""
    try:
        found = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
    if not isinstance(found, dict):
        return call.arguments
    given = cast("dict[str, object]", found)
    rows = (
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in given.items()
    )
    return "\n".join(f"{name}: {value}" for name, value in rows)
