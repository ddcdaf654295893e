"""One reply being read, from bytes to its end, whichever protocol its events are of. Knows no connection."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished
from ml_intern.model.wire import errors
from ml_intern.model.wire.shapes import fields
from ml_intern.model.wire.sse import Events, Malformed

# Words for an end that is no end of a reply but its failure: OpenRouter, vLLM, DeepSeek, Z.ai.
_FAULTS = frozenset({"error", "abort", "aborted", "insufficient_system_resource", "network_error"})

OfWhole = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""The events of a reply that came whole, as one JSON object."""


class Content(Protocol):
    """A reply as it grows. `finish` is the server's own word for its end."""

    finish: str

    @property
    def is_done(self) -> bool:
        """Whether the server has said that nothing follows."""
        ...

    def add(self, event: dict[str, Any], /) -> None:
        """Take in one event."""
        ...

    def take(self, *, ends: bool = False) -> list[Delta]:
        """What was added since the last time."""
        ...

    def finished(self) -> Finished:
        """The whole reply."""
        ...


class Reading:
    """`of_whole` is given where the server did not stream, but sends one JSON text."""

    def __init__(self, endpoint: Endpoint, content: Content, of_whole: OfWhole | None) -> None:
        self._endpoint = endpoint
        self._content = content
        self._of_whole = of_whole
        self._events = Events()
        self._whole: list[bytes] = []

    @property
    def is_done(self) -> bool:
        """Whether the server has said that nothing follows."""
        return self._content.is_done or self._events.done

    @property
    def ends(self) -> bool:
        """Whether the server has ended the reply; usage may follow."""
        return self.is_done or bool(self._content.finish)

    def read(self, data: bytes) -> list[Delta]:
        """What `data` adds.

        Raises:
            ModelError: it is an error, or nonsense.
        """
        if self._of_whole is not None:
            self._whole.append(data)
            return []
        try:
            self._add(self._events.read(data))
        except Malformed as error:
            raise errors.cut(self._endpoint, f"an event is no JSON: {error}") from error
        return self._content.take()

    def keep(self, data: bytes) -> None:
        """Read what follows the end: it can add, but no longer spoil."""
        with suppress(Malformed):
            for event in self._events.read(data):
                self._content.add(event)

    def rest(self) -> list[Delta]:
        """What the end of the stream adds.

        Raises:
            ModelError: the stream ended before the reply did.
        """
        try:
            if self._of_whole is not None:
                self._add(self._all(b"".join(self._whole), self._of_whole))
            self._add(self._events.rest())
        except Malformed as error:
            if not self.ends:
                raise errors.cut(self._endpoint, f"in mid-event: {error}") from error
        if not self.ends:
            raise errors.cut(self._endpoint, "the connection was closed before its end")
        return self._content.take(ends=True)

    def finished(self) -> Finished:
        """The whole reply."""
        return self._content.finished()

    def _all(self, body: bytes, of_whole: OfWhole) -> list[dict[str, Any]]:
        try:
            reply = fields(json.loads(body))
        except (ValueError, RecursionError):
            # Some stream all the same, and only call it JSON.
            return self._events.read(body)
        self._events.done = True
        return of_whole(reply) or [{"error": reply.get("error") or reply or "an answer without a reply"}]

    def _add(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            is_error = bool(event.get("error")) or "error" in {event.get("type"), event.get("object")}
            if is_error and not self._content.finish:
                raise errors.from_stream(self._endpoint, event)
            self._content.add(event)
            if self._content.finish in _FAULTS:
                raise errors.cut(self._endpoint, f"it ended with {self._content.finish!r}")
