"""A request as the bytes of a chat completion, each message encoded once. Knows no network.

https://platform.openai.com/docs/api-reference/chat/create; only its fields are sent: servers refuse others.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from operator import is_
from types import MappingProxyType
from typing import Any, assert_never

from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Request, ToolSpec
from ml_intern.model.wire.assemble import DETAILS, THINKING_FIELDS
from ml_intern.record.messages import Answered, Asked, Call, Image, Message, Reply, Thinking

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_TEXT_MARKED = {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}
_MARKED_ROWS = 2
"""The row that was last in the request before is marked, too (see wire/turns.py)."""

Pictures = Mapping[str, bytes]
"""The bytes of images by their hash; what is missing is named in words."""


class Encoder:
    """Makes the bodies of one session's requests.

    What was encoded is kept while the request's version stays and its messages are the same objects.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._version = 0
        self._seen: list[Message] = []
        self._rows: list[bytes] = []
        self._asked = ""
        self._loose: list[dict[str, Any]] = []
        self._frame: tuple[str, Sequence[ToolSpec], str] | None = None
        self._head = b""

    def new_images(self, request: Request) -> list[Image]:
        """The images whose bytes `body` will want for this request."""
        fresh = request.messages[len(self._seen) if self._goes_on(request) else 0 :]
        return [image for each in fresh if not isinstance(each, Reply) for image in each.images]

    def body(
        self, request: Request, pictures: Pictures, more: Mapping[str, Any] = _NOTHING, *, is_marked: bool = True
    ) -> bytes:
        """The body of `request`, with the fields of `more` at its head. `is_marked`: what is to be cached may be marked
        where that is wanted at all.
        """
        if not self._goes_on(request):
            self._seen, self._rows, self._loose = [], [], []
            self._asked, self._version = "", request.version
        for message in request.messages[len(self._seen) :]:
            self._append(message, pictures)
            self._seen.append(message)
        mark = is_marked and _takes_marks(self._endpoint)
        frame = (request.system, request.tools, _ENCODE([{**more}, mark]))
        if self._frame != frame:
            self._frame, self._head = frame, self._framed(request, more, is_marked=mark)
        loose = [_answers_images(self._loose)] if self._loose else []
        limit = f'],"{self._endpoint.provider.limit}":{request.max_output}}}'
        rows = [*self._rows, *loose]
        return b"".join((self._head, b",".join(_marked(rows) if mark else rows), limit.encode()))

    def _goes_on(self, request: Request) -> bool:
        """Whether the messages begin with those that are already encoded."""
        messages, seen = request.messages, self._seen
        return self._version == request.version and len(messages) >= len(seen) and all(map(is_, seen, messages))

    def _framed(self, request: Request, more: Mapping[str, Any], *, is_marked: bool) -> bytes:
        fields: dict[str, Any] = {
            "model": self._endpoint.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        if self._endpoint.provider.session == "prompt_cache_key":
            fields["prompt_cache_key"] = request.session
        if request.tools:
            fields["tools"] = [
                {
                    "type": "function",
                    "function": {"name": each.name, "description": each.text, "parameters": each.parameters},
                }
                for each in request.tools
            ]
        said: Any = [_TEXT_MARKED | {"text": request.system}] if is_marked else request.system
        system = [_row({"role": "system", "content": said}), b""] if request.system else []
        return _row(fields)[:-1] + b',"messages":[' + b",".join(system)

    def _append(self, message: Message, pictures: Pictures) -> None:
        if self._loose and not isinstance(message, Answered):
            self._rows.append(_answers_images(self._loose))
            self._loose, self._asked = [], ""
        match message:
            case Answered():
                self._asked = ""
                self._rows.append(_row({"role": "tool", "tool_call_id": message.wire_id, "content": message.text}))
                # An answer cannot carry images: they follow as the user's, once every call has its answer.
                self._loose.extend(_picture(image, pictures) for image in message.images)
            case Reply() if not message.text.strip() and not message.calls:
                # Empty, or nothing but thoughts: servers refuse it, and what follows asks for it again.
                return
            case Reply():
                self._asked = ""
                said = message.told_to(self._endpoint.id)
                self._rows.append(_row(_assistant(said, keeps_thinking=self._endpoint.provider.keeps_thinking)))
            case Asked():
                self._ask(message, pictures)
            case _:
                assert_never(message)

    def _ask(self, message: Asked, pictures: Pictures) -> None:
        if message.images:
            images = [_picture(image, pictures) for image in message.images]
            self._asked = ""
            self._rows.append(_row({"role": "user", "content": [{"type": "text", "text": message.text}, *images]}))
            return
        if self._asked:
            # Many chat templates refuse two user messages in a row ("roles must alternate").
            self._rows.pop()
        self._asked = f"{self._asked}\n\n{message.text}" if self._asked else message.text
        self._rows.append(_row({"role": "user", "content": self._asked}))


def _takes_marks(endpoint: Endpoint) -> bool:
    """OpenRouter passes marks on to Anthropic's models, which cache nothing without:
    https://openrouter.ai/docs/features/prompt-caching.
    """
    name = endpoint.model.lower()
    return endpoint.provider.id == "openrouter" and (name.startswith("anthropic/") or "claude" in name)


def _marked(rows: Sequence[bytes]) -> list[bytes]:
    """The rows with the last two of plain text that are not the model's marked."""
    marked, left = [*rows], _MARKED_ROWS
    for at in range(len(rows) - 1, -1, -1):
        row: dict[str, Any] = json.loads(rows[at]) if left else {}
        if row.get("role") in {"user", "tool"} and isinstance(row["content"], str) and row["content"].strip():
            marked[at] = _row(row | {"content": [_TEXT_MARKED | {"text": row["content"]}]})
            left -= 1
        if not left:
            break
    return marked


def _assistant(reply: Reply, *, keeps_thinking: bool) -> dict[str, Any]:
    calls = [_call(call) for call in reply.calls]
    row: dict[str, Any] = {"role": "assistant", "content": reply.text or (None if calls else "")}
    if calls:
        row["tool_calls"] = calls
    for part in reply.parts if keeps_thinking else ():
        if not isinstance(part, Thinking):
            continue
        if part.field == DETAILS and part.state:
            row[DETAILS] = json.loads(part.state.value)
        elif part.field in THINKING_FIELDS:
            row[part.field] = row.get(part.field, "") + part.text
    return row


def _call(call: Call) -> dict[str, Any]:
    # A model invents names, too; a server refuses a transcript in which one has other characters.
    name = _NOT_IN_NAMES.sub("_", call.tool)[:64] or "unknown"
    return {"id": call.wire_id, "type": "function", "function": {"name": name, "arguments": _object(call.arguments)}}


def _object(arguments: str) -> str:
    """Arguments as JSON of an object: many servers parse them for their template, and fail on half of one."""
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    # No longer than what the model wrote, give or take: its bytes are what the request's bound was counted from.
    return arguments if is_object else _ENCODE({"invalid_arguments": arguments[:200]} if arguments.strip() else {})


def _picture(image: Image, pictures: Pictures) -> dict[str, Any]:
    if image.sha not in pictures:
        return {"type": "text", "text": f"[an image ({image.mime}) that you cannot see]"}
    data = base64.b64encode(pictures[image.sha]).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{image.mime};base64,{data}"}}


def _answers_images(parts: list[dict[str, Any]]) -> bytes:
    return _row({"role": "user", "content": [{"type": "text", "text": "Images of the answers above:"}, *parts]})


def _row(value: dict[str, Any]) -> bytes:
    return _ENCODE(value).encode("utf-8", "replace")
