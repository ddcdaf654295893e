"""What one lane's model sees, as messages in order. Knows no provider and no prompt.

A message that arrives while a reply's calls are open waits until all are answered:
providers refuse anything between a call
and its answer. Answers stand in the order of the calls, whichever finished first, so that a request's prefix is stable.
"""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.trail import Trail
from ml_intern.record.asides import ASIDES
from ml_intern.record.clearing import Cleared, Compacted
from ml_intern.record.events import (
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
from ml_intern.record.folds.lines import Line
from ml_intern.record.folds.references import referred, shortened
from ml_intern.record.frame import framed
from ml_intern.record.messages import Answered, Asked, Call, Reply, Text
from ml_intern.record.weights import weight_of

LARGE_BYTES = 2_000
"""A reference is not worth its place for less."""


class Counted(Struct, frozen=True):
    """The provider's own count: a request of this `head` with the first `lines` lines held `tokens` prompt tokens of
    `model`: another one counts otherwise. `weight` is that of those lines, in bytes.
    """

    head: str
    lines: int
    tokens: int
    model: str = ""
    weight: int = 0


class Replaced(Struct, frozen=True):
    """The `lines` that the compaction with this number took away: an undo beyond it brings them back, large answers as
    references and large replies in short, so that a long session stays small. `summary`: see `Transcript`.
    """

    seq: int
    lines: Trail[Line]
    summary: int = 0


class Transcript(Struct, frozen=True):
    """`lines` the model sees; `waiting` joins them when nothing is open; `later` when the turn has ended.

    `calls` are those of the last reply until all have an answer. `version` changes whenever lines were taken away or
    replaced (undo, clearing, compaction), never on appending. `asked` is the open attempt, its tokens not yet known;
    `aside`: it is no part of this conversation. `weight` is that of all lines, in bytes; `measured` is the last count
    that a provider gave, of whichever lines. `summary` is the number of the line that stands for all before (0: none
    does), `since` where something began that an undo may take away.
    """

    lines: Trail[Line] = field(default_factory=Trail[Line])
    waiting: tuple[Line, ...] = ()
    later: tuple[Line, ...] = ()
    calls: tuple[Call, ...] = ()
    answers: Mapping[str, Line] = field(default_factory=dict[str, Line])
    asking: bool = False
    resting: bool = True
    version: int = 0
    aside: bool = False
    asked: Counted | None = None
    counted: Counted | None = None
    measured: Counted | None = None
    weight: int = 0
    replaced: tuple[Replaced, ...] = ()
    summary: int = 0
    since: int = 0


def fold_transcript(transcript: Transcript, entry: Entry) -> Transcript:
    """The transcript after `entry`."""
    after = _folded(transcript, entry)
    if after.lines is transcript.lines:
        return after
    grows = after.version == transcript.version
    fresh = after.lines.since(len(transcript.lines) if grows else 0)
    return replace(after, weight=(transcript.weight if grows else 0) + sum([weight_of(line.message) for line in fresh]))


def _folded(transcript: Transcript, entry: Entry) -> Transcript:
    seq, event = entry.seq, entry.event
    match event:
        case ToolFinished():
            return _answered(transcript, seq, event)
        case ModelAsked(role=role) if role in ASIDES:
            return replace(transcript, asking=True, aside=True)
        case ModelAsked(head=head, model=model):
            asked = Counted(head, len(transcript.lines), 0, model, transcript.weight)
            return replace(transcript, asking=True, aside=False, asked=asked)
        case ModelReplied() if not transcript.aside:
            return _replied(transcript, seq, event)
        case ModelStopped(text=text) if text and not transcript.aside:
            lines = transcript.lines.plus(Line(seq, Reply((Text(text),))))
            return _settled(replace(transcript, lines=lines, asking=False), seq)
        case ModelReplied() | ModelFailed() | ModelStopped():
            return _settled(replace(transcript, asking=False, aside=False), seq)
        case Compacted() | Cleared() | Undone():
            return _changed(transcript, seq, event)
        case _:
            return _said(transcript, seq, event)


def _changed(transcript: Transcript, seq: int, event: Compacted | Cleared | Undone) -> Transcript:
    """Lines were taken away or replaced: what a provider counted holds no longer."""
    match event:
        case Compacted(upto=upto, summary=summary):
            # The summary before this one has a greater number than lines that it had kept: it always goes.
            kept = [line for line in transcript.lines if line.seq > upto and line.seq != transcript.summary]
            done = _with_replaced(transcript, seq)
            lines = Trail([Line(seq, Asked(summary, by="product")), *kept])
            return replace(done, lines=lines, counted=None, version=transcript.version + 1, summary=seq)
        case Cleared(entries=entries, shown=shown, numbers=numbers):
            told = {entry: [each for each in numbers if each.entry == entry] for entry in entries}
            lines = Trail(
                referred(line, shown, told[line.entry]) if line.entry in told else line for line in transcript.lines
            )
            return replace(transcript, lines=lines, counted=None, version=transcript.version + 1)
        case Undone(upto=upto):
            return _undone(transcript, upto, seq)


def _with_replaced(transcript: Transcript, seq: int) -> Transcript:
    """An undo takes whole turns away: of a turn's compactions it asks for the first alone."""
    if transcript.replaced and transcript.replaced[-1].seq >= transcript.since:
        return transcript
    lines = Trail(_small(line) for line in transcript.lines)
    return replace(transcript, replaced=(*transcript.replaced, Replaced(seq, lines, transcript.summary)))


def _small(line: Line) -> Line:
    if isinstance(line.message, Reply):
        return replace(line, message=shortened(line.message)) if weight_of(line.message) > LARGE_BYTES else line
    return referred(line, 0) if is_large(line) else line


def is_large(line: Line) -> bool:
    """Whether a reference in its place would make room."""
    match line.message:
        case Answered(images=images):
            return bool(images) or weight_of(line.message) > LARGE_BYTES
        case Asked(images=images):
            return bool(images)
        case Reply():
            return False


def _undone(transcript: Transcript, upto: int, seq: int) -> Transcript:
    """What stood up to `upto`, also what a compaction after it replaced."""
    beyond = [each for each in transcript.replaced if each.seq > upto]
    lines = beyond[0].lines if beyond else transcript.lines
    summary = beyond[0].summary if beyond else transcript.summary
    still = transcript.replaced[: len(transcript.replaced) - len(beyond)]
    kept = [line for line in lines if line.seq <= upto]
    if kept and isinstance(last := kept[-1].message, Reply) and last.calls:
        kept.pop()  # its answers came later and are hidden: providers refuse calls without them
    version = transcript.version + 1
    undone = Transcript(lines=Trail(kept), version=version, replaced=still, measured=transcript.measured)
    return replace(undone, summary=summary, since=seq)


def _said(transcript: Transcript, seq: int, event: Event) -> Transcript:
    if isinstance(event, UserSaid | TurnEnded):
        transcript = replace(transcript, since=seq)
    match event:
        case UserSaid(text=text, images=images, when="after") if not transcript.resting:
            return replace(transcript, later=(*transcript.later, Line(seq, Asked(text, images), seq)))
        case UserSaid(text=text, images=images):
            waiting = (*transcript.waiting, Line(seq, Asked(text, images), seq))
            return _settled(replace(transcript, waiting=waiting, resting=False), seq)
        case Nudged(text=text):
            return _settled(
                replace(transcript, waiting=(*transcript.waiting, Line(seq, Asked(text, by="product")))), seq
            )
        case TurnEnded(waiting=put_off) if put_off:
            return replace(transcript, resting=True)
        case TurnEnded():
            waiting = (*transcript.waiting, *transcript.later)
            return _settled(replace(transcript, waiting=waiting, later=(), resting=not transcript.later), seq)
        case _:
            return transcript


def _replied(transcript: Transcript, seq: int, event: ModelReplied) -> Transcript:
    if event.usage is not None and transcript.asked is not None:
        counted = replace(transcript.asked, tokens=event.usage.prompt)
        transcript = replace(transcript, counted=counted, measured=counted)
    lines = transcript.lines.plus(Line(seq, event.reply))
    calls = event.reply.calls
    return _settled(replace(transcript, lines=lines, calls=calls, answers={}, asking=False), seq)


def _settled(transcript: Transcript, seq: int) -> Transcript:
    """Let what waits join, once no attempt and no call is open. Lines stand in the order of their numbers."""
    if transcript.asking or transcript.calls or not transcript.waiting:
        return transcript
    joining = (replace(line, seq=seq) for line in transcript.waiting)
    return replace(transcript, lines=transcript.lines.plus(*joining), waiting=())


def _text(event: ToolFinished) -> str:
    return framed(event.text, event.frame, event.own_lines)


def _answered(transcript: Transcript, seq: int, event: ToolFinished) -> Transcript:
    call = next((call for call in transcript.calls if call.id == event.call), None)
    if call is None:
        return transcript
    answer = Answered(call.id, call.wire_id, call.tool, _text(event), event.outcome == "ok", event.images)
    answers = {**transcript.answers, call.id: Line(seq, answer, seq, event.blob)}
    if len(answers) < len(transcript.calls):
        return replace(transcript, answers=answers)
    lines = transcript.lines.plus(*(replace(answers[each.id], seq=seq) for each in transcript.calls))
    return _settled(replace(transcript, lines=lines, calls=(), answers={}), seq)
