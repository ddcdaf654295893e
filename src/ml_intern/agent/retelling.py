"""A transcript as one text for the model that writes a summary's prose: who said what, long things in short.

Knows no window and no prompt.
"""

from collections.abc import Iterable

from ml_intern.base.text import clip, visible
from ml_intern.record.folds.lines import Line
from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, Text

_SAID_CHARS = 2_000
_ARGUMENT_CHARS = 600
_ANSWER_CHARS = 1_200
_HEAD_SHARE = 0.2


def retold(lines: Iterable[Line], mark: str, limit: int) -> str:
    """The lines between two lines that hold `mark`, within about `limit` characters: of too many the middle goes."""
    told = "\n".join(row for line in lines for row in _rows(line.message))
    return f"[material {mark}]\n{clip(told, limit, head_share=_HEAD_SHARE).text}\n[end of material {mark}]"


def _rows(message: Message) -> list[str]:
    match message:
        case Asked(text=text, by=by, images=images):
            pictures = f" [{len(images)} images]" if images else ""
            return [f"{'USER' if by == 'user' else 'NOTE'}: {_short(text, _SAID_CHARS)}{pictures}"]
        case Reply(parts=parts):
            said = [f"ENGINEER: {_short(part.text, _SAID_CHARS)}" for part in parts if isinstance(part, Text)]
            calls = [part for part in parts if isinstance(part, Call)]
            return [*said, *(f"CALL {each.tool} {_short(each.arguments, _ARGUMENT_CHARS)}" for each in calls)]
        case Answered(tool=tool, text=text, ok=ok):
            return [f"{'ANSWER' if ok else 'FAILED'} of {tool}: {_short(text, _ANSWER_CHARS)}"]


def _short(text: str, limit: int) -> str:
    return clip(visible(text).strip(), limit).text
