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
        case Asked(text=text) | Answered(text=text):
            return len(text.encode()) + MESSAGE_BYTES
        case Reply(parts=parts):
            return sum(map(_bytes_of, parts)) + MESSAGE_BYTES


def _bytes_of(part: ReplyPart) -> int:
    match part:
        case Text(text=text):
            return len(text.encode())
        case Thinking(text=text, state=state):
            return len(text.encode()) + (len(state.value.encode()) if state is not None else 0)
        case Call(tool=tool, wire_id=wire_id, arguments=arguments):
            return len(tool.encode()) + len(wire_id) + len(arguments.encode()) + MESSAGE_BYTES
