"""What a model can see: text, images, thinking, calls and their answers. Knows no provider's wire."""

from typing import Literal

from msgspec import Struct


class Text(Struct, frozen=True, tag_field="kind", tag="text"):
    """Plain text."""

    text: str


class Image(Struct, frozen=True, tag_field="kind", tag="image"):
    """A picture kept as a blob (`sha`, hex SHA-256) of media type `mime`."""

    sha: str
    mime: str


class Opaque(Struct, frozen=True):
    """Provider state that must go back byte for byte (signatures, encrypted reasoning). Never rewritten,
    never shown.
    """

    value: str


class Thinking(Struct, frozen=True, tag_field="kind", tag="thinking"):
    """What the model thought aloud; `field` is the wire's own name for it, `state` what must be replayed with it."""

    text: str
    field: str = ""
    state: Opaque | None = None


class Call(Struct, frozen=True, tag_field="kind", tag="call"):
    """One tool call. `id` is ours and unique in the record; `wire_id` is the provider's and goes back as it came.

    `arguments` is the JSON text as the model wrote it, valid or not.
    """

    id: str
    wire_id: str
    tool: str
    arguments: str


ReplyPart = Text | Thinking | Call


class Asked(Struct, frozen=True, tag_field="kind", tag="asked"):
    """What a person, or the product on its own account (`by` = guard, compaction), says to the model."""

    text: str
    images: tuple[Image, ...] = ()
    by: Literal["user", "product"] = "user"


class Reply(Struct, frozen=True, tag_field="kind", tag="reply"):
    """One reply of a model, its parts in order. `by` is the model that was asked; empty: nobody wrote it down.

    What a model thought is of use to itself alone: nobody else is sent it.
    """

    parts: tuple[ReplyPart, ...]
    by: str = ""

    def told_to(self, model: str) -> "Reply":
        """The reply as this model may read it: without what another one thought."""
        if self.by in {"", model} or not any(isinstance(part, Thinking) for part in self.parts):
            return self
        return Reply(tuple(part for part in self.parts if not isinstance(part, Thinking)), self.by)

    @property
    def text(self) -> str:
        """The visible text of the reply."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def calls(self) -> tuple[Call, ...]:
        """The tool calls of the reply, in order."""
        return tuple([part for part in self.parts if isinstance(part, Call)])


class Answered(Struct, frozen=True, tag_field="kind", tag="answered"):
    """The answer to one call, as the model reads it."""

    call: str
    wire_id: str
    tool: str
    text: str
    ok: bool = True
    images: tuple[Image, ...] = ()


Message = Asked | Reply | Answered


class Usage(Struct, frozen=True):
    """Tokens of one attempt as the provider counted them. `prompt` includes `cached` and `cache_written`."""

    prompt: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0


class Prices(Struct, frozen=True):
    """One price row, in micro-dollars per million tokens (base/money.Rate). `None` where the row has no such tier.

    `long_from` is the prompt length, in tokens, from which the `long_*` rates hold for the whole request.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    long_from: int | None = None
    long_input: int | None = None
    long_output: int | None = None
    source: str = ""
