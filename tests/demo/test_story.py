import json
import re
from collections.abc import Callable, Sequence

import pytest

from ml_intern.demo.replay import OVER, turn_of
from ml_intern.demo.story import PROMPT, text_of
from ml_intern.model.scripted import Conversation, ScriptOver, Turn
from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, Text
from ml_intern.sandbox.header import header
from ml_intern.toolkit.schema import Invalid, parse
from ml_intern.tools.bash import BashArgs
from ml_intern.tools.edit import EditArgs
from ml_intern.tools.plan import PlanArgs
from ml_intern.tools.read import ReadArgs
from ml_intern.tools.write import WriteArgs

ARGS = {"bash": BashArgs, "edit": EditArgs, "plan": PlanArgs, "read": ReadArgs, "write": WriteArgs}
SCRIPTS = ("look.py", "docs.py", "train.py", "check.py")
ERROR = "TypeError: LogisticRegression.__init__() got an unexpected keyword argument 'multi_class'"
LOOK = """images: 77
pixels of each: 9 (3 x 3, float64)
classes: 4
images of each class: 0: 17, 1: 18
smallest class: 17, largest class: 21
range of values: 0 to 16
missing values: 0
pixels that never change: 3
images that stand there twice: 2"""
TRAINED = """held out 19 of 77 images before anything is fitted; trains on 58
a line, seed 0: macro-F1 0.1111, accuracy 0.2222

a line: macro-F1 0.1234 ± 0.0123, accuracy 0.2345 ± 0.0234
a curve: macro-F1 0.3456 ± 0.0345, accuracy 0.4567 ± 0.0456
a curve wins on 2 of 3 seeds; macro-F1 higher by 0.2222 ± 0.0333
saved: model.joblib, report.md
[a note of the product]"""
CHECKED = """held-out images that stand in the training part, too: 0
macro-F1 0.3333, accuracy 0.4444 on 19 images
the same as in metrics.json"""

World = Callable[[str, dict[str, str], int], tuple[str, bool]]


def world(tool: str, arguments: dict[str, str], times: int) -> tuple[str, bool]:
    """What a machine answers where all goes as foreseen. `times`: how often this very call was made before."""
    command = arguments.get("command", "")
    if tool == "read":
        return "1\t| a line | 0.1234 ± 0.0123 |\n2\t| a curve | 0.3456 ± 0.0345 |", True
    if tool != "bash":
        return "Done.", True
    if "look.py" in command:
        return LOOK, True
    if "check.py" in command:
        return CHECKED, True
    if "train.py" in command:
        return (TRAINED, True) if times else (f"Traceback …\n{ERROR}\n[Exit code 1.]", False)
    gone = "\nmulti_class: not a parameter of this version" if "multi_class" in command else ""
    return f"scikit-learn 9.8.7\nX(gamma='scale', probability='deprecated')\n{gone}", True


def played(world: World, messages: Sequence[Message] = ()) -> list[Message]:
    """The whole conversation of a demo in `world`, from `messages` on."""
    said: list[Message] = list(messages) or [Asked(PROMPT.format(seed=5))]
    while True:
        turn = turn_of(Conversation(said))
        said += reply_of(turn, len(said))
        made = [call for message in said if isinstance(message, Reply) for call in message.calls]
        if not turn.calls:
            return said
        last = made[-1]
        times = sum((call.tool, call.arguments) == (last.tool, last.arguments) for call in made) - 1
        text, ok = world(last.tool, json.loads(last.arguments), times)
        said.append(Answered(last.id, last.wire_id, last.tool, text, ok))


def reply_of(turn: Turn, number: int) -> list[Message]:
    assert not callable(turn.calls)
    calls = [Call(f"c{number}", f"w{number}", tool, json.dumps(dict(arguments))) for tool, arguments in turn.calls]
    return [Reply((Text(turn.say), *calls))]


def calls_of(said: Sequence[Message]) -> list[Call]:
    return [call for message in said if isinstance(message, Reply) for call in message.calls]


def commands_of(said: Sequence[Message]) -> list[str]:
    return [json.loads(call.arguments)["command"] for call in calls_of(said) if call.tool == "bash"]


def last_text(said: Sequence[Message]) -> str:
    assert isinstance(said[-1], Reply)
    return said[-1].text


def test_every_call_of_the_story_is_one_that_its_tool_takes():
    for call in calls_of(played(world)):
        assert not isinstance(parse(ARGS[call.tool], call.arguments), Invalid), call


def test_the_answer_quotes_what_the_runs_printed_and_nothing_else():
    answer = last_text(played(world))
    quoted = {*re.findall(r"\d+\.\d+(?:\.\d+)?", answer)}
    assert quoted == {*re.findall(r"0\.\d{4}", TRAINED.split("\n\n")[1] + CHECKED), "9.8.7"}
    assert "19 of 77 images" in answer
    assert "a curve wins on 2 of 3 seeds" in answer


def test_the_seed_of_the_prompt_is_the_seed_of_the_training():
    assert commands_of(played(world)).count("uv run train.py --seed 5") == 2


def test_the_argument_that_the_error_names_is_looked_up_and_taken_out_of_the_script_before_the_second_run():
    said = played(world)
    made = calls_of(said)
    failed = next(at for at, call in enumerate(made) if call.tool == "bash" and "train.py" in call.arguments)
    assert "LogisticRegression multi_class" in made[failed + 1].arguments
    edit = json.loads(made[failed + 2].arguments)
    script = text_of("train.py")
    assert script.count(edit["old_str"]) == 1
    mended = script.replace(edit["old_str"], edit["new_str"])
    compile(mended, "train.py", "exec")
    assert "multi_class" not in mended
    assert made[failed + 3].arguments == made[failed].arguments


def test_where_the_first_run_succeeds_nothing_is_mended_and_the_answer_says_so():
    def kind(tool: str, arguments: dict[str, str], times: int) -> tuple[str, bool]:
        return world(tool, arguments, 1)

    said = played(kind)
    assert "edit" not in {call.tool for call in calls_of(said)}
    assert "No run failed." in last_text(said)


@pytest.mark.parametrize(
    "error",
    [
        "ImportError: cannot import name 'SVC' from 'sklearn.svm'",
        "TypeError: GridSearchCV.__init__() got an unexpected keyword argument 'scoring'",
        "TypeError: LogisticRegression.__init__() got an unexpected keyword argument 'unheard_of'",
    ],
)
def test_an_error_that_the_script_does_not_foresee_ends_it_and_is_quoted(error):
    def other(tool: str, arguments: dict[str, str], times: int) -> tuple[str, bool]:
        if "train.py" in arguments.get("command", ""):
            return f"Traceback …\n{error}\n[Exit code 1.]", False
        return world(tool, arguments, times)

    with pytest.raises(ScriptOver, match=re.escape(error)):
        played(other)


@pytest.mark.parametrize(
    ("tool", "words", "answer"),
    [
        ("bash", "look.py", "nothing that it knows"),
        ("bash", "check.py", CHECKED.replace("the same as", "NOT the same as")),
        ("read", "report.md", "1\t| a line | 0.1234 ± 0.0123 |\n2\t| a curve | 0.9999 ± 0.0001 |"),
    ],
)
def test_an_answer_without_what_it_should_hold_ends_the_script(tool, words, answer):
    def other(name: str, arguments: dict[str, str], times: int) -> tuple[str, bool]:
        return (answer, True) if name == tool and words in str(arguments) else world(name, arguments, times)

    with pytest.raises(ScriptOver):
        played(other)


@pytest.mark.parametrize(
    "cut",
    [
        "Interrupted: the process ended while this ran, and whether it took effect is unknown.",
        "Not run: the process ended before it began, and what it looked at has changed since.",
        "[The process that owned this command is gone, and the command with it: how far it came is not known.]",
    ],
)
def test_a_call_that_was_cut_is_made_again_and_the_story_ends_as_if_it_had_not_been(cut):
    def breaking(tool: str, arguments: dict[str, str], times: int) -> tuple[str, bool]:
        return (cut, False) if tool == "bash" and not times else world(tool, arguments, times - (tool == "bash"))

    assert last_text(played(breaking)) == last_text(played(world))


def test_a_call_that_is_cut_again_and_again_ends_the_script():
    def hopeless(tool: str, arguments: dict[str, str], times: int) -> tuple[str, bool]:
        return ("Interrupted: the process ended.", False) if tool == "bash" else world(tool, arguments, times)

    with pytest.raises(ScriptOver, match="Interrupted"):
        played(hopeless)


def test_a_failure_ends_the_script_and_is_tried_again_when_a_person_says_go_on():
    said = played(world)[:6]
    run = said[5]
    assert isinstance(run, Reply)
    said.append(Answered(run.calls[0].id, run.calls[0].wire_id, "bash", "No index.", ok=False))
    with pytest.raises(ScriptOver, match="No index"):
        turn_of(Conversation(said))
    said.append(Asked("Go on from where the last turn ended."))
    assert last_text(played(world, said)) == last_text(played(world))


def test_every_beginning_of_a_conversation_goes_on_to_the_same_end():
    whole = played(world)
    for length in range(1, len(whole)):
        if not isinstance(whole[length - 1], Reply):
            assert played(world, whole[:length]) == whole


def test_after_its_end_it_says_that_it_is_over():
    said = [*played(world), Asked("And what about trees?")]
    assert turn_of(Conversation(said)).say == OVER


def test_another_prompt_is_refused():
    with pytest.raises(ScriptOver, match="plays the demo"):
        turn_of(Conversation([Asked("Train a classifier of cats.")]))


def test_the_scripts_of_the_story_are_python_and_share_one_environment():
    for name in SCRIPTS:
        compile(text_of(name), name, "exec")
    assert len({header(text_of(name)) for name in SCRIPTS}) == 1
    found = header(text_of("train.py"))
    assert found is not None
    assert "scikit-learn" in found.dependencies[1]


def test_no_text_of_the_story_is_taken_for_a_captured_value():
    assert not [name for name in SCRIPTS if re.search(r"\{\{\w+\}\}", text_of(name))]
