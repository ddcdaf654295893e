"""What a server would not take is known to the next session, for a while, and told once."""

import json
import os
import time
from pathlib import Path

from ml_intern.model.learned import DAY_S, HOUR_S, LOOPBACK_S, REMOTE_S, Learned, Lesson

NO_TOOLS = Learned(tools=False)


def lesson(
    file: Path, model: str = "ollama/tiny", url: str = "http://127.0.0.1:1/v1", lasts_s: float = REMOTE_S
) -> Lesson:
    made = Lesson(file, model, url, lasts_s=lasts_s)
    made.load()
    return made


def test_what_one_session_learned_the_next_one_knows_and_does_not_tell_again(tmp_path: Path):
    first = lesson(tmp_path / "cache" / "learned.json")
    assert (first.learned, first.told()) == (Learned(), [])
    first.learned = Learned(tools=False, marks=False, most_output=640)
    where = "learned: ollama/tiny at http://127.0.0.1:1/v1"
    assert first.told() == [
        f"{where} takes no tools, so they are put into words (kept for 7 days)",
        f"{where} takes no cache marks, so none are sent (kept for 7 days)",
        f"{where} gives at most 640 tokens a reply (kept for 7 days)",
    ]
    first.save()
    second = lesson(tmp_path / "cache" / "learned.json")
    assert (second.learned, second.told()) == (first.learned, [])


def test_it_belongs_to_one_model_at_one_address(tmp_path: Path):
    file = tmp_path / "learned.json"
    for model, url in (("ollama/tiny", "http://127.0.0.1:1/v1"), ("ollama/tiny", "http://127.0.0.1:2/v1")):
        known = lesson(file, model, url)
        assert known.learned == Learned()
        known.learned = NO_TOOLS
        known.save()
    assert lesson(file, "ollama/other").learned == Learned()
    assert lesson(file).learned == lesson(file, url="http://127.0.0.1:2/v1").learned == NO_TOOLS


def test_it_is_forgotten_when_it_is_old_sooner_for_a_server_of_this_machine(tmp_path: Path):
    file = tmp_path / "learned.json"
    known = lesson(file, lasts_s=LOOPBACK_S)
    known.learned = NO_TOOLS
    assert known.told()[0].endswith("(kept for 1 h)")
    known.save()
    for ago_s, hourly, weekly in ((0.9 * HOUR_S, NO_TOOLS, NO_TOOLS), (1.1 * HOUR_S, Learned(), NO_TOOLS)):
        aged(file, ago_s)
        assert lesson(file, lasts_s=LOOPBACK_S).learned == hourly
        assert lesson(file).learned == weekly
    aged(file, 8 * DAY_S)
    assert lesson(file).learned == Learned()
    aged(file, -DAY_S)
    assert lesson(file).learned == Learned()  # a clock that was set back


def aged(file: Path, ago_s: float) -> None:
    kept = {key: {**each, "at": time.time() - ago_s} for key, each in json.loads(file.read_bytes()).items()}
    file.write_text(json.dumps(kept))


def test_a_cache_that_is_damaged_or_cannot_be_written_is_none(tmp_path: Path):
    for text in ("", "{", "[]", '{"a": 3}'):
        (tmp_path / "learned.json").write_text(text)
        known = lesson(tmp_path / "learned.json")
        assert known.learned == Learned()
        known.learned = NO_TOOLS
        known.save()
        assert lesson(tmp_path / "learned.json").learned == NO_TOOLS
    (tmp_path / "file").touch()
    nowhere = lesson(tmp_path / "file" / "learned.json")
    nowhere.learned = NO_TOOLS
    nowhere.save()
    assert sorted(os.listdir(tmp_path)) == ["file", "learned.json"]


def test_without_a_file_it_holds_for_the_session():
    alone = Lesson()
    alone.load()
    alone.learned = NO_TOOLS
    alone.save()
    assert alone.told()
