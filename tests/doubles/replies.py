"""A reply as the wire has it: server-sent events or one JSON object, encoded before anything is sent. Knows no socket.

Shapes as the official client's types demand (openai 3.54, openai/types/chat): chat_completion_chunk.py:76-164 (deltas
and choices) and :302-376 (chunk); chat_completion.py:39-57 and :192-263; chat_completion_message.py:57-89 and
chat_completion_message_function_tool_call.py:10-34; openai/types/completion_usage.py:10-71.
"""

import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from tests.doubles.script import Reply, Seen, filled

_PIECE = 4  # characters of a delta where the script does not say: about a token


@dataclass(frozen=True, slots=True)
class Spoken:
    """What the model says, in full: templates filled, ids given, cut at the limit."""

    thinking: str
    text: str
    calls: tuple[tuple[str, str, str], ...]  # id, name, arguments
    finish: str

    @property
    def size(self) -> int:
        """Bytes that were generated."""
        return sum(
            len(part.encode()) for part in (self.thinking, self.text, *(w for call in self.calls for w in call[1:]))
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one exchange. `prompt` includes `cached`."""

    prompt: int
    cached: int
    output: int
    reasoning: int = 0

    def wire(self) -> dict[str, Any]:
        """openai/types/completion_usage.py:56-71."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }


def tokens(size: int) -> int:
    """The double's tokens: four bytes each, begun ones counted."""
    return -(-size // 4)


def spoken(reply: Reply, seen: Seen, limit: int) -> Spoken:
    """Fill templates, give each call an id that the transcript does not have yet, and stop at `limit` tokens."""
    calls: list[tuple[str, str, str]] = []
    for index, call in enumerate(reply.calls):
        id_ = call.id or f"call_{seen.step}_{index}"
        while call.id is None and id_ in seen.call_ids:
            id_ += "x"
        arguments = filled(call.arguments, seen)
        calls.append((id_, call.name, arguments if isinstance(arguments, str) else json.dumps(arguments)))
    text = filled(reply.text, seen) * reply.repeat
    finish = reply.finish or ("tool_calls" if calls else "stop")
    whole = Spoken(filled(reply.thinking, seen), text, tuple(calls), finish)
    return whole if tokens(whole.size) <= limit else _cut(whole, limit * 4)


def _cut(whole: Spoken, room: int) -> Spoken:
    thinking, room = _start(whole.thinking, room)
    text, room = _start(whole.text, room)
    calls: list[tuple[str, str, str]] = []
    for id_, name, arguments in whole.calls:
        room -= len(name)
        if room > 0:
            start, room = _start(arguments, room)
            calls.append((id_, name, start))
    return Spoken(thinking, text, tuple(calls), "length")


def _start(text: str, room: int) -> tuple[str, int]:
    kept = text.encode()[: max(room, 0)].decode(errors="ignore")
    return kept, room - len(text.encode())


def truncated_call(whole: Spoken) -> Spoken:
    """The last call breaks off in the middle of its arguments, as when a limit was reached."""
    *before, (id_, name, arguments) = whole.calls
    return replace(whole, calls=(*before, (id_, name, arguments[: len(arguments) // 2])), finish="length")


def duplicate_ids(whole: Spoken) -> Spoken:
    """Every call has the id of the first."""
    return replace(whole, calls=tuple((whole.calls[0][0], *call[1:]) for call in whole.calls))


@lru_cache(maxsize=16)
def _pieces(text: str, count: int) -> tuple[bytes, ...]:
    """The text in `count` equal pieces, each a JSON string."""
    bounds = [len(text) * n // count for n in range(count + 1)]
    return tuple(quoted(text[start:end]).encode() for start, end in pairwise(bounds))


def _in_pieces(text: str, count: int | None) -> tuple[bytes, ...]:
    return _pieces(text, count or -(-len(text) // _PIECE)) if text else ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of one reply repeats."""

    id: str
    model: str
    report: bool  # whether chunks have a `usage` field: the request asked for it and the script does not forbid it
    created: int

    @classmethod
    def make(cls, id_: str, model: str, *, report: bool) -> "Envelope":
        """The envelope of a reply that begins now."""
        return cls(f"chatcmpl-{id_}", model, report, int(time.time()))

    def head(self, kind: str) -> dict[str, Any]:
        """The fields before `choices`."""
        fields = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**fields, "service_tier": "default", "system_fingerprint": "fp_double"}


def events(reply: Reply, said: Spoken, usage: Usage, envelope: Envelope) -> list[bytes]:
    """The stream of a reply, one SSE event each: the role, thinking, text, calls, the finish, the usage, [DONE]."""
    head = json.dumps(envelope.head("chat.completion.chunk"))[:-1].encode()
    start = b"data: " + head + b', "choices": [{"index": 0, "delta": {'
    end = b'}, "logprobs": null, "finish_reason": null}]' + (b', "usage": null' if envelope.report else b"") + b"}\n\n"
    finish = end.replace(b'"finish_reason": null', b'"finish_reason": "%s"' % said.finish.encode())
    found = [start + b'"role": "assistant", "content": ' + (b'""' if said.text or not said.calls else b"null") + end]
    field = start + quoted(reply.thinking_field).encode() + b": "
    found += [field + piece + end for piece in _in_pieces(said.thinking, None)]
    field = start + b'"content": '
    found += [field + piece + end for piece in _in_pieces(said.text, reply.deltas)]
    for index, call in enumerate(said.calls):
        found += _call(start, end, index, call, None if said.text else reply.deltas)
    found.append(start + finish)
    if envelope.report:
        found.append(b"data: " + head + b', "choices": [], "usage": ' + json.dumps(usage.wire()).encode() + b"}\n\n")
    return [*found, b"data: [DONE]\n\n"]


def _call(start: bytes, end: bytes, index: int, call: tuple[str, str, str], deltas: int | None) -> list[bytes]:
    id_, name, arguments = call
    opening = {"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
    field = start + b'"tool_calls": [{"index": %d, "function": {"arguments": ' % index
    first = start + b'"tool_calls": [' + json.dumps(opening).encode() + b"]" + end
    return [first, *(field + piece + b"}}]" + end for piece in _in_pieces(arguments, deltas))]


def completion(reply: Reply, said: Spoken, usage: Usage, envelope: Envelope) -> bytes:
    """The same reply in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.thinking:
        message[reply.thinking_field] = said.thinking
    if said.calls:
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in said.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
    report = {"usage": usage.wire()} if envelope.report else {}
    return json.dumps({**envelope.head("chat.completion"), "choices": [choice], **report}).encode()
