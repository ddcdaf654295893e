"""The summary that stands for a compacted transcript: rendered from the folds, a model's prose only joins it.

Pure. Knows no model and no window: it is given how long it may be.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.text import clip, one_line, plain, visible, visible_line
from ml_intern.record.clearing import Told
from ml_intern.record.folds.files import Files
from ml_intern.record.folds.memory import Decided, Memory, Number, Said, with_told
from ml_intern.record.folds.plan import Plan
from ml_intern.record.view import MAIN, View

_BOXES = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}
_WHOLE_CHARS = 2_000
_PIECE_CHARS = 400
_LINE_CHARS = 300
_SHA_CHARS = 12
_LEAST_PROSE_CHARS = 12


class Section(Struct, frozen=True):
    """One part: its title, its lines, and the share of the whole that it may take. `newest_last`: of too many lines the
    oldest go.
    """

    title: str
    lines: Sequence[str]
    share: float
    newest_last: bool = True


class Style(Struct, frozen=True):
    """About how many characters a summary may have, what a model wrote for it, and the numbers that were `told` in what
    goes with this very compaction: no fold knows them yet.
    """

    limit: int
    prose: str = ""
    told: tuple[Told, ...] = ()


def render(view: View, lane: str, upto: int, running: Iterable[str], style: Style) -> str:
    """The summary of entries up to `upto` of the lane; `running` are lines about commands that run.

    A fifth of its length is for the prose at the most. What a part does not need of its share others have.
    """
    memory, limit = view.lane(lane).memory, style.limit
    memory = replace(memory, numbers=with_told(memory.numbers, style.told))
    head = (
        f"[Summary of this conversation up to entry {upto}: it had grown too long. The entries are still in the record "
        "and can be searched and read there by their numbers. Files you read before must be read again before you "
        "change them.]"
    )
    prose = _prose(style.prose, limit // 5)
    sections = [each for each in _sections(view, lane, memory, running) if each.lines]
    rooms = _rooms(sections, limit - len(head) - len(prose))
    parts = [head, *(_text(each, room) for each, room in zip(sections, rooms, strict=True))]
    tail = "[End of the summary. Go on with the work from here.]"
    return "\n\n".join([*parts, *([prose] if prose else []), tail])


def _sections(view: View, lane: str, memory: Memory, running: Iterable[str]) -> list[Section]:
    plan = view.plan if lane == MAIN else Plan()
    plan_lines = [f"{_BOXES[item.status]} {_line(item.content)}" for item in plan.items]
    return [
        Section("What the user said", _said(list(memory.said)), 0.3),
        Section("What the user decided", [_decided(each) for each in memory.decided], 0.1),
        Section("The plan", plan_lines, 0.15, newest_last=False),
        Section("Files that this session changed", _files(view.files), 0.15),
        Section("Commands that run in the background", list(map(_line, running)), 0.1),
        Section("Numbers that commands printed", [_number(*each) for each in memory.numbers.items()], 0.25),
    ]


def _rooms(sections: Sequence[Section], limit: int) -> list[int]:
    """Characters for each: its share or what it needs; then those that need more have what is left, in turn."""
    needs = [sum(len(line) + 1 for line in each.lines) for each in sections]
    rooms = [min(need, int(limit * each.share)) for need, each in zip(needs, sections, strict=True)]
    left = limit - sum(rooms)
    for index, need in enumerate(needs):
        more = max(0, min(left, need - rooms[index]))
        rooms[index] += more
        left -= more
    return rooms


def _text(section: Section, room: int) -> str:
    """The section within its room; what is left out is said."""
    kept: list[str] = []
    for line in reversed(section.lines) if section.newest_last else section.lines:
        if room < len(line) and kept:
            break
        kept.append(line)
        room -= len(line) + 1
    left = len(section.lines) - len(kept)
    more = [f"({left} more are in the record)"] if left else []
    lines = [*more, *reversed(kept)] if section.newest_last else [*kept, *more]
    return "\n".join([f"## {section.title}", *lines])


def _said(said: list[Said]) -> list[str]:
    """The first message and the last whole, as far as they are not long; those between in short."""
    ends = {0, len(said) - 1}
    return [_message(each, _WHOLE_CHARS if at in ends else _PIECE_CHARS) for at, each in enumerate(said)]


def _message(said: Said, limit: int) -> str:
    return f"#{said.entry}: {clip(visible(said.text), limit, note=f'all of it is entry {said.entry}').text}"


def _decided(each: Decided) -> str:
    """Both in short by themselves: a long question must not take its answer away."""
    word = "yes" if each.approve else "no"
    return f"#{each.entry}: {_line(each.what)}: {_line(f'{word}: {each.text}' if each.text.strip() else word)}"


def _files(files: Files) -> list[str]:
    return [_line(f"{path}: {_sha(sha)}") for path, sha in files.changed.items()]


def _sha(sha: str | None) -> str:
    if sha is None:
        return "removed"
    return "changed by a command" if sha == "?" else f"sha256 {sha[:_SHA_CHARS]}"


def _number(name: str, number: Number) -> str:
    spread = f"; {number.count} values, {number.least} to {number.most}" if number.count > 1 else ""
    return _line(f"{name} = {number.last} (entry {number.entry}{spread})")


def _prose(text: str, limit: int) -> str:
    """What a model wrote, each line marked, so that it can pass for none of the other parts."""
    said = visible(plain(text)).strip()
    if len(said) < _LEAST_PROSE_CHARS:
        return ""
    rows = [f"> {row}" for row in clip(said, limit, head_share=0.6).text.splitlines() if row.strip()]
    return "\n".join(["## In a model's words (where it differs from the parts above, those hold)", *rows])


def _line(text: str) -> str:
    return one_line(visible_line(text), _LINE_CHARS)
