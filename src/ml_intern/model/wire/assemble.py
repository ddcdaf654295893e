"""Chunks of a chat completion to deltas and one finished reply, whatever dialect the server speaks. Knows no bytes."""

import json
from typing import Any, Literal

from ml_intern.base.ids import new_id
from ml_intern.model.port import Delta, Finished
from ml_intern.model.wire.calls import Calls
from ml_intern.model.wire.fresh import Fresh, mended
from ml_intern.model.wire.shapes import fields, items, words
from ml_intern.record.messages import Call, Opaque, Reply, ReplyPart, Text, Thinking, Usage

# DeepSeek, Kimi, llama.cpp, older vLLM; then OpenRouter, Groq, Ollama, newer vLLM; then gateways.
THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking")
DETAILS = "reasoning_details"
"""OpenRouter's: signed or encrypted parts that must go back (https://openrouter.ai/docs/use-cases/reasoning-tokens)."""

Finish = Literal["stop", "calls", "length", "filter", "other"]
_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "calls",
    "function_call": "calls",
    "tool_use": "calls",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
    "safety": "filter",
    "refusal": "filter",
    "sensitive": "filter",
}


class Assembly:
    """One reply as it grows. `finish` is the server's own word for its end, empty until then."""

    is_done = False  # no chunk says so: the stream's own [DONE] does

    def __init__(self) -> None:
        self.finish = ""
        self.usage: Usage | None = None
        self._served = ("", "")
        self._field = ""
        self._details: list[dict[str, Any]] = []
        self._calls = Calls()
        self._texts: dict[str, list[str]] = {"text": [], "thinking": []}
        self._fresh = Fresh()

    def add(self, chunk: dict[str, Any]) -> None:
        """Take in one chunk of the stream."""
        choices = items(chunk.get("choices"))
        choice = fields(choices[0]) if choices else {}
        if choice:
            self._choose(choice)
        # Groq and Moonshot have places of their own for it.
        if usage := chunk.get("usage") or choice.get("usage") or fields(chunk.get("x_groq")).get("usage"):
            self.usage = usage_of(fields(usage)) or self.usage
        if not self._served[0]:
            # A router names the provider, too: https://openrouter.ai/docs/api-reference/overview.
            self._served = (str(chunk.get("model") or ""), words(chunk.get("provider")))

    def take(self, *, ends: bool = False) -> list[Delta]:
        """What arrived since the last time, neighbours of one kind joined: a reader does not pay for every token."""
        return self._fresh.take(lambda index: self._calls.all[index].name, ends=ends)

    def finished(self) -> Finished:
        """The whole reply. Ids are ours; the server's go along, made where it sent none or one twice."""
        thinking, text = (mended("".join(self._texts[kind])) for kind in ("thinking", "text"))
        parts: list[ReplyPart] = []
        if self._details:
            parts.append(Thinking(thinking, DETAILS, Opaque(json.dumps(self._details))))
        elif thinking:
            parts.append(Thinking(thinking, self._field))
        if text:
            parts.append(Text(text))
        seen = {""}
        for writing in self._calls.all:
            own = new_id()
            wire_id = f"call_{own}" if writing.wire_id in seen else writing.wire_id
            seen.add(wire_id)
            parts.append(Call(own, wire_id, writing.name, mended(writing.arguments)))
        return Finished(Reply(tuple(parts)), self.usage, self._how(), *self._served)

    def _choose(self, choice: dict[str, Any]) -> None:
        delta = fields(choice.get("delta"))
        if not delta and not any(self._texts.values()) and not self._calls.all:
            # The whole at once. Where pieces came before, it would only repeat them.
            delta = fields(choice.get("message"))
        text = delta.get("content")
        if len(delta) == 1 and isinstance(text, str):
            # Nearly every chunk there is.
            self._grow("text", text)
        else:
            self._take_in(delta)
        self.finish = str(choice.get("finish_reason") or self.finish)

    def _take_in(self, delta: dict[str, Any]) -> None:
        self._think(delta)
        self._say(delta.get("content"))
        self._say(delta.get("refusal"))
        calls = delta.get("tool_calls")
        for entry in filter(None, map(fields, items(calls) or [calls])):
            self._fresh.add("call", *self._calls.add(entry))

    def _say(self, content: object) -> None:
        if isinstance(content, str):
            self._grow("text", content)
            return
        for part in map(fields, items(content)):
            self._say_part(part)

    def _say_part(self, part: dict[str, Any]) -> None:
        """A part of a content that is a list: text, or thinking, which is a text or once more a list."""
        inner = part.get("thinking")
        if thinking := words(inner) or "".join(words(fields(each).get("text")) for each in items(inner)):
            self._grow("thinking", thinking)
        elif text := words(part.get("text")):
            self._grow("text", text)

    def _think(self, delta: dict[str, Any]) -> None:
        text = ""
        for name in (self._field,) if self._field else THINKING_FIELDS:
            if text := words(delta.get(name)):
                self._field = name
                break
        for detail in map(fields, items(delta.get(DETAILS))):
            text = text or words(detail.get("text")) or words(detail.get("summary"))
            _join_detail(self._details, detail)
        self._grow("thinking", text)

    def _grow(self, kind: str, text: str) -> None:
        if text:
            self._texts[kind].append(text)
            self._fresh.add(kind, 0, text)

    def _how(self) -> Finish:
        finish = _FINISHES.get(self.finish.lower(), "other") if self.finish else "stop"
        if finish in {"stop", "calls"}:
            return "calls" if self._calls.all else "stop"
        return finish


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """The tokens of one attempt, or None where the server counted none.

    A total above prompt + completion is thinking that the server left out of its completion count; it is billed.
    """
    prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if not prompt:
        return None
    before, after = fields(usage.get("prompt_tokens_details")), fields(usage.get("completion_tokens_details"))
    cached = (
        _count(before, "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens")
        or _count(usage, "cached_tokens")
        or _count(usage, "cache_read_input_tokens")
    )
    written = _count(before, "cache_write_tokens") or _count(usage, "cache_creation_input_tokens")
    return Usage(
        prompt,
        max(output, _count(usage, "total_tokens") - prompt),
        min(cached, prompt),
        min(written, prompt - min(cached, prompt)),
        _count(after, "reasoning_tokens"),
    )


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return max(0, int(value)) if isinstance(value, (int, float)) else 0


def _join_detail(details: list[dict[str, Any]], new: dict[str, Any]) -> None:
    """Pieces of one detail follow each other with the same type and index: texts grow, other fields are set once."""
    last = details[-1] if details else {}
    is_more = "data" not in new and all(last.get(name) == new.get(name) for name in ("type", "index"))
    if not last or not is_more:
        details.append(dict(new))
        return
    for name, value in new.items():
        if name in {"text", "summary"} and isinstance(value, str):
            last[name] = f"{last.get(name) or ''}{value}"
        elif value is not None:
            last[name] = value
