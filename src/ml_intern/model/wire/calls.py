"""Tool calls as servers dribble them: without index or id, with names repeated, in pieces, at once. Knows no deltas."""

import json
from dataclasses import dataclass, field
from typing import Any

from ml_intern.model.wire.shapes import fields


@dataclass(slots=True)
class Writing:
    """A call that is being written."""

    wire_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list[str])

    @property
    def arguments(self) -> str:
        """What is written so far."""
        return "".join(self.pieces)

    def is_whole(self) -> bool:
        """Whether the arguments are complete JSON."""
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


class Calls:
    """The calls of one reply, in the order in which they began."""

    def __init__(self) -> None:
        self.all: list[Writing] = []
        self._slots: dict[int, int] = {}

    def add(self, entry: dict[str, Any]) -> tuple[int, str]:
        """Take in one entry of `tool_calls`: which call it belongs to, and what it adds to the arguments."""
        function = fields(entry.get("function")) or entry
        name, wire_id = str(function.get("name") or ""), str(entry.get("id") or "")
        at = self._place(entry.get("index"), wire_id, name)
        writing = self.all[at]
        writing.wire_id = writing.wire_id or wire_id
        writing.name = _joined(writing.name, name, is_begun=bool(writing.pieces))
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            # Some servers send the object itself.
            arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        if arguments[:1] == "{" and arguments == writing.arguments:
            # Some servers end with the whole once more; no JSON begins with the same object twice.
            arguments = ""
        if arguments:
            writing.pieces.append(arguments)
        return at, arguments

    def _place(self, index: object, wire_id: str, name: str) -> int:
        at = self._slots.get(index) if isinstance(index, int) else self._without_index(wire_id, name)
        if at is not None and isinstance(index, int) and _is_another(self.all[at], wire_id, name):
            # Whole calls that all say index 0.
            at = None
        if at is None:
            self.all.append(Writing())
            at = len(self.all) - 1
        if isinstance(index, int):
            self._slots[index] = at
        return at

    def _without_index(self, wire_id: str, name: str) -> int | None:
        if not self.all:
            return None
        if wire_id:
            return next((at for at, each in enumerate(self.all) if each.wire_id == wire_id), None)
        last = self.all[-1]
        is_new = name and last.name and (name != last.name or last.is_whole())
        return None if is_new else len(self.all) - 1


def _is_another(old: Writing, wire_id: str, name: str) -> bool:
    if not (wire_id and old.wire_id and name) or wire_id == old.wire_id:
        return False
    return name != old.name or old.is_whole()


def _joined(old: str, new: str, *, is_begun: bool) -> str:
    """A call's name: sent once, in pieces before the arguments, or again with every piece of them."""
    if not old or new.startswith(old):
        return new or old
    return old if is_begun else old + new
