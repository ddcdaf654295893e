"""What one lane's model sees, as messages in order. Knows no provider and no prompt.

A message that arrives while a reply's calls are open waits until all are answered:
providers refuse anything between a call
and its answer. Answers stand in the order of the calls, whichever finished first, so that a request's prefix is stable.
"""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.trail import Trail
from ml_intern.record.events import (
    Compacted,
    Entry,
    Event,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Nudged,
    ToolFinished,
    TurnEnded,
    Undone,
    UserSaid,
)
from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, Text


class Line(Struct, frozen=True):
    """One message and the sequence number of the event with which it joined the transcript."""

    seq: int
    message: Message


class Counted(Struct, frozen=True):
    """The provider's own count: a request of this `head` with the first `lines` lines held `tokens` prompt tokens."""

    head: str
    lines: int
    tokens: int


class Replaced(Struct, frozen=True):
    """The `lines` that the compaction with this number took away: an undo beyond it brings them back."""

    seq: int
    lines: Trail[Line]


class Transcript(Struct, frozen=True):
    """`lines` the model sees; `waiting` joins them when nothing is open; `later` when the turn has ended.

    `calls` are those of the last reply until all have an answer. `version` changes whenever lines were taken away or
    replaced (undo, compaction), never on appending. `asked` is the open attempt, its tokens not yet known.
    """

    lines: Trail[Line] = field(default_factory=Trail[Line])
    waiting: tuple[Line, ...] = ()
    later: tuple[Line, ...] = ()
    calls: tuple[Call, ...] = ()
    answers: Mapping[str, Line] = field(default_factory=dict[str, Line])
    asking: bool = False
    resting: bool = True
    version: int = 0
    asked: Counted | None = None
    counted: Counted | None = None
    replaced: tuple[Replaced, ...] = ()


def fold_transcript(transcript: Transcript, entry: Entry) -> Transcript:
    """The transcript after `entry`."""
    seq, event = entry.seq, entry.event
    match event:
        case ModelAsked(head=head):
            return replace(transcript, asking=True, asked=Counted(head, len(transcript.lines), 0))
        case ModelReplied():
            return _replied(transcript, seq, event)
        case ModelFailed():
            return _settled(replace(transcript, asking=False), seq)
        case ModelStopped(text=text):
            lines = transcript.lines.plus(Line(seq, Reply((Text(text),)))) if text else transcript.lines
            return _settled(replace(transcript, lines=lines, asking=False), seq)
        case ToolFinished():
            return _answered(transcript, seq, event)
        case Compacted(upto=upto, summary=summary):
            kept = [line for line in transcript.lines if line.seq > upto]
            lines = Trail([Line(seq, Asked(summary, by="product")), *kept])
            replaced = (*transcript.replaced, Replaced(seq, transcript.lines))
            return replace(transcript, lines=lines, counted=None, version=transcript.version + 1, replaced=replaced)
        case Undone(upto=upto):
            return _undone(transcript, upto)
        case _:
            return _said(transcript, seq, event)


def _undone(transcript: Transcript, upto: int) -> Transcript:
    """What stood up to `upto`, also what a compaction after it replaced."""
    beyond = [each for each in transcript.replaced if each.seq > upto]
    lines = beyond[0].lines if beyond else transcript.lines
    still = transcript.replaced[: len(transcript.replaced) - len(beyond)]
    kept = [line for line in lines if line.seq <= upto]
    if kept and isinstance(last := kept[-1].message, Reply) and last.calls:
        kept.pop()  # its answers came later and are hidden: providers refuse calls without them
    return Transcript(lines=Trail(kept), version=transcript.version + 1, replaced=still)


def _said(transcript: Transcript, seq: int, event: Event) -> Transcript:
    match event:
        case UserSaid(text=text, images=images, when="after") if not transcript.resting:
            return replace(transcript, later=(*transcript.later, Line(seq, Asked(text, images))))
        case UserSaid(text=text, images=images):
            waiting = (*transcript.waiting, Line(seq, Asked(text, images)))
            return _settled(replace(transcript, waiting=waiting, resting=False), seq)
        case Nudged(text=text):
            return _settled(
                replace(transcript, waiting=(*transcript.waiting, Line(seq, Asked(text, by="product")))), seq
            )
        case TurnEnded():
            waiting = (*transcript.waiting, *transcript.later)
            return _settled(replace(transcript, waiting=waiting, later=(), resting=not transcript.later), seq)
        case _:
            return transcript


def _replied(transcript: Transcript, seq: int, event: ModelReplied) -> Transcript:
    counted = transcript.counted
    if event.usage is not None and transcript.asked is not None:
        counted = replace(transcript.asked, tokens=event.usage.prompt)
    lines = transcript.lines.plus(Line(seq, event.reply))
    calls = event.reply.calls
    return _settled(replace(transcript, lines=lines, calls=calls, answers={}, asking=False, counted=counted), seq)


def _settled(transcript: Transcript, seq: int) -> Transcript:
    """Let what waits join, once no attempt and no call is open. Lines stand in the order of their numbers."""
    if transcript.asking or transcript.calls or not transcript.waiting:
        return transcript
    joining = (Line(seq, line.message) for line in transcript.waiting)
    return replace(transcript, lines=transcript.lines.plus(*joining), waiting=())


def _answered(transcript: Transcript, seq: int, event: ToolFinished) -> Transcript:
    call = next((call for call in transcript.calls if call.id == event.call), None)
    if call is None:
        return transcript
    answer = Answered(call.id, call.wire_id, call.tool, event.text, event.outcome == "ok", event.images)
    answers = {**transcript.answers, call.id: Line(seq, answer)}
    if len(answers) < len(transcript.calls):
        return replace(transcript, answers=answers)
    lines = transcript.lines.plus(*(Line(seq, answers[each.id].message) for each in transcript.calls))
    return _settled(replace(transcript, lines=lines, calls=(), answers={}), seq)
