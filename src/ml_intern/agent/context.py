"""Turns the view of a lane into a request, and bounds how many prompt tokens it can hold.
Knows no provider and no price.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from ml_intern.model.port import Request, ToolSpec
from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, ReplyPart, Text, Thinking
from ml_intern.record.view import View

IMAGE_TOKENS = 4_096
"""More than any provider's tiling of one picture that the tools may attach (at most 1 568 pixels a side)."""
MARGIN_TOKENS = 1_024
MESSAGE_TOKENS = 16
"""What a chat template may add around one message."""


@dataclass(frozen=True)
class Head:
    """What stands before every conversation: the system text and the tools."""

    system: str
    tools: tuple[ToolSpec, ...]

    @cached_property
    def _encoded(self) -> bytes:
        rows = [[tool.name, tool.text, tool.parameters] for tool in self.tools]
        return json.dumps([self.system, rows], ensure_ascii=False, sort_keys=True).encode()

    @cached_property
    def digest(self) -> str:
        """Changes when a provider would count the head differently."""
        return hashlib.sha256(self._encoded).hexdigest()[:16]

    @cached_property
    def bound(self) -> int:
        """Most tokens it can be: a token is at least one byte of UTF-8."""
        return len(self._encoded)


def make_request(view: View, lane: str, head: Head, max_output: int) -> Request:
    """The request for the lane's next step."""
    transcript = view.lane(lane).transcript
    session = view.started.session if view.started is not None else ""
    messages = [line.message for line in transcript.lines]
    return Request(head.system, head.tools, messages, max_output, f"{session}-{lane}", transcript.version)


def bound_tokens(view: View, lane: str, head: Head) -> int:
    """Most prompt tokens the lane's next request can hold.

    The provider's own count of the prefix where it is known, the bytes of everything since, a fixed sum per image.
    """
    transcript = view.lane(lane).transcript
    counted = transcript.counted
    if counted is not None and counted.head == head.digest:
        fresh, known = transcript.lines.since(counted.lines), counted.tokens
    else:
        fresh, known = transcript.lines.since(0), head.bound
    return known + sum(_bound_of(line.message) for line in fresh) + MARGIN_TOKENS


def _bound_of(message: Message) -> int:
    match message:
        case Asked(text=text, images=images) | Answered(text=text, images=images):
            return len(text.encode()) + IMAGE_TOKENS * len(images) + MESSAGE_TOKENS
        case Reply(parts=parts):
            return sum(_bound_of_part(part) for part in parts) + MESSAGE_TOKENS


def _bound_of_part(part: ReplyPart) -> int:
    match part:
        case Text(text=text):
            return len(text.encode())
        case Thinking(text=text, state=state):
            return len(text.encode()) + (len(state.value.encode()) if state is not None else 0)
        case Call(tool=tool, wire_id=wire_id, arguments=arguments):
            return len(tool.encode()) + len(wire_id) + len(arguments.encode()) + MESSAGE_TOKENS
