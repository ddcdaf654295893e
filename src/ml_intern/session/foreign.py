"""Session logs of huggingface/ml-intern (`session_logs/session_*.json`) as entries of ours. Knows no store.

Its form: one object with `messages` as chat completions have them, `session_id`, `model_name`, `session_start_time`
(agent/core/session.py there). It kept no time and no cost per message, and its own notes as messages of the user.
"""

from datetime import UTC, datetime
from typing import Any, cast

from ml_intern.base.errors import BadSettings
from ml_intern.base.text import one_line
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import (
    Entry,
    Event,
    ModelAsked,
    ModelChosen,
    ModelReplied,
    Nudged,
    Outcome,
    SessionStarted,
    ToolFinished,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.messages import Call, Reply, Text
from ml_intern.record.view import MAIN

PRODUCT = "huggingface/ml-intern"

_NOTE = "[SYSTEM"
_LOST = "The log holds no answer to this call."

Row = dict[str, Any]


def entries_of(log: object) -> list[Entry]:
    """The session in the decoded file `log`, at rest.

    Raises:
        BadSettings: it is no such log, or holds no conversation.
    """
    if not isinstance(log, dict) or not isinstance(cast("Row", log).get("messages"), list):
        what = "The file is neither an exported session nor a log of huggingface/ml-intern."
        raise BadSettings(what, "Give a file of `ml-intern sessions export`, or a session_logs/session_*.json.")
    row = cast("Row", log)
    told = _Telling(row)
    for message in row["messages"]:
        if isinstance(message, dict):
            told.tell(cast("Row", message))
    if not told.said:
        raise BadSettings("The log holds no conversation.", "Give another file.")
    told.end_turn()
    at = _milliseconds(row.get("session_start_time"))
    return [Entry(seq, at, MAIN, event) for seq, event in enumerate(told.events, start=1)]


class _Telling:
    """Turns messages into events in a legal order, whatever order they come in."""

    def __init__(self, log: Row) -> None:
        self.said = False
        self._turn_open = False
        self._calls: dict[str, Call] = {}
        self.events: list[Event] = [SessionStarted(_text(log.get("session_id")) or "unknown", "", PRODUCT)]
        if model := _text(log.get("model_name")):
            self.events.append(ModelChosen("main", model, None, None, None, "unknown"))

    def tell(self, message: Row) -> None:
        """Add what `message` says. System texts are the product's own and are left out."""
        text = _text(message.get("content"))
        match message.get("role"):
            case "user" if text.startswith(_NOTE):
                self._settle()
                self.events.append(Nudged("import", text))
            case "user" if text:
                self.end_turn()
                self._open_turn(text)
            case "assistant":
                self._settle()
                self._reply(message, text)
            case "tool":
                self._answer(_text(message.get("tool_call_id")), text, "ok")
            case _:
                return

    def end_turn(self) -> None:
        """The turn's end, if one is open."""
        self._settle()
        if self._turn_open:
            self.events.append(TurnEnded("done"))
            self._turn_open = False

    def _open_turn(self, text: str) -> None:
        self.events.append(UserSaid(f"import-{len(self.events)}", text))
        self._turn_open = self.said = True

    def _reply(self, message: Row, text: str) -> None:
        key = f"import-{len(self.events)}"
        calls = tuple(_call(f"{key}.{number}", row) for number, row in enumerate(_rows(message.get("tool_calls"))))
        if not text and not calls:
            return
        if not self._turn_open:
            self._open_turn("(The log does not say what was asked.)")
        self.events.append(ModelAsked(key, "main", "", 0, 0, 0, ""))
        parts = (*((Text(text),) if text else ()), *calls)
        self.events.append(ModelReplied(key, Reply(parts), None, 0, "calls" if calls else "stop"))
        self._calls = {call.wire_id: call for call in calls}

    def _answer(self, wire_id: str, text: str, outcome: Outcome) -> None:
        call = self._calls.pop(wire_id, None)
        if call is not None:
            self.events.append(ToolFinished(call.id, outcome, text, TextDisplay(call.tool, one_line(text, 200))))

    def _settle(self) -> None:
        for wire_id in list(self._calls):
            self._answer(wire_id, _LOST, "lost")


def _call(key: str, row: Row) -> Call:
    function = row.get("function")
    told: Row = cast("Row", function) if isinstance(function, dict) else {}
    return Call(key, _text(row.get("id")) or key, _text(told.get("name")) or "unknown", _text(told.get("arguments")))


def _rows(value: object) -> list[Row]:
    return (
        [cast("Row", row) for row in cast("list[object]", value) if isinstance(row, dict)]
        if isinstance(value, list)
        else []
    )


def _text(value: object) -> str:
    """A text, or the texts of a list of content parts."""
    if isinstance(value, str):
        return value
    return "\n".join(text for row in _rows(value) if (text := _text(row.get("text"))))


def _milliseconds(value: object) -> int:
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        return 0
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))
