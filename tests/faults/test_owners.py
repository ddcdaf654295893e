"""One session has one owner: others are told who, a dead one is no obstacle, a stale one writes nothing."""

import signal
import time

import pytest

from ml_intern.record.events import OwnerTook, ToolFinished, TurnEnded, UserSaid
from tests.faults.state import check_once, check_purse
from tests.faults.walk import call
from tests.faults.yard import KILLED, Yard, eventually, yard

pytestmark = pytest.mark.timeout(120)

PROCESSES = 10
_WAITING = "echo {name} 1 >> witness; while [ ! -e go ]; do sleep 0.05; done; echo went"


def waits(name: str) -> dict[str, object]:
    """A call that runs until somebody makes the file `go`."""
    return call("bash", command=_WAITING.format(name=name))


def rules() -> list[dict[str, object]]:
    return [
        {"when": {"step": 0}, "reply": {"calls": [waits("CALL-0")]}},
        {"when": {"step": 1}, "reply": {"text": "It said: {{answer:-1}}"}},
        {"when": {"step": 2}, "reply": {"text": "Once more."}},
    ]


def owners(made: Yard) -> list[OwnerTook]:
    return [entry.event for entry in made.entries() if isinstance(entry.event, OwnerTook)]


def test_of_ten_processes_one_drives_the_session_and_nine_say_who_does(tmp_path):
    with yard(tmp_path / "yard", rules()) as made:
        first = made.first()
        eventually(lambda: made.witnessed() == ["CALL-0"], "the first command runs")
        first.send(signal.SIGKILL)
        assert first.wait().code == KILLED
        runs = [made.go_on() for _ in range(PROCESSES)]
        eventually(lambda: sum(run.process.poll() is not None for run in runs) >= PROCESSES - 1, "nine give up")
        [driver] = [run for run in runs if run.process.poll() is None]
        (made.work / "go").touch()
        assert driver.wait().out == "It said: went\n"
        _, owner = owners(made)
        assert owner.pid == driver.pid
        for run in runs:
            ended = run.wait()
            assert ended.code == (0 if run is driver else 2)
            if run is not driver:
                assert (
                    f"is open in another process: process {owner.pid} (headless) on {owner.host}, since 2" in ended.err
                )
                assert "--take-over" in ended.err
                assert len(ended.err.splitlines()) == 2
        assert made.witnessed() == ["CALL-0"]
        check_once(made.entries())
        check_purse(made)


def test_ten_messages_at_once_are_said_once_each_by_whoever_gets_the_session(tmp_path):
    script = [{"when": {"step_from": 0}, "reply": {"text": "Yes."}}]
    with yard(tmp_path / "yard", script) as made:
        assert made.first().wait().code == 0
        runs = [made.start("resume", made.session(), f"message {number}") for number in range(PROCESSES)]
        codes = [run.wait().code for run in runs]
        assert set(codes) <= {0, 2}
        assert codes.count(0) == len(owners(made)) - 1
        said = [entry.event.text for entry in made.entries() if isinstance(entry.event, UserSaid)]
        assert sorted(said[1:]) == sorted(f"message {n}" for n, code in enumerate(codes) if code == 0)
        assert sum(isinstance(entry.event, TurnEnded) for entry in made.entries()) == len(said)


def test_a_killed_owner_is_no_obstacle(tmp_path):
    with yard(tmp_path / "yard", rules()) as made:
        run = made.first()
        eventually(lambda: made.witnessed() == ["CALL-0"], "the first command runs")
        (made.work / "go").touch()
        run.send(signal.SIGKILL)
        run.process.wait()
        begun = time.monotonic()
        ended = made.go_on().wait()
        assert ended.code == 0, ended.err
        assert time.monotonic() - begun < 10
        assert [owner.epoch for owner in owners(made)] == [1, 2]


def check_stale(made: Yard, run, stored: int, asked: int) -> None:
    """The stopped owner wakes: it ends with one sentence, and nothing of it is in the record or in the world."""
    run.send(signal.SIGCONT)
    ended = run.wait()
    assert ended.code == 1, ended.err
    assert "was taken over by another process; nothing more is written here." in ended.err
    assert "Traceback" not in ended.err
    assert len(made.entries()) == stored
    assert len(made.asked()) == asked
    assert made.witnessed() == ["CALL-0"]
    check_once(made.entries())
    check_purse(made)


def test_an_owner_that_was_stopped_in_mid_command_and_wakes_writes_nothing(tmp_path):
    with yard(tmp_path / "yard", rules()) as made:
        stopped = made.first()
        eventually(lambda: made.witnessed() == ["CALL-0"], "the command runs")
        stopped.send(signal.SIGSTOP)
        assert made.go_on().wait().code == 2
        taker = made.go_on("--take-over")
        eventually(lambda: len(owners(made)) == 2, "the session is taken over")
        (made.work / "go").touch()
        ended = taker.wait()
        assert (ended.code, ended.out) == (0, "It said: went\n"), ended.err
        check_stale(made, stopped, len(made.entries()), len(made.asked()))


def test_an_owner_that_was_stopped_in_mid_stream_and_wakes_starts_nothing(tmp_path):
    slowly = {"text": "I think I should run it. " * 20, "calls": [waits("CALL-0")], "chunk_delay_ms": 10}
    script = [{"when": {"step": 0}, "reply": slowly}, *rules()[1:]]
    with yard(tmp_path / "yard", script) as made:
        stopped = made.first()
        eventually(made.asked, "the model is asked")
        time.sleep(0.2)
        stopped.send(signal.SIGSTOP)
        assert not made.replies()
        (made.work / "go").touch()
        ended = made.go_on("--take-over").wait()
        assert (ended.code, ended.out) == (0, "It said: went\n"), ended.err
        check_stale(made, stopped, len(made.entries()), len(made.asked()))


def test_an_owner_that_wakes_while_the_new_one_still_works_starts_nothing(tmp_path):
    with yard(tmp_path / "yard", rules()) as made:
        stopped = made.first()
        eventually(lambda: made.witnessed() == ["CALL-0"], "the command runs")
        stopped.send(signal.SIGSTOP)
        taker = made.go_on("--take-over")
        eventually(lambda: len(owners(made)) == 2, "the session is taken over")
        stopped.send(signal.SIGCONT)
        (made.work / "go").touch()
        old, new = stopped.wait(), taker.wait()
        assert old.code == 1
        assert "was taken over" in old.err
        assert (new.code, new.out) == (0, "It said: went\n"), new.err
        assert [each.event.text for each in made.entries() if isinstance(each.event, ToolFinished)] == ["went"]
        assert made.witnessed() == ["CALL-0"]
        check_once(made.entries())


@pytest.mark.parametrize("target", ["SqliteStore.set_epoch", "SqliteStore.epoch"])
def test_a_take_over_that_dies_half_way_leaves_the_session_to_the_next(tmp_path, target):
    death = {"at": "function", "target": f"ml_intern.store.sqlite:{target}", "phase": "after"}
    with yard(tmp_path / "yard", rules()) as made:
        stopped = made.first()
        eventually(lambda: made.witnessed() == ["CALL-0"], "the command runs")
        stopped.send(signal.SIGSTOP)
        assert made.go_on("--take-over", death=death).wait().code == KILLED
        (made.work / "go").touch()
        ended = made.go_on("--take-over").wait()
        assert (ended.code, ended.out) == (0, "It said: went\n"), ended.err
        check_stale(made, stopped, len(made.entries()), len(made.asked()))
