"""One session recorded by each released version, with the view that folds must give it for ever.

To add one at a release: record a session that uses what is new, without names of this machine, as
`tests/golden/session-VERSION.jsonl`; `python tests/record/test_golden.py VERSION` writes `view-VERSION.json`. Read it.
"""

import json
import sys
from pathlib import Path

import pytest

from ml_intern import __version__
from ml_intern.record.codec import decode, encode
from ml_intern.record.copies import Copy, forked, last_rest
from ml_intern.record.log import replay
from ml_intern.record.messages import Answered, Asked, Reply
from ml_intern.record.next import next_step
from ml_intern.record.view import MAIN, View
from ml_intern.store.sessions import Summary, summarise

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = sorted(path.stem.removeprefix("session-") for path in GOLDEN.glob("session-*.jsonl"))


def lines_of(version):
    return (GOLDEN / f"session-{version}.jsonl").read_bytes().splitlines()


def told(message):
    match message:
        case Asked(by=by, text=text):
            return [by, text]
        case Reply(text=text, calls=calls):
            return ["model", text, *([each.tool, each.arguments] for each in calls)]
        case Answered(tool=tool, ok=ok, text=text):
            return [tool, ok, text[:200]]


def of_view(view: View):
    """What a person or a model sees of it, in plain JSON."""
    lane, settings, started = view.lane(MAIN), view.settings, view.started
    assert started is not None
    assert settings.mode is not None
    assert lane.turn.ended is not None
    return {
        "seq": view.seq,
        "session": started.session,
        "workspace": started.workspace,
        "title": settings.title,
        "models": {role: chosen.model for role, chosen in settings.models.items()},
        "mode": [settings.mode.mode, settings.mode.on_ask],
        "limits": [settings.limits.max_steps, settings.limits.max_time_s],
        "purse": [view.purse.cap, view.purse.spent, dict(view.purse.reserved)],
        "plan": [[item.content, item.status] for item in view.plan.items],
        "changed": dict(view.files.changed),
        "read": {path: fact.sha for path, fact in view.files.known.items()},
        "transcript": [told(line.message) for line in lane.transcript.lines],
        "open": [sorted(lane.calls), lane.turn.open, lane.turn.ended.reason],
        "turns": list(lane.turns),
        "commands": sorted(view.commands),
        "next": type(next_step(view, MAIN, 2**50)).__name__,
    }


def of_list(entries):
    summary = Summary(entries[0].event.session)
    for entry in entries:
        summary = summarise(summary, entry)
    names = ("id", "created", "updated", "title", "workspace", "model", "preview", "spent", "state")
    return {name: getattr(summary, name) for name in names}


def shown(version):
    entries = [decode(line) for line in lines_of(version)]
    return {"view": of_view(replay(entries)), "list": of_list(entries)}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_every_version_folds_to_what_it_was(version):
    assert shown(version) == json.loads((GOLDEN / f"view-{version}.json").read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_every_version_can_be_written_again_and_forked(version):
    entries = [decode(line) for line in lines_of(version)]
    assert [decode(encode(entry)) for entry in entries] == entries
    point = last_rest(entries, len(entries))
    assert replay(forked(entries, Copy("01new", 1), point, 5)).purse.cap == 5


def test_this_version_has_its_golden_session():
    assert __version__ in VERSIONS, "a release without a recorded session cannot promise to read it"


if __name__ == "__main__":
    place = GOLDEN / f"view-{sys.argv[1]}.json"
    place.write_text(json.dumps(shown(sys.argv[1]), indent=1, ensure_ascii=False) + "\n")
