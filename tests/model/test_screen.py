"""No reader sees the raw form of a leaked call; a plain text is shown as it comes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_intern.model.port import CallDelta, Finished, TextDelta, ThinkingDelta
from ml_intern.model.wire import screen as screens
from ml_intern.model.wire.screen import Screen
from ml_intern.record.messages import Reply, Text, Thinking
from tests.model.raw import HEAD, Raw, chunk, model_at, replied, sse, usage
from tests.model.test_leaked import ALONE, FORMS, LS, PWD, TOOLS

LONGEST = max(map(len, (*screens._OUTER, *screens._OPENED, *screens._INNER, screens._ARGUMENT))) + 20
"""Characters: a marker, and what may stand between two of them."""


def told(text: str, size: int = 1, tools=TOOLS, is_spoken: bool = False) -> tuple[list[str], list[str], Finished]:
    """What was shown of the text after each piece of `size`, of thinking too, and the end."""
    screen = Screen(tools, is_spoken=is_spoken)
    shown: list[str] = []
    thought: list[str] = []
    calls: list[str] = []
    end = None
    pieces = [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]
    for item in (*pieces, Finished(Reply((Text(text),)), None, "stop")):
        for each in screen.show(item):
            match each:
                case TextDelta(text=piece):
                    shown.append(piece)
                case ThinkingDelta(text=piece):
                    thought.append(piece)
                case CallDelta(name=name):
                    calls.append(name)
                case Finished():
                    end = each
    assert end is not None
    assert calls == [call.tool for call in end.reply.calls]
    return shown, thought, end


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("form", [*FORMS, *ALONE])
def test_nothing_of_a_leaked_call_is_shown(form, size):
    shown, thought, end = told((FORMS | ALONE)[form], size)
    assert (shown, thought) == ([], [])
    assert [call.tool for call in end.reply.calls] == [LS[0], PWD[0]]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_said_before_it_is_shown(form, size):
    said = "I look — with `ls` < 3 [a].\n\n"
    shown, _, end = told(said + FORMS[form], size)
    assert "".join(shown).rstrip() == said.rstrip() == end.reply.text
    assert len(end.reply.calls) == 2


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("form", [*FORMS, *ALONE])
@pytest.mark.parametrize(
    "text",
    ["{}\nThat is how a call looks.", "```\n{}\n```", "```xml\n{}", "A call looks like `{}`", "Write `{}", "{}\n{{"],
)
def test_a_text_that_speaks_of_a_form_is_shown_in_whole(form, text, size):
    said = text.replace("{{", "<").replace("{}", (FORMS | ALONE)[form])
    shown, thought, end = told(said, size)
    assert "".join(shown) == said == end.reply.text
    assert thought == []


@pytest.mark.parametrize(
    "text",
    [
        "<table>\n<tr>\n  <td>[1] `x` < y && z > 1</td>\n</tr>\n",
        "<tool_call> is the tag of a call, and it may stand where a line begins.",
        "<tool_call>\nlooking is what it does, <function> is what it is.",
        "<tools>\n[TOOL] [x](y)\n[TOOL_CALL] <|tool| <｜x",
        "```python\nx = {1: 2}\n```\nand\n```json\n{}\n```",
        '```json\n{"lr": 0.1, "name": "bash"}\n```',
        '```json\n{"name": "resnet", "lr": 0.1}\n```',
        '{"type": "object", "properties": {}}',
        '{"answer": 42}',
        "{x for x in y}",
        "```sh\nls\n```",
        "<thing> is no thinking",
        "  <b>bold</b>",
    ],
)
def test_a_plain_text_is_never_more_than_a_marker_late(text):
    screen = Screen(TOOLS)
    seen = ""
    for at, character in enumerate(text, 1):
        seen += "".join(each.text for each in screen.show(TextDelta(character)) if isinstance(each, TextDelta))
        assert text.startswith(seen)
        assert at - len(seen) <= LONGEST, text[len(seen) : at]
    shown, _, _ = told(text)
    assert "".join(shown) == text


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("mark", ["think", "thinking"])
def test_thinking_in_the_text_is_shown_as_thinking(mark, size):
    shown, thought, end = told(f"\n<{mark}>I < you</ I.</{mark}>\n\nIt is <b>.", size)
    assert ("".join(thought), "".join(shown).lstrip()) == ("I < you</ I.", "It is <b>.")
    assert end.reply == Reply((Thinking("I < you</ I."), Text("It is <b>.")))
    shown, thought, _ = told(f"<{mark}>I think\n{FORMS['hermes']}</{mark}>\n{FORMS['hermes']}", size)
    assert ("".join(shown).strip(), "".join(thought)) == ("", f"I think\n{FORMS['hermes']}")


def test_thinking_that_never_ends_is_all_shown():
    shown, thought, _ = told("<think>Hm. </thi")
    assert (shown, "".join(thought)) == ([], "Hm. </thi")


def test_thinking_with_a_place_of_its_own_leaves_the_text_alone():
    screen = Screen(TOOLS)
    items = [*screen.show(ThinkingDelta("Hm.")), *screen.show(TextDelta("<think>x</think>"))]
    assert items == [ThinkingDelta("Hm."), TextDelta("<think>x</think>")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_call_in_words_is_not_shown_where_tools_were_told_in_words(size):
    block = '```tool_call\n{"name": "bash", "arguments": {"command": "ls"}}\n```'
    shown, _, end = told(f"I write.\n\n{block}", size, is_spoken=True)
    assert "".join(shown).strip() == "I write."
    assert [call.tool for call in end.reply.calls] == ["bash"]
    shown, _, _ = told(f"So:\n\n```xml\n{block}", size, is_spoken=True)
    assert "".join(shown).startswith("So:\n\n```xml\n```tool_call")


@pytest.mark.parametrize("form", [*FORMS, *ALONE])
def test_without_tools_all_is_text(form):
    said = (FORMS | ALONE)[form]
    shown, _, _ = told(said, tools=())
    assert "".join(shown) == said


PIECES = st.sampled_from(
    [
        *FORMS.values(),
        *screens._OUTER,
        *screens._OPENED,
        "<think>",
        "</think>",
        "```json\n",
        "`",
        "\n",
        "{",
        '"name"',
        "a b",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=6), st.integers(1, 30))
def test_whatever_comes_all_of_it_is_shown_or_is_a_call_or_thinking(pieces, size):
    said = "".join(pieces)
    shown, thought, end = told(said, size)
    if end.reply.calls:
        assert said.lstrip().startswith("".join(shown).strip()) or thought
    elif not said.lstrip().startswith("<think>"):
        assert thought == []
        assert "".join(shown) == said


async def test_a_reader_of_a_leaking_server_sees_the_call_and_not_its_form():
    pieces = [
        "I look.\n",
        "<tool",
        "_call>\n{",
        '"name": "bash", "argu',
        'ments": {"command": "ls"}}\n</tool',
        "_call>",
    ]
    chunks = [chunk({"content": piece}) for piece in pieces]
    async with Raw(HEAD + sse(*chunks, chunk({}, "stop"), usage())) as server:
        deltas, end = await replied(model_at(server.url))
    assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == "I look.\n"
    assert [each.name for each in deltas if isinstance(each, CallDelta)] == ["bash"]
    assert end.finish == "calls"


def test_a_long_text_and_a_long_call_cost_next_to_nothing():
    begun = time.perf_counter()
    told("<td>x</td>\n" * 20_000, 5)
    told(f'<tool_call>\n{{"name": "bash", "arguments": {{"command": "{"x" * 200_000}"}}}}\n</tool_call>', 5)
    assert time.perf_counter() - begun < 3
