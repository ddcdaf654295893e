"""Server-sent events from bytes to JSON objects, lenient where servers are sloppy. Knows no provider.

https://html.spec.whatwg.org/multipage/server-sent-events.html; beyond it a data line that is whole JSON needs no blank
line after it, and a line that is JSON needs no field name.
"""

import json
from typing import Any

from ml_intern.model.wire.shapes import fields, items

MOST_BYTES = 64 << 20
"""A line longer than this is no event."""


class Malformed(ValueError):
    """An event that is no JSON; the text is what was read."""


class Events:
    """The events of one stream. `done` is true once the server has said [DONE]."""

    __slots__ = ("_held", "_is_error", "_tail", "done")

    def __init__(self) -> None:
        self.done = False
        self._tail = b""
        self._held = ""
        self._is_error = False

    def read(self, data: bytes) -> list[dict[str, Any]]:
        """The events that end in `data`, in order.

        Raises:
            Malformed: an event is no JSON.
        """
        data = self._tail + data
        # A carriage return at the very end may be half of a line end.
        cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        self._tail = data[cut:]
        if len(self._tail) > MOST_BYTES:
            raise Malformed(f"{len(self._tail):,} bytes without an end of line")
        return self._parse(data[:cut].decode("utf-8", "replace"))

    def rest(self) -> list[dict[str, Any]]:
        """What the end of the stream completes: servers forget the last blank line.

        Raises:
            Malformed: the stream ends within an event.
        """
        tail, self._tail = self._tail, b""
        return self._parse(tail.decode("utf-8", "replace") + "\n\n")

    def _parse(self, text: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        for line in text.split("\n")[:-1]:
            if self.done:
                break
            if line.startswith("data:"):
                self._data(line[5:], events)
            elif line:
                self._field(line.removeprefix("\ufeff"), events)
            elif self._held:
                self._data("", events, ends=True)
        return events

    def _data(self, payload: str, events: list[dict[str, Any]], *, ends: bool = False) -> None:
        text = f"{self._held}\n{payload}" if self._held else payload
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            if text.strip() == "[DONE]":
                self.done = True
            elif ends:
                raise Malformed(text.strip()) from error
            else:
                self._held = text.strip(" ")
            return
        self._held = ""
        for event in map(fields, items(value) or (value,)):
            events.append({"error": event} if self._is_error and "error" not in event else event)
        self._is_error = False

    def _field(self, line: str, events: list[dict[str, Any]]) -> None:
        name, _, value = line.partition(":")
        if name == "event":
            self._is_error = value.strip() == "error"
        elif name == "error":
            self._is_error = True
            self._data(value, events)
        elif line.startswith(("data:", "{")):
            self._data(line.removeprefix("data:"), events)
