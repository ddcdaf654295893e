"""What a message weighs: bytes that a request has more for it. Knows no head, no tokeniser and no window."""

from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, ReplyPart, Text, Thinking

MESSAGE_BYTES = 16
"""What a chat template may add around one message."""
IMAGE_BYTES = 6_000
"""About what a picture of at most 1 568 pixels a side costs, at four bytes a token."""


def weight_of(message: Message) -> int:
    """Bytes of the message's text, and what its images are about worth."""
    return text_bytes(message) + (IMAGE_BYTES * len(message.images) if not isinstance(message, Reply) else 0)


def text_bytes(message: Message) -> int:
    """Bytes of all that is text in it: it is at most as many tokens."""
    match message:
        case Answered(text=text) | Asked(text=text):
            return _size(text) + MESSAGE_BYTES
        case Reply(parts=parts):
            return sum(map(_bytes_of, parts)) + MESSAGE_BYTES


def _bytes_of(part: ReplyPart) -> int:
    match part:
        case Text(text=text):
            return _size(text)
        case Call(tool=tool, wire_id=wire_id, arguments=arguments):
            return _size(tool) + len(wire_id) + _size(arguments) + MESSAGE_BYTES
        case Thinking(text=text, state=state):
            return _size(text) + (_size(state.value) if state is not None else 0)


def _size(text: str) -> int:
    """Bytes in UTF-8. Most texts are plain, which Python knows without a look at them."""
    return len(text) if text.isascii() else len(text.encode())
