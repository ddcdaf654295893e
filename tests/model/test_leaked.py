"""Calls and thinking that servers leave in the text are read; a text that only speaks of them is not touched."""

import json
import time

import pytest

from ml_intern.model.port import CallDelta, Finished, ToolSpec
from ml_intern.model.wire.leaked import healed, split_calls, split_thinking
from ml_intern.record.messages import Call, Reply, Text, Thinking
from tests.model.raw import BASH, HEAD, Raw, chunk, model_at, replied, request, sse, usage

COUNT = ToolSpec("count", "Count.", {"type": "object", "properties": {"n": {"type": "integer"}, "all": {}}})
TOOLS = (BASH, COUNT)
LS = ("bash", {"command": "ls"})
PWD = ("bash", {"command": "pwd"})
JSON, JSON_2 = '{"name": "bash", "arguments": {"command": "ls"}}', '{"name": "bash", "arguments": {"command": "pwd"}}'

FORMS = {
    "hermes": f"<tool_call>\n{JSON}\n</tool_call>\n<tool_call>\n{JSON_2}\n</tool_call>",
    "hermes without its last end": f"<tool_call>{JSON}</tool_call>\n<tool_call>{JSON_2}",
    "qwen coder": "<tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>\n"
    "<tool_call>\n<function=bash>\n<parameter=command>\npwd\n</parameter>\n</function>\n</tool_call>",
    "qwen coder without its outer tag": "<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>\n"
    "<function=bash>\n<parameter=command>\npwd\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>bash\n<arg_key>command</arg_key>\n<arg_value>ls</arg_value>\n</tool_call>\n"
    "<tool_call>bash\n<arg_key>command</arg_key>\n<arg_value>pwd</arg_value>\n</tool_call>",
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.bash:0<|tool_call_argument_begin|>"
    '{"command": "ls"}<|tool_call_end|><|tool_call_begin|>functions.bash:1<|tool_call_argument_begin|>'
    '{"command": "pwd"}<|tool_call_end|><|tool_calls_section_end|>',
    "deepseek v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>bash\n```json\n"
    '{"command": "ls"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>bash\n```json\n'
    '{"command": "pwd"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
    "deepseek v3.1": '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>bash<｜tool▁sep｜>{"command": "ls"}<｜tool▁call▁end｜>'
    '<｜tool▁call▁begin｜>bash<｜tool▁sep｜>{"command": "pwd"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "deepseek v3.2": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="bash">\n<｜DSML｜parameter name="command" '
    'string="true">ls</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name="bash">\n<｜DSML｜parameter '
    'name="command" string="true">pwd</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
    "minimax": '<minimax:tool_call>\n<invoke name="bash">\n<parameter name="command">ls</parameter>\n</invoke>\n'
    '<invoke name="bash">\n<parameter name="command">pwd</parameter>\n</invoke>\n</minimax:tool_call>',
    "mistral": f"[TOOL_CALLS][{JSON}, {JSON_2}]",
    "mistral, newer": '[TOOL_CALLS]bash[ARGS]{"command": "ls"}[TOOL_CALLS]bash[ARGS]{"command": "pwd"}',
}
ALONE = {
    "fenced": f"```json\n{JSON}\n```\n```json\n{JSON_2}\n```",
    "fenced list": f"```json\n[{JSON}, {JSON_2}]\n```",
    "llama": '{"name": "bash", "parameters": {"command": "ls"}}; {"name": "bash", "parameters": {"command": "pwd"}}',
    "openai": '{"type": "function", "function": {"name": "bash", "arguments": "{\\"command\\": \\"ls\\"}"}}\n' + JSON_2,
}


@pytest.mark.parametrize("form", [*FORMS, *ALONE])
def test_a_form_is_read(form):
    assert split_calls((FORMS | ALONE)[form], TOOLS) == ("", [LS, PWD])


@pytest.mark.parametrize("form", FORMS)
def test_what_is_said_before_the_calls_stays_text(form):
    assert split_calls(f"I look — with `ls`.\n\n{FORMS[form]}\n", TOOLS) == ("I look — with `ls`.", [LS, PWD])


@pytest.mark.parametrize("form", [*FORMS, *ALONE])
@pytest.mark.parametrize(
    "text",
    [
        "{}\nThat is how a call looks.",
        "```\n{}\n```",
        "```xml\n{}",
        "A call looks like `{}`",
        "Write `{}",
        "{}\n{{",
    ],
)
def test_a_text_that_speaks_of_a_form_is_left_alone(form, text):
    said = text.replace("{{", "<").replace("{}", (FORMS | ALONE)[form])
    assert split_calls(said, TOOLS) == (said, [])


@pytest.mark.parametrize("form", ALONE)
def test_json_after_a_sentence_is_an_example(form):
    said = f"This is the call that I made:\n\n{ALONE[form]}"
    assert split_calls(said, TOOLS) == (said, [])


@pytest.mark.parametrize("form", [*FORMS, *ALONE])
def test_a_tool_that_was_not_offered_is_not_called(form):
    said = (FORMS | ALONE)[form]
    for text, tools in ((said, (COUNT,)), (said, ()), (said.replace("bash", "rm"), TOOLS)):
        assert split_calls(text, tools) == (text, [])


@pytest.mark.parametrize(
    "said",
    [
        '<tool_call>\n{"name": "bash", "arguments": {"command": "l',
        '<tool_call>\n{"name": "bash", "arguments": "ls"}\n</tool_call>',
        '<tool_call>\n{"name": "bash"}\n</tool_call>',
        '<tool_call>\n{"name": "bash", "arguments": {}, "why": "an example"}\n</tool_call>',
        f"The tag <tool_call>{JSON}</tool_call>",
        f"<tool_call>\n{JSON}\n</tool_call>\n<tool_call>\nsoon\n</tool_call>",
        "<tool_call>\n</tool_call>",
        "<tool_call>",
        "<|tool_calls_section_begin|>",
        "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>",
        "<function=bash>",
        "[TOOL_CALLS]",
        '{"name": "bash", "version": 3}',
        '{"name": "bash", "arguments": {"command": "ls"}, "returns": "text"}',
        "```json\n[]\n```",
        "",
        "[" * 100_000,
        "<tool_call>\n" + '{"a":' * 50_000,
    ],
)
def test_what_is_not_whole_is_text(said):
    assert split_calls(said, TOOLS) == (said, [])


def test_values_without_quotes_have_the_type_of_the_schema():
    said = (
        "<function=count>\n<parameter=n>\n3\n</parameter>\n<parameter=all>\n[1, true]\n</parameter>\n</function>\n"
        "<function=bash>\n<parameter=command>\n1\n  2\n</parameter>\n</function>"
    )
    assert split_calls(said, TOOLS)[1] == [("count", {"n": 3, "all": [1, True]}), ("bash", {"command": "1\n  2"})]


@pytest.mark.parametrize(
    ("said", "thinking", "text"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
        ("\n<thinking>Hm.</thinking>Yes.", "Hm.", "Yes."),
        ("Hm.\n\nSo.\n</think>\n\nYes.", "Hm.\n\nSo.", "Yes."),
        ("<think></think>Yes.", "", "Yes."),
        ("</think>\n\nYes.", "", "Yes."),
        ("<think>\nHm, and no end", "", "<think>\nHm, and no end"),
        ("The tag <think> begins it, </think> ends it.", "", "The tag <think> begins it, </think> ends it."),
        ("`</think>` ends it.\nYes.", "", "`</think>` ends it.\nYes."),
        ("```\nHm.\n</think>\n```\nYes.", "", "```\nHm.\n</think>\n```\nYes."),
        ("Write it as\n</think>\nand then\n</think>\n", "", "Write it as\n</think>\nand then\n</think>\n"),
    ],
)
def test_thinking_at_the_beginning_is_thinking(said, thinking, text):
    assert split_thinking(said) == (thinking, text)


def test_a_reply_with_calls_or_thinking_of_its_own_keeps_its_text():
    native = Finished(Reply((Text(FORMS["hermes"]), Call("1", "w", "bash", "{}"))), None, "calls")
    assert healed(native, TOOLS) is native
    thought = Finished(Reply((Thinking("Hm.", "reasoning"), Text("<think>So.</think>Yes."))), None, "stop")
    assert healed(thought, TOOLS) is thought
    cut = Finished(Reply((Text(FORMS["hermes"]),)), None, "length")
    assert healed(cut, TOOLS) is cut


async def test_a_leaked_reply_becomes_a_native_one():
    said = f"<think>\nHm.\n</think>\nI look.\n{FORMS['hermes']}"
    events = [chunk({"content": said[at : at + 9]}) for at in range(0, len(said), 9)]
    async with Raw(HEAD + sse(*events, chunk({}, "stop"), usage())) as server:
        deltas, end = await replied(model_at(server.url), request(tools=TOOLS))
    thought, text, *calls = end.reply.parts
    assert (thought, text) == (Thinking("Hm."), Text("I look."))
    assert [(call.tool, json.loads(call.arguments)) for call in calls if isinstance(call, Call)] == [LS, PWD]
    assert len({call.wire_id for call in calls if isinstance(call, Call)}) == 2
    assert end.finish == "calls"
    assert [each.name for each in deltas if isinstance(each, CallDelta)] == ["bash", "bash"]


@pytest.mark.parametrize(
    "said",
    [
        "<tool_call>\n" * 20_000,
        "<function=bash>" * 20_000,
        "<think>" * 20_000,
        "\n</think" * 20_000,
        "`" * 100_000,
        "<｜tool▁calls▁begin｜>" * 20_000,
        "<tool_call>bash<arg_key>" * 20_000,
        '<function_calls><invoke name="bash">' * 10_000,
        " " * 200_000,
    ],
)
def test_a_text_made_to_stall_does_not(said):
    begun = time.perf_counter()
    split_thinking(said)
    split_calls(said, TOOLS)
    assert time.perf_counter() - begun < 0.5
