"""What a session comes to, without what differs between any two runs (ids, times, places), and what must hold of it."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ml_intern.record.events import Entry, ModelAsked, ToolFinished, ToolStarted
from ml_intern.record.log import replay
from ml_intern.record.messages import Answered, Asked, Reply, Text
from ml_intern.record.view import MAIN, View, fold
from tests.doubles.ledger import Exchange

INTERRUPTED = re.compile(r"^(?P<path>\S+) was written as asked; the process was interrupted just after\.$")
"""The answer to a change that was found done. The file and the outcome are the same; the model is told the truth."""

_FRAME = re.compile(r"\bdata [0-9a-f]{12}\b")
_WITNESS = "witness"


class World(Protocol):
    """One session and what it worked with: a yard, or whatever else can be asked the same."""

    @property
    def work(self) -> Path: ...
    @property
    def data(self) -> Path: ...
    def session(self) -> str: ...
    def entries(self) -> list[Entry]: ...
    def asked(self) -> list[Exchange]: ...
    def owed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class State:
    """What must be equal. `answers` are by the call's name on the wire."""

    disk: dict[str, str]
    said: list[str]
    answers: dict[str, tuple[bool, str]]
    plan: list[str]
    changed: dict[str, str | None]
    known: dict[str, tuple[str, list[str]]]
    ending: str


def state_of(yard: World) -> State:
    """Where the session stands now."""
    view = replay(yard.entries())

    def plain(text: str) -> str:
        text = text.replace(str(yard.work), "WORK").replace(str(yard.data), "DATA").replace(yard.session(), "SESSION")
        return _FRAME.sub("data MARK", text)

    lines = [line.message for line in view.lane(MAIN).transcript.lines]
    ended = view.lane(MAIN).turn.ended
    return State(
        disk=_disk(yard.work),
        said=[plain(words) for message in lines for words in _said(message)],
        answers={each.wire_id: (each.ok, plain(each.text)) for each in lines if isinstance(each, Answered)},
        plan=[f"{item.id} {item.content} {item.status}" for item in view.plan.items],
        changed={plain(path): sha for path, sha in sorted(view.files.changed.items()) if not path.endswith(_WITNESS)},
        known={
            plain(path): (fact.sha, sorted(fact.seen_by))
            for path, fact in sorted(view.files.known.items())
            if not path.endswith(_WITNESS)
        },
        ending=ended.reason if ended is not None else "open",
    )


def _said(message: Asked | Reply | Answered) -> list[str]:
    match message:
        case Asked(text=text):
            return [f"asked: {text}"]
        case Reply():
            words = [part.text for part in message.parts if isinstance(part, Text)]
            return [*words, *(f"{call.wire_id} {call.tool} {call.arguments}" for call in message.calls)]
        case Answered(wire_id=wire_id):
            return [f"answer to {wire_id}"]


def _disk(folder: Path) -> dict[str, str]:
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items() if name != _WITNESS}


def check_same(found: State, expected: State, open_at_kill: Sequence[str]) -> None:
    """The killed session came to the same as one that was left alone.

    A change that was open at a kill may be answered with "written as asked" in place of its diff.
    """
    for name, answer in expected.answers.items():
        mine = found.answers.get(name)
        interrupted = mine is not None and mine[0] and INTERRUPTED.match(mine[1])
        if interrupted and name in open_at_kill:
            assert answer[0], f"{name} failed when nobody was killed"
        else:
            assert mine == answer, f"answer to {name}"
    assert found.answers.keys() == expected.answers.keys()
    assert found.said == expected.said
    assert found.disk == expected.disk
    assert found.plan == expected.plan
    assert found.changed == expected.changed
    assert found.known == expected.known
    assert found.ending == expected.ending


def check_purse(yard: World, learned: int = 0) -> None:
    """At every moment of the record spent and reserved are within the cap, and the provider's bill within the spent.

    `learned`: requests that a wire sent once more within their attempt, since a refusal named what to leave out.
    """
    view = View()
    for entry in yard.entries():
        view = fold(view, entry)
        assert view.purse.cap is None or view.purse.committed <= view.purse.cap, f"entry {entry.seq}"
    assert not view.purse.reserved
    assert yard.owed() <= view.purse.spent
    assert len(yard.asked()) <= attempts(yard) + learned, "a request that the record does not know"


def check_once(entries: Sequence[Entry]) -> None:
    """Every call was started at most once and answered exactly once."""
    started = Counter(entry.event.call for entry in entries if isinstance(entry.event, ToolStarted))
    finished = Counter(entry.event.call for entry in entries if isinstance(entry.event, ToolFinished))
    assert not [call for call, times in started.items() if times > 1]
    assert not [call for call, times in finished.items() if times > 1]
    assert started.keys() <= finished.keys()


def attempts(yard: World) -> int:
    return sum(isinstance(entry.event, ModelAsked) for entry in yard.entries())


def open_calls(yard: World) -> list[str]:
    """The names on the wire of the calls that are started and not finished now."""
    lane = replay(yard.entries()).lane(MAIN)
    return [each.call.wire_id for each in lane.calls.values() if each.state == "started"]
