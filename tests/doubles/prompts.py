"""What a prompt weighs and how much of it a prefix cache holds; each message is read once. Knows no reply and no HTTP.

A token is four bytes. Counted are tools (as JSON), contents, thinking, names and arguments of calls; an image is 765.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from tests.doubles.protocol import THINKING_FIELDS, Calls, Refused
from tests.doubles.replies import tokens
from tests.doubles.script import text_of

IMAGE_TOKENS = 765
_BLOCK_TOKENS = 1024
_BLOCK = _BLOCK_TOKENS * 4


class Conversation:
    """A transcript that grows at its end: checked, weighed and hashed as far as it was seen."""

    def __init__(self, tools: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.texts: dict[str, list[str]] = {}
        self.call_ids: set[str] = set()
        self.blocks: list[bytes] = []
        self._calls = Calls()
        self._size = 0
        self._rest = b""
        if tools:
            self._add(tools)

    @property
    def tokens(self) -> int:
        """The weight of the prompt."""
        return tokens(self._size)

    def goes_on(self, messages: list[dict[str, Any]]) -> bool:
        """Whether these messages begin with all that was seen."""
        return messages[: len(self.messages)] == self.messages

    def take(self, messages: list[dict[str, Any]]) -> None:
        """Read what is new.

        Raises:
            Refused: a message may not stand where it stands. The conversation is then of no more use.
        """
        for index in range(len(self.messages), len(messages)):
            self._calls.take(messages[index], index)
            self._weigh(messages[index])
        self._calls.close()
        self.messages = messages

    def _weigh(self, message: dict[str, Any]) -> None:
        self.texts.setdefault(message["role"], []).append(text_of(message))
        self.call_ids.update(call["id"] for call in message.get("tool_calls") or ())
        self._rest += message["role"].encode()
        try:
            for text in _texts(message):
                self._add(text)
        except UnicodeEncodeError as error:
            raise Refused("A message holds half of a surrogate pair, which is no text.") from error

    def _add(self, text: str) -> None:
        data = text.encode()
        self._size += IMAGE_TOKENS * 4 if text.startswith("data:image/") else len(data)
        rest = self._rest + data
        whole = len(rest) // _BLOCK * _BLOCK
        for start in range(0, whole, _BLOCK):
            before = self.blocks[-1] if self.blocks else b""
            self.blocks.append(hashlib.blake2b(before + rest[start : start + _BLOCK], digest_size=16).digest())
        self._rest = rest[whole:]


def _texts(message: dict[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        value = part[part["type"]]
        yield value if isinstance(value, str) else value.get("url") or json.dumps(value)
    for field in THINKING_FIELDS:
        yield message.get(field) or ""
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"]
        yield call["function"]["arguments"]


class Prompts:
    """What was asked before, by client: the prefix cache, and the conversations that may go on."""

    def __init__(self) -> None:
        self._conversations: dict[tuple[str, str, str], Conversation] = {}
        self._cache: dict[tuple[str, str], set[bytes]] = {}

    def read(self, client: str, body: dict[str, Any]) -> Conversation:
        """Check and weigh the messages of a request.

        Raises:
            Refused: the API would refuse them.
        """
        tools = json.dumps(body["tools"], separators=(",", ":")) if body.get("tools") else ""
        key = (client, body["model"], tools)
        conversation = self._conversations.pop(key, None)
        if conversation is None or not conversation.goes_on(body["messages"]):
            conversation = Conversation(tools)
        conversation.take(body["messages"])
        self._conversations[key] = conversation
        return conversation

    def cached(self, client: str, model: str, conversation: Conversation) -> int:
        """Tokens of the longest prefix that this client sent to this model before, in steps of 1 024; notes the new."""
        cache = self._cache.setdefault((client, model), set())
        known = next((n for n, block in enumerate(conversation.blocks) if block not in cache), len(conversation.blocks))
        cache.update(conversation.blocks)
        return min(known, conversation.tokens // _BLOCK_TOKENS) * _BLOCK_TOKENS
