"""A request as the bytes of an Anthropic message, each turn encoded once, its cache marked. Knows no network.

https://platform.claude.com/docs/en/api/messages; what the model's own side must not change goes back as it came.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from operator import is_
from types import MappingProxyType
from typing import Any, NoReturn, assert_never

from ml_intern.model.catalog import Endpoint
from ml_intern.model.learned import Lesson
from ml_intern.model.port import Request
from ml_intern.model.wire.blocks import REDACTED, SIGNED
from ml_intern.model.wire.shapes import is_object
from ml_intern.record.messages import Answered, Asked, Call, Image, Message, Reply, ReplyPart, Text, Thinking

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_MARK = b',"cache_control":{"type":"ephemeral"}}'
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MARKED_TURNS = 2
"""The turn that was last in the request before is marked, too: the server looks for what it has cached at marks, and
only 20 blocks before one (https://platform.claude.com/docs/en/build-with-claude/prompt-caching)."""


class TurnEncoder:
    """Makes the bodies of one session's requests.

    What was encoded is kept while the request's version stays and its messages are the same objects. With `thinks`
    false no thinking goes back; what else the server does not take stands in `lesson`.
    """

    def __init__(self, endpoint: Endpoint, lesson: Lesson | None = None) -> None:
        self.thinks = True
        self._lesson = lesson or Lesson()
        self._endpoint = endpoint
        self._version = 0
        self._seen: list[Message] = []
        self._turns: list[tuple[str, list[bytes]]] = []
        self._rows: list[bytes] = []
        self._ids: dict[str, str] = {}

    def forget(self) -> None:
        """Encode everything anew at the next request."""
        self._seen, self._turns, self._rows, self._ids = [], [], [], {}

    def new_images(self, request: Request) -> list[Image]:
        """The images whose bytes `body` will want for this request."""
        fresh = request.messages[len(self._seen) if self._goes_on(request) else 0 :]
        return [image for each in fresh if not isinstance(each, Reply) for image in each.images]

    def most_output(self, request: Request) -> int:
        """The tokens that the reply may have."""
        return min(request.max_output, self._lesson.learned.most_output or request.max_output)

    def body(self, request: Request, pictures: Mapping[str, bytes], more: Mapping[str, Any] = _NOTHING) -> bytes:
        """The body of `request`, with the fields of `more` after its messages."""
        if not self._goes_on(request):
            self.forget()
            self._version = request.version
        for message in request.messages[len(self._seen) :]:
            role, blocks = self._blocks(message, pictures)
            self._append(role, blocks)
            self._seen.append(message)
        learned = self._lesson.learned
        tail = _encoded({"max_tokens": self.most_output(request), **more})
        rows = self._marked() if learned.marks else self._rows
        head = _head(self._endpoint.model, request, is_marked=learned.marks)
        return b"".join((head, b",".join(rows), b"],", tail[1:]))

    def _goes_on(self, request: Request) -> bool:
        """Whether the messages begin with those that are already encoded."""
        messages, seen = request.messages, self._seen
        return self._version == request.version and len(messages) >= len(seen) and all(map(is_, seen, messages))

    def _append(self, role: str, blocks: list[bytes]) -> None:
        """Neighbours of one role are one turn: all answers to the calls of a reply stand in the next message."""
        if not blocks:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(blocks)
            self._rows[-1] = _row(*self._turns[-1])
        else:
            self._turns.append((role, blocks))
            self._rows.append(_row(role, blocks))

    def _marked(self) -> list[bytes]:
        rows, left = [*self._rows], _MARKED_TURNS
        for at in range(len(rows) - 1, -1, -1):
            role, blocks = self._turns[at]
            if role == "user" and left:
                rows[at] = _row(role, [*blocks[:-1], blocks[-1][:-1] + _MARK])
                left -= 1
            if not left:
                break
        return rows

    def _blocks(self, message: Message, pictures: Mapping[str, bytes]) -> tuple[str, list[bytes]]:
        match message:
            case Asked(text=text, images=images):
                # The API refuses a text of nothing but spaces.
                said = [_text(text)] if text.strip() or not images else []
                return "user", [_encoded(block) for block in (*said, *(_picture(each, pictures) for each in images))]
            case Answered():
                return "user", [_encoded(self._answer(message, pictures))]
            case Reply() if not message.text.strip() and not message.calls:
                # The API refuses a message of nothing, and one that ends in thinking.
                return "assistant", []
            case Reply():
                said = message.told_to(self._endpoint.id)
                return "assistant", [block for part in said.parts for block in self._part(part)]
            case _:
                assert_never(message)

    def _answer(self, message: Answered, pictures: Mapping[str, bytes]) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": self._ids.get(message.call, message.wire_id)}
        if message.images:
            said = [_text(message.text)] if message.text.strip() else []
            block["content"] = [*said, *(_picture(each, pictures) for each in message.images)]
        else:
            # The API refuses an error without a word.
            block["content"] = message.text if message.ok or message.text.strip() else "[nothing]"
        return block if message.ok else {**block, "is_error": True}

    def _part(self, part: ReplyPart) -> Iterator[bytes]:
        match part:
            case Text(text=text):
                if text.strip():
                    yield _encoded(_text(text))
            case Thinking(text=text, field=field, state=state):
                if self.thinks and state and field == SIGNED:
                    yield _encoded({"type": "thinking", "thinking": text, "signature": state.value})
                elif self.thinks and state and field == REDACTED:
                    yield _encoded({"type": "redacted_thinking", "data": state.value})
            case Call():
                # A model invents names, too; a server refuses a transcript in which one has other characters.
                name = _NOT_IN_NAMES.sub("_", part.tool)[:64] or "unknown"
                start = _encoded({"type": "tool_use", "id": self._id(part), "name": name})
                yield start[:-1] + b',"input":' + _object(part.arguments) + b"}"
            case _:
                assert_never(part)

    def _id(self, call: Call) -> str:
        """The call's id on this wire: the provider's own, where it is one here and no other call has it."""
        taken = call.wire_id in self._ids.values()
        is_one = _ID.fullmatch(call.wire_id) is not None
        self._ids[call.id] = call.wire_id if is_one and not taken else f"toolu_{_NOT_IN_NAMES.sub('_', call.id)}"
        return self._ids[call.id]


def _head(model: str, request: Request, *, is_marked: bool) -> bytes:
    head: dict[str, Any] = {"model": model, "stream": True}
    if request.tools:
        head["tools"] = [
            {"name": each.name, "description": each.text, "input_schema": each.parameters} for each in request.tools
        ]
    if request.system.strip():
        # Tools stand before the system text in what is cached: one mark covers both.
        system = _text(request.system)
        head["system"] = [_marked_block(system) if is_marked else system]
    elif request.tools and is_marked:
        head["tools"][-1] = _marked_block(head["tools"][-1])
    return _encoded(head)[:-1] + b',"messages":['


def _marked_block(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "cache_control": {"type": "ephemeral"}}


def _row(role: str, blocks: list[bytes]) -> bytes:
    return b'{"role":"%s","content":[%s]}' % (role.encode(), b",".join(blocks))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text if text.strip() else "[nothing]"}


def _picture(image: Image, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    if image.sha not in pictures or image.mime not in _PICTURES:
        why = "that you cannot see" if image.sha not in pictures else "of a kind that cannot be shown"
        return _text(f"[an image ({image.mime}) {why}]")
    data = base64.b64encode(pictures[image.sha]).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": image.mime, "data": data}}


def _object(arguments: str) -> bytes:
    """Arguments as the bytes of an object: as the model wrote them, where they are one."""
    if not arguments.strip():
        return b"{}"
    value = _parsed(arguments)
    if value is None:
        # No longer than what the model wrote, give or take: its bytes are what the request's bound was counted from.
        return _encoded({"invalid_arguments": arguments[:200]})
    # Half a character may hide in an escape: it is no text, and encoding it anew replaces it.
    return _encoded(value) if "\\u" in arguments else arguments.encode("utf-8", "replace")


def _parsed(arguments: str) -> dict[str, Any] | None:
    try:
        value: object = json.loads(arguments, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return value if is_object(value) else None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _encoded(value: object) -> bytes:
    return _ENCODE(value).encode("utf-8", "replace")
