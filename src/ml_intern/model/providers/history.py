"""Our messages as pydantic-ai's, and its replies as ours. Knows no provider and asks nobody.

What a provider wants back as it came (signatures, ids, encrypted thinking) travels as opaque state: of a thought with
the thought, of a text or a call in a thought without words before it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, assert_never

from msgspec import Struct
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished
from ml_intern.model.wire.shapes import fields
from ml_intern.record.messages import (
    Answered,
    Asked,
    Call,
    Image,
    Message,
    Opaque,
    Reply,
    ReplyPart,
    Text,
    Thinking,
    Usage,
)

OWN, NEXT = "pydantic_ai", "pydantic_ai.next"
"""The fields of a thought with its own state, and of one that only carries the state of what follows."""

Finish = Literal["stop", "calls", "length", "filter", "other"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
# https://docs.mistral.ai/capabilities/function_calling/: ids of other providers are refused.
_ID_OF = {"mistral": re.compile(r"[a-zA-Z0-9]{9}")}
_FINISHES: Mapping[str, Finish] = {"stop": "stop", "length": "length", "content_filter": "filter", "tool_call": "calls"}


class Origin(Struct, frozen=True):
    """Who said something, in pydantic-ai's words: a provider takes back only what it said itself."""

    provider: str
    url: str
    system: str

    @classmethod
    def of(cls, response: ModelResponse) -> "Origin":
        """Who said this."""
        return cls(response.provider_name or "", response.provider_url or "", response.canonical_system or "")


class History:
    """The messages of one session in pydantic-ai's form. `kind` is how infer_model calls the provider, `name` how its
    replies do.
    """

    def __init__(self, kind: str, name: str) -> None:
        self._kind = kind
        self._name = name
        self._ids: dict[str, str] = {}

    def of(self, system: str, messages: Sequence[Message], pictures: Mapping[str, bytes]) -> list[ModelMessage]:
        """A whole conversation. What neighbours say to the model is one request."""
        self._ids = {}
        made: list[ModelMessage] = []
        waiting: list[ModelRequestPart] = [SystemPromptPart(system)] if system.strip() else []
        for message in messages:
            if not isinstance(message, Reply):
                waiting.append(self._said(message, pictures))
                continue
            response = self._replied(message)
            if response.parts:
                made += [ModelRequest(waiting), response] if waiting else [response]
                waiting = []
        return [*made, ModelRequest(waiting)] if waiting else made

    def _said(self, message: Asked | Answered, pictures: Mapping[str, bytes]) -> ModelRequestPart:
        shown = [_picture(each, pictures) for each in message.images]
        match message:
            case Asked(text=text):
                words = [text] if text.strip() or not shown else []
                content: list[UserContent] = [*(each or "[nothing]" for each in words), *shown]
                return UserPromptPart(content if shown else (text if text.strip() else "[nothing]"))
            case Answered(text=text, ok=ok):
                said = text if text.strip() or shown else "[nothing]"
                return ToolReturnPart(
                    _named(message.tool),
                    [said, *shown] if shown else said,
                    self._ids.get(message.call, message.wire_id or message.call),
                    outcome="success" if ok else "failed",
                )
            case _:
                assert_never(message)

    def _replied(self, reply: Reply) -> ModelResponse:
        parts: list[ModelResponsePart] = []
        origin = Origin("", "", "")
        state: dict[str, Any] = {}
        for part in reply.parts:
            match part:
                case Thinking(field=field, state=Opaque(value=value)) if field in {OWN, NEXT}:
                    kept = fields(json.loads(value))
                    said_by = Origin(*(str(each) for each in kept.get("origin", ("", "", ""))))
                    if said_by.provider not in {"", self._name}:
                        # Another provider's, which this one would read as text.
                        continue
                    origin, state = said_by, fields(kept.get("part")) if field == NEXT else {}
                    if field == OWN:
                        parts.append(ThinkingPart(part.text, **fields(kept.get("part"))))
                case Thinking():
                    pass
                case Text(text=text):
                    parts += [TextPart(text, **state)] if text.strip() or state else []
                    state = {}
                case Call():
                    parts.append(ToolCallPart(_named(part.tool), _arguments(part), self._id(part), **state))
                    state = {}
                case _:
                    assert_never(part)
        return ModelResponse(
            parts,
            provider_name=origin.provider or None,
            provider_url=origin.url or None,
            canonical_system=origin.system or None,
        )

    def _id(self, call: Call) -> str:
        """The call's id there: the provider's own where it is one and no other call has it."""
        form, taken = _ID_OF.get(self._kind), call.wire_id in self._ids.values()
        is_one = bool(call.wire_id) and (form is None or form.fullmatch(call.wire_id) is not None)
        made = hashlib.sha256(call.id.encode()).hexdigest()[:9] if form else call.id
        self._ids[call.id] = call.wire_id if is_one and not taken else made
        return self._ids[call.id]


def finished(response: ModelResponse) -> Finished:
    """A whole reply as ours."""
    parts = tuple(each for part in response.parts for each in _ours(part, response))
    has_calls = any(isinstance(each, Call) for each in parts)
    finish = _FINISHES.get(response.finish_reason or "stop", "other")
    if finish in {"stop", "calls"}:
        finish = "calls" if has_calls else "stop"
    return Finished(Reply(parts), usage_of(response.usage), finish, response.model_name or "")


def arguments_of(part: ToolCallPart) -> str:
    """The arguments as the model wrote them, valid or not."""
    return part.args if isinstance(part.args, str) else part.args_as_json_str()


def usage_of(usage: RequestUsage) -> Usage | None:
    """The tokens of one attempt, or None where the provider counted none."""
    if usage.unmeasured_requests or not usage.input_tokens:
        return None
    cached = min(usage.cache_read_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    return Usage(usage.input_tokens, usage.output_tokens, cached, written, usage.output_reasoning_tokens)


def _ours(part: ModelResponsePart, response: ModelResponse) -> Iterator[ReplyPart]:
    match part:
        case ThinkingPart(content=text):
            state = _state(part, response, "id", "signature")
            if text or state:
                yield Thinking(text, OWN, state or _opaque({}, response))
        case TextPart(content=text):
            state = _state(part, response, "id")
            if state:
                yield Thinking("", NEXT, state)
            if text or state:
                yield Text(text)
        case ToolCallPart():
            if state := _state(part, response, "id"):
                yield Thinking("", NEXT, state)
            yield Call(new_id(), part.tool_call_id, part.tool_name, arguments_of(part))
        case _:
            # What a provider ran on its own side: we never ask for it.
            pass


def _state(
    part: ThinkingPart | TextPart | ToolCallPart, response: ModelResponse, *names: Literal["id", "signature"]
) -> Opaque | None:
    """What must go back with a part, if anything."""
    signature = part.signature if isinstance(part, ThinkingPart) and "signature" in names else None
    found = {"id": part.id, "signature": signature, "provider_details": part.provider_details}
    kept = {name: value for name, value in found.items() if value}
    return _opaque({**kept, "provider_name": part.provider_name}, response) if kept else None


def _opaque(part: dict[str, Any], response: ModelResponse) -> Opaque:
    origin = Origin.of(response)
    kept = {"part": part, "origin": [origin.provider, origin.url, origin.system]}
    return Opaque(json.dumps(kept, ensure_ascii=False, default=str))


def _arguments(call: Call) -> str:
    """An object, as every provider demands; what the model wrote wrongly is quoted, not hidden."""
    try:
        value: object = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return call.arguments or "{}"
    return json.dumps({"invalid_arguments": call.arguments[:200]}, ensure_ascii=False)


def _picture(image: Image, pictures: Mapping[str, bytes]) -> UserContent:
    if image.sha not in pictures:
        return f"[an image ({image.mime}) that is not shown]"
    return BinaryContent(pictures[image.sha], media_type=image.mime)


def _named(tool: str) -> str:
    return _NOT_IN_NAMES.sub("_", tool)[:64] or "unknown"
