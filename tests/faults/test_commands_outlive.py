"""A command belongs to the supervisor: it outlives the agent, and only the supervisor's own death loses it."""

import os
import signal
import time

import pytest

from ml_intern.record.events import ToolFinished, ToolStarted
from tests.faults.state import check_once, check_purse
from tests.faults.walk import call
from tests.faults.yard import KILLED, eventually, yard

pytestmark = pytest.mark.timeout(120)

TICKS = 20
SAID = "\n".join([*(f"tick {number}" for number in range(1, TICKS + 1)), "end"])
TICKING = f"for i in $(seq 1 {TICKS}); do echo $i >> ticks; echo tick $i; sleep 0.2; done; echo end"


def rules(command: str) -> list[dict[str, object]]:
    return [
        {"when": {"step": 0}, "reply": {"calls": [call("bash", command=command)]}},
        {"when": {"step": 1}, "reply": {"text": "It said: {{answer:-1}}"}},
    ]


def lines_of(path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def finished(made) -> list[ToolFinished]:
    return [entry.event for entry in made.entries() if isinstance(entry.event, ToolFinished)]


def started(made) -> list[ToolStarted]:
    return [entry.event for entry in made.entries() if isinstance(entry.event, ToolStarted)]


def test_a_command_goes_on_while_nobody_is_there_and_resume_attaches_to_it(tmp_path):
    with yard(tmp_path / "yard", rules(TICKING)) as made:
        ticks = made.work / "ticks"
        run = made.first()
        eventually(lambda: len(lines_of(ticks)) >= 3, "the command ticks")
        run.send(signal.SIGKILL)
        assert run.wait().code == KILLED
        alone = len(lines_of(ticks))
        eventually(lambda: len(lines_of(ticks)) >= alone + 3, "it ticks on while nobody is there", 5)
        ended = made.go_on().wait()
        assert ended.code == 0, ended.err
        assert ended.out == f"It said: {SAID}\n"
        assert lines_of(ticks) == [str(number) for number in range(1, TICKS + 1)]
        assert [(event.outcome, event.text) for event in finished(made)] == [("ok", SAID)]
        check_once(made.entries())


def test_a_command_that_ended_while_nobody_was_there_is_answered_with_all_it_said(tmp_path):
    command = "echo one; sleep 0.5; echo two; exit 7"
    with yard(tmp_path / "yard", rules(command)) as made:
        run = made.first()
        eventually(lambda: started(made), "the command starts")
        eventually(lambda: list(made.session_folder().glob("commands/*/output")), "it runs")
        run.send(signal.SIGKILL)
        run.wait()
        eventually(lambda: list(made.session_folder().glob("commands/*/exit.json")), "it ends alone")
        ended = made.go_on().wait()
        assert ended.code == 0, ended.err
        assert ended.out == "It said: one\ntwo\n[Exit code 7.]\n"
        assert [event.outcome for event in finished(made)] == ["failed"]


def test_only_a_person_s_stop_ends_a_command_with_the_agent(tmp_path):
    with yard(tmp_path / "yard", rules(f"{TICKING}; sleep 30")) as made:
        ticks = made.work / "ticks"
        run = made.first()
        eventually(lambda: len(lines_of(ticks)) >= 2, "the command ticks")
        run.send(signal.SIGINT)
        ended = run.wait()
        assert ended.code == 130
        assert [event.outcome for event in finished(made)] == ["stopped"]
        counted = len(lines_of(ticks))
        time.sleep(0.5)
        assert len(lines_of(ticks)) == counted


@pytest.mark.parametrize("agent_first", [True, False])
def test_a_lost_supervisor_loses_the_open_call_alone_and_the_model_is_told_what_changed(tmp_path, agent_first):
    script = [
        {"when": {"step": 0}, "reply": {"calls": [call("bash", command="echo CALL-0 1 >> witness")]}},
        {
            "when": {"step": 1},
            "reply": {"calls": [call("bash", command="echo CALL-1 1 >> witness; echo half > part; sleep 60")]},
        },
        {"when": {"step": 2}, "reply": {"text": "It said: {{answer:-1}}"}},
    ]
    with yard(tmp_path / "yard", script) as made:
        run = made.first()
        eventually((made.work / "part").exists, "the second command is half-way")
        supervisor = made.supervisor()
        assert supervisor is not None
        if agent_first:
            run.send(signal.SIGKILL)
            assert run.wait().code == KILLED
        os.kill(supervisor, signal.SIGKILL)
        ended = made.go_on().wait() if agent_first else run.wait()
        assert ended.code == 0, ended.err
        first, second = finished(made)
        assert (first.outcome, second.outcome) == ("ok", "lost")
        assert "how far it came is not known" in second.text
        assert "Changed in the workspace since it began: part, witness." in second.text
        assert second.text in ended.out
        assert made.witnessed() == ["CALL-0", "CALL-1"]
        check_once(made.entries())
        check_purse(made)


def test_with_the_supervisor_lost_too_the_next_command_gets_a_new_one(tmp_path):
    script = [
        {"when": {"step": 0}, "reply": {"calls": [call("bash", command="echo CALL-0 1 >> witness; sleep 60")]}},
        {"when": {"step": 1}, "reply": {"calls": [call("bash", command="echo CALL-1 1 >> witness; echo works")]}},
        {"when": {"step": 2}, "reply": {"text": "It said: {{answer:-1}}"}},
    ]
    with yard(tmp_path / "yard", script) as made:
        run = made.first()
        eventually(lambda: made.witnessed() == ["CALL-0"], "the first command runs")
        supervisor = made.supervisor()
        assert supervisor is not None
        run.send(signal.SIGKILL)
        run.wait()
        os.kill(supervisor, signal.SIGKILL)
        ended = made.go_on().wait()
        assert ended.code == 0, ended.err
        assert ended.out == "It said: works\n"
        assert made.witnessed() == ["CALL-0", "CALL-1"]
