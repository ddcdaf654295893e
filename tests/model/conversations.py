"""Conversations made of building blocks by a seed, and each reply as the bytes of both wires. Knows no client."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

COUNT = 160
PNG = b"\x89PNG\r\n\x1a\nnot much of a picture"
TEXTS = (
    "I look.",
    "",
    " ",
    "\n",
    "naïve — 日本語 — 😀👩‍👩‍👧 — \u2028 — \x85",
    'quotes " and \\ and \t and \x00 and </script>',
    "data: [DONE]\n\nevent: error\ndata: {}\n\n",
    "A model may write `<tool_call>` or <think> and mean the words.",
    "lorem ipsum dolor " * 2_000,
)
ARGUMENTS = (
    '{"command": "ls"}',
    '{"command":"echo \\"é\\" \\u00e9 \\n"}',
    '{ "command" : "x" , "deep": [[{"a": null}], 1e3, -0.5, true] }',
    '{"command": "' + "y" * 9_000 + '"}',
    '{"日本": "😀"}',
    "{}",
)
SYSTEMS = ("Be brief.", "", "Ünïcode 😀\n\n" * 40)


@dataclass(frozen=True)
class Said:
    """One reply: thinking (with a signature on the one wire, plain on the other), a text, calls (id, arguments)."""

    thinking: str
    redacted: str
    text: str
    calls: tuple[tuple[str, str], ...]
    is_cut: bool

    @property
    def signature(self) -> str:
        return f"EqQB/{len(self.thinking)}+=="


@dataclass(frozen=True)
class Step:
    """What is asked (texts, each with or without a picture), the reply, the answers (text, whether good, a picture)."""

    asks: tuple[tuple[str, bool], ...]
    said: Said
    answers: tuple[tuple[str, bool, bool], ...]


@dataclass(frozen=True)
class Conversation:
    seed: int
    system: str
    has_tools: bool
    steps: tuple[Step, ...]
    dice: random.Random = field(compare=False, repr=False)


def conversations() -> Iterator[Conversation]:
    for seed in range(COUNT):
        dice = random.Random(seed)
        steps = tuple(_step(dice, f"{seed}_{number}") for number in range(dice.randint(1, 4)))
        yield Conversation(seed, dice.choice(SYSTEMS), dice.random() < 0.9, steps, dice)


def _step(dice: random.Random, name: str) -> Step:
    calls = tuple((f"call_{name}_{n}", dice.choice(ARGUMENTS)) for n in range(dice.choice([0, 1, 1, 2, 3, 6])))
    is_cut = bool(calls) and dice.random() < 0.08
    if is_cut:
        calls = (*calls[:-1], (calls[-1][0], '{"command": "l'))
    thinking = dice.choice(["", "", "Hm.", "Let me think — 思考 😀.\n\n" * dice.randint(1, 30)])
    said = Said(thinking, dice.choice(["", "", "", "enc+/=="]), dice.choice(TEXTS), calls, is_cut)
    asks = tuple((f"{dice.choice(TEXTS)}go on", dice.random() < 0.15) for _ in range(dice.choice([1, 1, 2])))
    answers = tuple((dice.choice(TEXTS), dice.random() < 0.8, dice.random() < 0.1) for _ in calls)
    return Step(asks, said, answers)


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    """The bytes in pieces whose borders mean nothing."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = dice.choice([1, 7, 100, 1_000, 20_000])
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _dribbled(text: str, dice: random.Random) -> Iterator[str]:
    at = 0
    while at < len(text):
        size = dice.choice([1, 3, 20, 4_000])
        yield text[at : at + size]
        at += size


# ------------------------------------------------------------------------------------------------ the messages API
def anthropic_bytes(said: Said, dice: random.Random) -> bytes:
    """The reply as a stream of Anthropic's events."""
    is_ascii = dice.random() < 0.5
    events = [*_anthropic_events(said, dice)]
    return "".join(
        f"event: {each['type']}\ndata: {json.dumps(each, ensure_ascii=is_ascii)}\n\n" for each in events
    ).encode()


def _anthropic_events(said: Said, dice: random.Random) -> Iterator[dict[str, Any]]:
    usage = {"input_tokens": dice.randint(1, 999), "cache_read_input_tokens": dice.randint(0, 99), "output_tokens": 1}
    usage["cache_creation_input_tokens"] = dice.randint(0, 99)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": [], "usage": usage}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}
    for index, (start, deltas) in enumerate(_anthropic_blocks(said, dice)):
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            if dice.random() < 0.02:
                yield {"type": "ping"}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    reason = "max_tokens" if said.is_cut else "tool_use" if said.calls else "end_turn"
    late = {"output_tokens": dice.randint(1, 999)}
    late |= dice.choice([{}, {"output_tokens_details": {"thinking_tokens": 7}}, {"input_tokens": 1000}])
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": late}
    yield {"type": "message_stop"}


def _anthropic_blocks(said: Said, dice: random.Random) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if said.redacted:
        yield {"type": "redacted_thinking", "data": said.redacted}, []
    if said.thinking:
        pieces = [{"type": "thinking_delta", "thinking": piece} for piece in _dribbled(said.thinking, dice)]
        start = {"type": "thinking", "thinking": "", "signature": ""}
        yield start, [*pieces, {"type": "signature_delta", "signature": said.signature}]
    if said.text:
        pieces = [{"type": "text_delta", "text": piece} for piece in _dribbled(said.text, dice)]
        yield {"type": "text", "text": ""}, pieces
    for id_, arguments in said.calls:
        pieces = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in ("", *(_dribbled(arguments, dice) if arguments != "{}" else ()))
        ]
        yield {"type": "tool_use", "id": id_, "name": "bash", "input": {}}, pieces


# ------------------------------------------------------------------------------------------------ chat completions
def openai_bytes(said: Said, dice: random.Random) -> bytes:
    """The reply as a stream of chunks of a chat completion."""
    is_ascii = dice.random() < 0.5
    events = [json.dumps(each, ensure_ascii=is_ascii) for each in _chunks(said, dice)]
    return "".join(f"data: {each}\n\n" for each in (*events, "[DONE]")).encode()


def _chunks(said: Said, dice: random.Random) -> Iterator[dict[str, Any]]:
    yield _chunk({"role": "assistant", "content": "" if said.text else None})
    for piece in _dribbled(said.thinking, dice):
        yield _chunk({"reasoning_content": piece})
    for piece in _dribbled(said.text, dice):
        yield _chunk({"content": piece})
    for index, (id_, arguments) in enumerate(said.calls):
        start = {"index": index, "id": id_, "type": "function", "function": {"name": "bash", "arguments": ""}}
        yield _chunk({"tool_calls": [start]})
        for piece in _dribbled(arguments, dice):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk({}, "length" if said.is_cut else "tool_calls" if said.calls else "stop")
    prompt, output, cached = dice.randint(100, 999), dice.randint(1, 999), dice.randint(0, 99)
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    usage |= {"prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": 3}}
    yield {**_chunk({}), "choices": [], "usage": usage}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice]}
