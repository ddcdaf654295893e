"""Models without calls of their own work all the same: tools in words, calls in blocks."""

import json

import pytest

from ml_intern.base.errors import BadRequest
from ml_intern.model.catalog import resolve
from ml_intern.model.port import Finished
from ml_intern.model.wire.chat import ChatModel
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.spoken import Speaker, heard
from ml_intern.record.messages import Answered, Asked, Call, Image, Reply, Text, Thinking
from tests.doubles.openai_server import Double
from tests.model.raw import BASH, asked_of, request

LS = '```tool_call\n{"name": "bash", "arguments": {"command": "ls"}}\n```'
PWD = '```tool_call\n{"name": "bash", "arguments": {"command": "pwd"}}\n```'
REFUSALS = {
    "ollama": (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
    "vllm": (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    "llama.cpp": (500, "tools param requires --jinja flag"),
    "openrouter": (404, "No endpoints found that support tool use. To learn more about provider routing, visit: x"),
    "groq": (400, "`tool calling` is not supported with this model"),
    "a gateway": (400, "This model does not support function calling."),
    "another": (422, "tools are not supported"),
}


def said(text: str) -> Reply:
    return heard(Finished(Reply((Thinking("Hm."), Text(text))), None, "stop"), (BASH,)).reply


def fault(status: int, message: str) -> dict:
    return {"status": status, "body": {"error": {"message": message, "type": "invalid_request_error"}}}


@pytest.mark.parametrize("server", REFUSALS)
async def test_a_server_that_takes_no_tools_is_asked_in_words_at_once_and_from_then_on(server):
    script = [
        {"when": {"tool_offered": "bash"}, "fault": fault(*REFUSALS[server])},
        {"when": {"step": 0}, "reply": {"text": f"I look.\n\n{LS}\n{PWD}"}},
        {"reply": {"text": "I saw."}},
    ]
    async with Double(script) as double:
        model = ChatModel(resolve("openai-compatible/m", double.url, {}))
        _, first = await asked_of(model, request(Asked("Look")))
        assert [json.loads(call.arguments) for call in first.reply.calls] == [{"command": "ls"}, {"command": "pwd"}]
        assert (first.reply.text, first.finish) == ("I look.", "calls")
        answers = [Answered(call.id, call.wire_id, "bash", "a.txt") for call in first.reply.calls]
        _, second = await asked_of(model, request(Asked("Look"), first.reply, *answers))
        await model.aclose()
        assert second.reply.text == "I saw."
        assert [each.status for each in double.exchanges] == [REFUSALS[server][0], 200, 200]


async def test_another_refusal_stays_one():
    async with Double([{"fault": fault(400, "temperature is not supported with this model")}]) as double:
        model = ChatModel(resolve("openai-compatible/m", double.url, {}))
        with pytest.raises(BadRequest):
            await asked_of(model, request())
        await model.aclose()
        assert len(double.exchanges) == 1


async def test_a_model_that_is_known_to_have_no_tools_is_never_offered_any():
    async with Double([{"when": {"system_contains": "## bash"}, "reply": {"text": "Hi"}}]) as double:
        model = ChatModel(resolve("openai-compatible/m", double.url, {}), has_tools=False)
        _, end = await asked_of(model, request())
        await model.aclose()
        assert end.reply.text == "Hi"
        assert len(double.exchanges) == 1


def test_a_request_in_words_is_the_beginning_of_the_next():
    encoder, speaker = Encoder(resolve("openai-compatible/m", "http://127.0.0.1:1", {})), Speaker()
    call = Call("01", "call_a", "bash", '{"command": "ls"}')
    picture = Image("5a", "image/png")
    messages = [Asked("Look"), Reply((Text("I look."), call)), Answered("01", "call_a", "bash", "no", ok=False)]
    messages += [Reply((Text("I see."),)), Asked("More", (picture,))]
    before: list = []
    for count in range(1, 6):
        rows = json.loads(encoder.body(speaker.said(request(*messages[:count])), {}))["messages"]
        assert rows[: len(before)] == before
        before = rows
    assert [row["role"] for row in before] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert before[2]["content"] == f"I look.\n\n{LS}"
    assert before[3]["content"] == "Error of bash:\nno"


def test_calls_are_heard_wherever_they_stand():
    reply = said(f"First.\n{LS}\nThen:\n{PWD}\nI wait.")
    assert [json.loads(call.arguments) for call in reply.calls] == [{"command": "ls"}, {"command": "pwd"}]
    assert reply.text.split() == ["First.", "Then:", "I", "wait."]
    assert reply.parts[0] == Thinking("Hm.")
    assert said(LS.removesuffix("\n```")).calls


def test_a_call_that_is_no_json_is_one_and_the_model_will_be_told():
    (call,) = said('```tool_call\n{"name": "bash", "arguments": {"command": "a\nb"}}\n```').calls
    assert call.tool == "bash"
    with pytest.raises(ValueError, match="control"):
        json.loads(call.arguments)


@pytest.mark.parametrize(
    "text",
    [
        '```tool_call\n{"name": "rm", "arguments": {}}\n```',
        "```tool_call\n```",
        "```tool_call\n[]\n```",
        "No `tool_call`.",
    ],
)
def test_what_is_no_call_of_ours_stays_text(text):
    assert said(text).parts == (Thinking("Hm."), Text(text))
