"""Turns the view of a lane into a request, and bounds how many prompt tokens it can hold.
Knows no provider and no price.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from ml_intern.agent.retelling import retold
from ml_intern.model.port import Request, ToolSpec
from ml_intern.record.events import ModelChosen
from ml_intern.record.messages import Asked, Message, Reply
from ml_intern.record.room import LEAST_REPLY, expected_tokens, reply_left, window_of
from ml_intern.record.view import View
from ml_intern.record.weights import text_bytes

IMAGE_TOKENS = 4_096
"""More than any provider's tiling of one picture that the tools may attach (at most 1 568 pixels a side)."""
MARGIN_TOKENS = 1_024
_LONGEST_ASIDE = 4_096
"""Tokens of a reply to an aside."""
_ASIDE_WINDOW = 32_768
"""Tokens, where nobody knows how much the model holds."""


@dataclass(frozen=True)
class Head:
    """What stands before every conversation: the system text and the tools.

    `aside`: what is asked is no step of the conversation, but something about it, of which so many characters at the
    most are told as one text.
    """

    system: str
    tools: tuple[ToolSpec, ...]
    aside: int = 0

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
    if head.aside:
        name = f"{session}-{lane}-aside"
        return Request(head.system, (), [_aside(view, lane, head)], max_output, name, view.seq)
    messages = [line.message for line in transcript.lines]
    return Request(head.system, head.tools, messages, max_output, f"{session}-{lane}", transcript.version)


def bound_tokens(view: View, lane: str, head: Head, model: str | None = None) -> int:
    """Most prompt tokens the lane's next request can hold, as `model` counts them (None: as whoever counted last).

    The provider's own count of the prefix where it is known, the bytes of everything since, a fixed sum per image.
    """
    if head.aside:
        return head.bound + _bound_of(_aside(view, lane, head)) + MARGIN_TOKENS
    transcript = view.lane(lane).transcript
    counted = transcript.counted
    if counted is not None and counted.head == head.digest and model in {None, counted.model}:
        fresh, known = transcript.lines.since(counted.lines), counted.tokens
    else:
        fresh, known = transcript.lines.since(0), head.bound
    return known + sum(_bound_of(line.message) for line in fresh) + MARGIN_TOKENS


def guessed_tokens(view: View, lane: str, head: Head) -> int:
    """About how many prompt tokens the lane's next request holds, whoever counts: for a choice, never for money."""
    if head.aside:
        return (head.bound + text_bytes(_aside(view, lane, head))) // 3
    return expected_tokens(view.lane(lane).transcript, head.bound)


def reply_tokens(view: View, lane: str, head: Head, model: ModelChosen) -> int | None:
    """What the window of `model` leaves for the reply to the lane's next request; None where nobody knows it.

    Never less than is worth asking for: that a request is too long is the provider's to tell.
    """
    window = window_of(view, lane, model)
    room = None if window is None else max(LEAST_REPLY, reply_left(window, guessed_tokens(view, lane, head)))
    return min(room or _LONGEST_ASIDE, _LONGEST_ASIDE) if head.aside else room


def _aside(view: View, lane: str, head: Head) -> Asked:
    """The conversation as one text that the model which is asked about it can hold."""
    window = window_of(view, lane, view.settings.model_of("compaction")) or _ASIDE_WINDOW
    limit = min(head.aside, max(LEAST_REPLY, (window - _LONGEST_ASIDE - head.bound // 3) * 2))
    mark = hashlib.sha256(f"{lane} {view.started.session if view.started else ''} {view.seq}".encode()).hexdigest()[:12]
    return Asked(retold(view.lane(lane).transcript.lines, mark, limit), by="product")


def _bound_of(message: Message) -> int:
    """Its bytes, a token being at least one, and a fixed sum for each image."""
    return text_bytes(message) + (0 if isinstance(message, Reply) else IMAGE_TOKENS * len(message.images))
