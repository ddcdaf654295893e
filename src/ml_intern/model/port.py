"""The port to a model: one request, a stream of deltas, one finished reply or one typed error.
Knows no retry and no purse.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from ml_intern.record.messages import Message, Prices, Reply, Usage


class ToolSpec(Struct, frozen=True):
    """A tool as a model is told of it; `parameters` is a JSON Schema object."""

    name: str
    text: str
    parameters: dict[str, Any]


class Request(Struct, frozen=True):
    """One request. `messages` are in order; `version` changes when earlier ones were replaced (see Transcript.version).

    `max_output` (tokens) is always sent. `session` is a stable id that providers may use for routing to a warm cache.
    """

    system: str
    tools: Sequence[ToolSpec]
    messages: Sequence[Message]
    max_output: int
    session: str
    version: int = 0


class TextDelta(Struct, frozen=True):
    """More of the visible text."""

    text: str
    kind: Literal["text"] = "text"


class ThinkingDelta(Struct, frozen=True):
    """More of what the model thinks aloud."""

    text: str
    kind: Literal["thinking"] = "thinking"


class CallDelta(Struct, frozen=True):
    """More of a call being written: `index` within the reply, `name` once known, a fragment of its arguments."""

    index: int
    name: str
    arguments: str
    kind: Literal["call"] = "call"


Delta = TextDelta | ThinkingDelta | CallDelta


class Finished(Struct, frozen=True):
    """The end of a good stream. `usage` is None where the provider reported none.
    `served_by` is the model it says it was, `served_at` the provider that a router says it was sent on to.
    """

    reply: Reply
    usage: Usage | None
    finish: Literal["stop", "calls", "length", "filter", "other"]
    served_by: str = ""
    served_at: str = ""


class Model(Protocol):
    """One session's access to one model. Keeps each message's wire form, so a request costs what is new in it."""

    def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt: deltas, then exactly one `Finished`.

        Closing the generator or cancelling its task closes the connection at once, so that the server stops working.

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class ModelInfo(Struct, frozen=True):
    """What is known of a model before it is asked. None is unknown, never zero; a local server is free by `Prices(0,
    0)`.
    """

    id: str
    window: int | None
    max_output: int | None
    prices: Prices | None
    payer: str
    images: bool | None = None
    tools: bool | None = None
