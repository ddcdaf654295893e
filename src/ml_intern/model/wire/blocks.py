"""Events of an Anthropic message to deltas and one finished reply, its blocks in their order. Knows no bytes.

https://platform.claude.com/docs/en/build-with-claude/streaming; unknown events and blocks are passed over, as it asks.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from ml_intern.base.ids import new_id
from ml_intern.model.port import Delta, Finished
from ml_intern.model.wire.fresh import Fresh, mended
from ml_intern.model.wire.shapes import fields, words
from ml_intern.record.messages import Call, Opaque, Reply, ReplyPart, Text, Thinking, Usage

SIGNED = "signed_thinking"
"""`Thinking.field` of a thinking block; its state is the signature."""
REDACTED = "redacted_thinking"
"""`Thinking.field` of a block that only the provider can read; its state is the block's data."""

Finish = Literal["stop", "calls", "length", "filter", "other"]
_FINISHES: dict[str, Finish] = {
    "": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "filter",
}
# What a block's text comes in, by the type of its deltas: the field of the delta, and the kind of block.
_PIECES = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "tool_use"),
}


@dataclass(slots=True)
class _Block:
    """One block that is being written. `call` is its index among the calls; `state` what only the provider reads."""

    kind: str
    start: dict[str, Any]
    call: int = 0
    state: str = ""
    pieces: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        return mended("".join(self.pieces))


class Blocks:
    """One reply as it grows. `finish` is the server's own word for its end; `is_done` is whether it said the last."""

    def __init__(self) -> None:
        self.finish = ""
        self.is_done = False
        self._served_by = ""
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._calls: list[_Block] = []
        self._fresh = Fresh()

    def add(self, event: dict[str, Any]) -> None:
        """Take in one event of the stream."""
        match event.get("type"):
            case "message_start":
                message = fields(event.get("message"))
                self._served_by = words(message.get("model"))
                self._count(message.get("usage"))
            case "content_block_start":
                self._begin(_index(event), fields(event.get("content_block")))
            case "content_block_delta":
                self._grow(_index(event), fields(event.get("delta")))
            case "message_delta":
                self.finish = words(fields(event.get("delta")).get("stop_reason")) or self.finish
                self._count(event.get("usage"))
            case "message_stop":
                self.is_done = True
            case _:
                pass

    def take(self, *, ends: bool = False) -> list[Delta]:
        """What arrived since the last time."""
        return self._fresh.take(lambda index: words(self._calls[index].start.get("name")), ends=ends)

    def finished(self) -> Finished:
        """The whole reply. Ids are ours; the server's go along, made where it sent none or one twice."""
        parts: list[ReplyPart] = []
        seen = {""}
        for block in self._blocks.values():
            match block.kind:
                case "text" if text := block.text:
                    parts.append(Text(text))
                case "thinking" if block.pieces or block.state:
                    # Thinking that broke off has no signature, and does not go back.
                    parts.append(Thinking(block.text, SIGNED, Opaque(block.state) if block.state else None))
                case "redacted_thinking":
                    parts.append(Thinking("", REDACTED, Opaque(block.state)))
                case "tool_use":
                    parts.append(_call(block, seen))
                case _:
                    pass
        finish = _FINISHES.get(self.finish, "other")
        if finish == "stop" and self._calls:
            finish = "calls"
        return Finished(Reply(tuple(parts)), usage_of(self._usage), finish, self._served_by)

    def _begin(self, index: int, start: dict[str, Any]) -> None:
        block = _Block(words(start.get("type")), start, len(self._calls))
        self._blocks[index] = block
        block.state = words(start.get("signature")) or words(start.get("data"))
        if block.kind == "tool_use":
            self._calls.append(block)
            self._fresh.add("call", block.call, "")
        elif block.kind in {"text", "thinking"}:
            self._append(block, words(start.get(block.kind)))

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        kind = words(delta.get("type"))
        name, of = _PIECES.get(kind, ("", ""))
        if index not in self._blocks and of in {"text", "thinking"}:
            # Servers that only resemble the API leave out the start.
            self._begin(index, {"type": of})
        block = self._blocks.get(index)
        if block is None:
            return
        if kind == "signature_delta":
            self._blocks[index].state = words(delta.get("signature"))
        elif block.kind == of:
            self._append(block, words(delta.get(name)))

    def _append(self, block: _Block, piece: str) -> None:
        if piece:
            block.pieces.append(piece)
            self._fresh.add("call" if block.kind == "tool_use" else block.kind, block.call, piece)

    def _count(self, usage: object) -> None:
        # Counts of a later event are totals, and those it leaves out still hold.
        self._usage.update({name: value for name, value in fields(usage).items() if value is not None})


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """The tokens of one attempt, or None where the server counted none. The API counts cached tokens apart."""
    cached, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    prompt = _count(usage, "input_tokens") + cached + written
    if not prompt:
        return None
    reasoning = _count(fields(usage.get("output_tokens_details")), "thinking_tokens")
    return Usage(prompt, _count(usage, "output_tokens"), cached, written, reasoning)


def _call(block: _Block, seen: set[str]) -> Call:
    own, wire_id = new_id(), words(block.start.get("id"))
    if wire_id in seen:
        wire_id = f"toolu_{own}"
    seen.add(wire_id)
    # A call without arguments streams none; a server that does not stream them sends the object at the start.
    arguments = block.text or json.dumps(fields(block.start.get("input")), ensure_ascii=False)
    return Call(own, wire_id, words(block.start.get("name")), arguments)


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return max(0, int(value)) if isinstance(value, (int, float)) else 0
