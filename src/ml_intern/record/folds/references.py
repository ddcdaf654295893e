"""A line of the transcript shrunk to a reference: what it was, and where all of it still is. Knows no tool."""

import json
import re
from collections.abc import Sequence

from msgspec.structs import replace

from ml_intern.base.text import clip, one_line, size
from ml_intern.record.clearing import Told
from ml_intern.record.folds.lines import Line
from ml_intern.record.messages import Answered, Asked, Call, Image, Reply, ReplyPart, Text, Thinking

_SIDE_CHARS = 100
_REPLY_CHARS = 400
_MOST_NUMBERS = 6
_MARK = "[cleared: "
_FRAME = re.compile(r"\[(?:end of )?data [0-9a-f]{8,}")
"""The marks around untrusted text: quoted, they would seem to open or to close a frame."""


def is_reference(line: Line) -> bool:
    """Whether its answer was shrunk already."""
    return isinstance(line.message, Answered) and line.message.text.startswith(_MARK)


def referred(line: Line, shown: int, told: Sequence[Told] = ()) -> Line:
    """The line with `shown` characters of its answer (0: only how it begins and ends, and the numbers that it `told`)
    and without its images.

    What a person wrote stays as it is, only its images go.
    """
    match line.message:
        case Answered(text=text, images=images):
            short = _shorter(text, shown) if is_reference(line) else _short(line, text, shown, told)
            return replace(line, message=replace(line.message, text=short, images=()))
        case Asked(text=text, images=images) if images:
            note = f"[no longer in view: {_pictures(images)}]"
            return replace(line, message=replace(line.message, text=f"{text}\n{note}", images=()))
        case _:
            return line


def shortened(reply: Reply) -> Reply:
    """The reply with how its texts begin and end, how the arguments of its calls begin, and without its thinking: that
    goes back byte for byte or not at all.
    """
    return replace(reply, parts=tuple(_part(part) for part in reply.parts if not isinstance(part, Thinking)))


def _part(part: ReplyPart) -> ReplyPart:
    match part:
        case Text(text=text):
            return Text(clip(text, _REPLY_CHARS).text)
        case Call(arguments=arguments) if len(arguments) > _REPLY_CHARS:
            # Providers read arguments: they stay an object.
            return replace(part, arguments=json.dumps({"cleared": one_line(arguments, _REPLY_CHARS)}))
        case _:
            return part


def _short(line: Line, text: str, shown: int, told: Sequence[Told]) -> str:
    images = line.message.images if isinstance(line.message, Answered) else ()
    where = [f"entry {line.entry} of the record", *([f"blob:{line.blob}"] if line.blob else [])]
    count = text.count("\n") + 1
    lines = f"{count:,} line{'' if count == 1 else 's'}"
    facts = [size(len(text.encode())), lines, *([_pictures(images)] if images else [])]
    all_rows = [row for row in text.splitlines() if row.strip()]
    rows = [row for row in all_rows if not _FRAME.match(row)] or [""]
    said = "untrusted text, " if len(rows) < len(all_rows) else ""
    ends = [f'{said}begins "{one_line(rows[0], _SIDE_CHARS)}"']
    ends += [f'ends "{one_line(rows[-1], _SIDE_CHARS)}"'] * (len(rows) > 1)
    known = f"{', '.join(facts)}; all of it can be read again: {', '.join(where)}"
    head = f"{_MARK}{known}; {', '.join(ends)}{_numbers(told)}]"
    return f"{head}\n{clip(text, shown, head_share=0.25).text}" if shown else head


def _numbers(told: Sequence[Told]) -> str:
    latest = {each.name: each.value for each in told}
    shown = [f"{name} = {value}" for name, value in list(latest.items())[-_MOST_NUMBERS:]]
    return f"; told {', '.join(shown)}" if shown else ""


def _shorter(text: str, shown: int) -> str:
    head, _, rest = text.partition("\n")
    return f"{head}\n{clip(rest, shown, head_share=0.25).text}" if shown and rest else head


def _pictures(images: tuple[Image, ...]) -> str:
    kept = ", ".join(f"blob:{each.sha} ({each.mime})" for each in images)
    return f"{len(images)} image{'' if len(images) == 1 else 's'} {kept}"
