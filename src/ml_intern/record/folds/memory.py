"""What of a lane outlives every compaction of its transcript: what was said and decided, numbers, and where the last
compaction stands. Knows no head and no prompt; numbers are taken from the events, never from a summary.
"""

import re
from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.text import one_line
from ml_intern.base.trail import Trail
from ml_intern.record.asides import ASIDES, COMPACTION, TITLE
from ml_intern.record.clearing import Cleared, CompactAsked, Compacted, Told
from ml_intern.record.display import (
    DiffDisplay,
    Display,
    ImageDisplay,
    LinkDisplay,
    LogDisplay,
    PlanDisplay,
    TableDisplay,
    TextDisplay,
)
from ml_intern.record.effects import Destroys, Publishes
from ml_intern.record.events import (
    Entry,
    Event,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Renamed,
    Role,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    Undone,
    UserSaid,
)
from ml_intern.record.folds.calls import Calls

MOST_NUMBERS = 200
MOST_DECISIONS = 60
_MOST_PARTS = 20
MOST_TRIES = 2
"""How often something is asked aside."""
_LEAST_WINDOW = 1_024
_MOST_CHARS = 300
_LIMITS = (
    re.compile(r"(?:>|<=) *(\d[\d,]{3,})"),  # Anthropic, TGI: what was sent > what there is
    re.compile(
        r"(?:context|window|length|maximum|limit|max_model_len|n_ctx|sequence)\D{0,60}?(\d[\d,]{3,})", re.IGNORECASE
    ),
)
_METRIC = re.compile(
    r"acc|loss|f1|auc|precision|recall|bleu|rouge|meteor|wer|cer|ppl|perplex|score|reward|error|mae|mse|rmse|r2|mcc|"
    r"exact|match|pass@|kappa|iou|map|ndcg|mrr|fid|epoch|step|seed|batch|lr|rate|param|sample|token|example|row|class|"
    r"second|time|memory|size|throughput|baseline|test|valid|eval|train|mean|std|best",
    re.IGNORECASE,
)


class Said(Struct, frozen=True):
    """A person's message and the entry that brought it."""

    entry: int
    text: str


class Decided(Struct, frozen=True):
    """What a person was asked, and the answer."""

    entry: int
    what: str
    approve: bool
    text: str


class Number(Struct, frozen=True):
    """The `last` value that was told under a name and where; all `count` of them lie between `least` and `most`.

    `parts`: what each of the latest entries told, so that an undo takes its own away and nothing counts twice.
    """

    last: str
    entry: int
    least: str
    most: str
    count: int = 1
    parts: tuple["Number", ...] = ()


class Missed(Struct, frozen=True):
    """A model that was asked for the prose of a summary and failed: which one, and what it said."""

    model: str
    what: str


class Memory(Struct, frozen=True):
    """`asked` is the last attempt of the lane's own, `windows` what models were found to hold, in tokens,
    `answered` the longest request of each that was answered.

    `overflows` counts requests in a row that were too long; `squeezed`: room was made since the last. `aside` is what
    an open attempt is asked aside, `asking` who is, `missed` who failed last at that, unless our process died. `prose`
    is what a model wrote for the summary to come, `tried` how often one was asked; `title` is what one wrote as the
    session's, `titled` how often one was asked, or all that may be where it has a name. `wanted`: a person asked for a
    compaction. `weighed` is what the transcript weighed after the last one, in bytes.
    """

    said: Trail[Said] = field(default_factory=Trail[Said])
    decided: tuple[Decided, ...] = ()
    numbers: Mapping[str, Number] = field(default_factory=dict[str, Number])
    asked: ModelAsked | None = None
    windows: Mapping[str, int] = field(default_factory=dict[str, int])
    answered: Mapping[str, int] = field(default_factory=dict[str, int])
    overflows: int = 0
    squeezed: bool = False
    aside: Role | None = None
    prose: str | None = None
    tried: int = 0
    title: str | None = None
    titled: int = 0
    asking: str = ""
    missed: Missed | None = None
    weighed: int = 0
    weighed_for: str = ""
    wanted: bool = False

    @property
    def asks_no_more(self) -> bool:
        """Whether a model has written its part of the summary, or failed to."""
        return self.prose is not None or self.tried >= MOST_TRIES


def fold_memory(memory: Memory, entry: Entry, calls: Calls, weight: int) -> Memory:
    """The memory after `entry`; `calls` are those that were open before it, `weight` is the transcript's after it."""
    match entry.event:
        case ToolFinished():
            return memory
        case ModelAsked() | ModelReplied():
            return _attempted(memory, entry.event)
        case UserSaid(text=text):
            return replace(memory, said=memory.said.plus(Said(entry.seq, text)))
        case ToolAnswered(call=call, approve=approve, text=text) if call in calls:
            held = calls[call].held
            what = _asked_for(held) if held is not None else calls[call].call.tool
            decided = (*memory.decided, Decided(entry.seq, what, approve, text))
            return replace(memory, decided=decided[-MOST_DECISIONS:])
        case Undone(upto=upto):
            said = Trail(each for each in memory.said if each.entry <= upto)
            numbers = _until(memory.numbers, upto)
            done = replace(memory, said=said, numbers=numbers, prose=None, tried=0, missed=None)
            return replace(done, overflows=0, wanted=False)
        case Cleared(numbers=numbers):
            return replace(memory, numbers=with_told(memory.numbers, numbers), squeezed=True)
        case Compacted(numbers=numbers):
            known = with_told(memory.numbers, numbers)
            done = replace(memory, squeezed=True, prose=None, tried=0, missed=None, wanted=False)
            asked = memory.asked.model if memory.asked is not None else ""
            return replace(done, numbers=known, weighed=weight, weighed_for=asked)
        case CompactAsked():
            return replace(memory, wanted=True)
        case TurnEnded():
            return replace(memory, overflows=0, prose=None, tried=0, missed=None)
        case event:
            return _attempted(memory, event)


def _attempted(memory: Memory, event: Event) -> Memory:
    match event:
        case ModelAsked(role=role, model=model) if role in ASIDES:
            asking = replace(memory, aside=role, asking=model, missed=None)
            return replace(asking, tried=memory.tried + (role == COMPACTION), titled=memory.titled + (role == TITLE))
        case ModelAsked() as asked:
            return replace(memory, asked=asked, aside=None)
        case ModelReplied(reply=reply) if memory.aside:
            done, in_time = replace(memory, aside=None), memory.titled <= MOST_TRIES
            if memory.aside == TITLE:
                return replace(done, title=reply.text if in_time else None)
            return replace(done, prose=reply.text)
        case ModelReplied(usage=usage):
            memory = replace(memory, overflows=0) if memory.overflows else memory
            return _answered(memory, memory.asked, usage.prompt) if usage is not None and memory.asked else memory
        case ModelFailed(kind=kind, what=what) if memory.aside and kind != "lost":
            return replace(memory, aside=None, missed=Missed(memory.asking, what))
        case ModelFailed() | ModelStopped() if memory.aside:
            return replace(memory, aside=None)
        case ModelFailed(kind="overflow", what=what) if memory.asked is not None:
            return _overflowed(memory, memory.asked, what)
        case Renamed():
            # More than all tries: what a model still writes comes too late.
            return replace(memory, title=None, titled=MOST_TRIES + 1)
        case _:
            return memory


def _answered(memory: Memory, asked: ModelAsked, tokens: int) -> Memory:
    """What was answered fits, whatever was said or found of the window."""
    if tokens <= memory.answered.get(asked.model, 0):
        return memory
    return replace(memory, answered={**memory.answered, asked.model: tokens})


def _overflowed(memory: Memory, asked: ModelAsked, what: str) -> Memory:
    """What the words name is the window; where they name none, it is less than was sent."""
    sent = (asked.expected or asked.bound) + asked.max_output
    # What was sent is a guess: words that name more than that correct it.
    told = told_window(what)
    window = told if told is not None else min(sent * 9 // 10, memory.windows.get(asked.model, sent))
    windows = {**memory.windows, asked.model: window}
    return replace(memory, windows=windows, overflows=memory.overflows + 1, squeezed=False)


def told_window(what: str) -> int | None:
    """The context window that a provider's words name, in tokens; None where they name none."""
    found = (int(each.replace(",", "")) for limit in _LIMITS for each in limit.findall(what))
    return next((each for each in found if each >= _LEAST_WINDOW), None)


def with_told(known: Mapping[str, Number], told: tuple[Told, ...]) -> Mapping[str, Number]:
    """The newest name last. Beyond the most, what measures nothing goes first, and of that the oldest.

    What an entry told is told at once: where it is known, lines that an undo brought back tell it again.
    """
    numbers = dict(known)
    for each in told:
        if each.name in known and any(part.entry == each.entry for part in known[each.name].parts):
            continue
        before = numbers.pop(each.name, None)
        numbers[each.name] = _merged(before, each)
    if (more := len(numbers) - MOST_NUMBERS) > 0:
        for name in sorted(numbers, key=measures)[:more]:
            del numbers[name]
    return numbers


def measures(name: str) -> bool:
    """Whether a number of this name says how good, large or fast something is."""
    return _METRIC.search(name) is not None


def _merged(before: Number | None, told: Told) -> Number:
    fresh = Number(told.value, told.entry, told.value, told.value)
    parts = before.parts if before is not None else ()
    # A clearing tells of large answers before the small ones among them are told of.
    at = sum(part.entry <= told.entry for part in parts)
    if at and parts[at - 1].entry == told.entry:
        parts = (*parts[: at - 1], _joined((parts[at - 1], fresh)), *parts[at:])
    else:
        parts = (*parts[:at], fresh, *parts[at:])
    if len(parts) > _MOST_PARTS:
        parts = (_joined(parts[:2]), *parts[2:])
    return replace(_joined(parts), parts=parts)


def _joined(parts: tuple[Number, ...]) -> Number:
    least = min((part.least for part in parts), key=value_of)
    most = max((part.most for part in parts), key=value_of)
    return Number(parts[-1].last, parts[-1].entry, least, most, sum(part.count for part in parts))


def _until(numbers: Mapping[str, Number], upto: int) -> Mapping[str, Number]:
    """What entries up to this one told."""
    left = {name: tuple(part for part in each.parts if part.entry <= upto) for name, each in numbers.items()}
    return {name: replace(_joined(parts), parts=parts) for name, parts in left.items() if parts}


def value_of(text: str) -> float:
    """The number that a value as it was printed means."""
    return float(text.rstrip("%").replace(",", ""))


def _asked_for(held: ToolHeld) -> str:
    """What was shown, and what it would publish or delete where that is not said there: an answer was meant for it."""
    what = _what(held.display)
    about = [_target(each) for each in held.effects if isinstance(each, Publishes | Destroys)]
    told = [each for each in about if each not in what]
    return f"{one_line(what, _MOST_CHARS // 2)} ({one_line(', '.join(told), _MOST_CHARS)})" if told else what


def _target(effect: Publishes | Destroys) -> str:
    return f"{effect.target}, public" if isinstance(effect, Publishes) and effect.public else effect.target


def _what(display: Display) -> str:
    match display:
        case TextDisplay(title=title, text=text):
            return one_line(f"{title}: {text}" if text else title, _MOST_CHARS)
        case PlanDisplay():
            return "the plan"
        case DiffDisplay(path=path):
            return f"the change of {path}"
        case LinkDisplay(title=title, url=url):
            return one_line(f"{title} {url}", _MOST_CHARS)
        case LogDisplay(title=title) | TableDisplay(title=title) | ImageDisplay(title=title):
            return one_line(title, _MOST_CHARS)
        case _ as never:
            assert_never(never)
