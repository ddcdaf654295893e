"""Two protocols that are not ours, through their real clients; what comes back is ours."""

import base64
import json
import re

from ml_intern.model.catalog import resolve
from ml_intern.model.port import CallDelta, TextDelta, ThinkingDelta
from ml_intern.model.providers.adapter import AdaptedModel
from ml_intern.record.messages import Answered, Asked, Call, Image, Reply, Usage
from tests.doubles.openai_server import Double
from tests.doubles.sse_server import SseDouble
from tests.model.provider_scripts import GOOGLE, KEY, MISTRAL, PIXEL, google_at, mistral_at, replied
from tests.model.raw import request


# -------------------------------------------------------------------------------------------------------- google: SSE
async def test_google_streams_thinking_text_and_calls_and_counts_every_token():
    async with SseDouble(GOOGLE) as double:
        deltas, end = await replied(google_at(double.url))
        body, headers = double.bodies[0], double.headers[0]
    assert [delta for delta in deltas if not isinstance(delta, CallDelta)] == [
        ThinkingDelta("Hmm."),
        TextDelta("Hel"),
        TextDelta("lo"),
    ]
    calls = [delta for delta in deltas if isinstance(delta, CallDelta)]
    assert [(call.index, call.name, json.loads(call.arguments)) for call in calls] == [
        (0, "bash", {"command": "ls"}),
        (1, "bash", {"command": "pwd"}),
    ]
    assert end.reply.text == "Hello"
    assert [json.loads(call.arguments) for call in end.reply.calls] == [{"command": "ls"}, {"command": "pwd"}]
    assert len({call.id for call in end.reply.calls}) == 2
    assert (end.usage, end.finish) == (Usage(100, 15, 40, 0, 5), "calls")
    assert body["generationConfig"]["maxOutputTokens"] == 1000
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert body["tools"][0]["functionDeclarations"][0]["name"] == "bash"
    assert headers["x-goog-api-key"] == KEY


async def test_what_google_signed_goes_back_byte_for_byte_and_to_nobody_else():
    async with SseDouble(GOOGLE, GOOGLE, GOOGLE) as double:
        _, end = await replied(google_at(double.url))
        # Through the record's own form and back.
        reply = end.reply
        first, second = reply.calls
        history = (
            Asked("Hello"),
            reply,
            Answered(first.id, first.wire_id, "bash", "one"),
            Answered(second.id, second.wire_id, "bash", "", ok=False),
            Asked("And now?"),
        )
        await replied(google_at(double.url), request(*history))
        contents = double.bodies[1]["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "user"]
    sent = contents[1]["parts"]
    signed = [part for part in sent if "thoughtSignature" in part or "thought_signature" in part]
    assert len(signed) == 1
    assert (signed[0].get("thoughtSignature") or signed[0].get("thought_signature")) == "c2lnbmVk"
    calls = [part.get("functionCall") or part.get("function_call") for part in sent]
    assert [call["args"] for call in calls if call] == [{"command": "ls"}, {"command": "pwd"}]
    answers = [part.get("functionResponse") or part.get("function_response") for part in contents[2]["parts"]]
    assert [answer["name"] for answer in answers if answer] == ["bash", "bash"]
    assert contents[3]["parts"] == [{"text": "And now?"}]
    async with SseDouble(MISTRAL) as double:
        await replied(mistral_at(double.url), request(*history))
        assert "c2lnbmVk" not in json.dumps(double.bodies)
        assert "Hmm." not in json.dumps(double.bodies)


async def test_images_go_along_and_one_that_is_not_to_be_had_is_named():
    image, other = Image("a" * 64, "image/png"), Image("b" * 64, "image/png")
    call = Call("c1", "", "read", "{}")

    async def load(wanted: Image) -> bytes:
        assert wanted in {image, other}
        return PIXEL

    history = (Asked("Look", (image,)), Reply((call,)), Answered("c1", "", "read", "a picture", images=(other,)))
    async with SseDouble(GOOGLE, GOOGLE) as double:
        await replied(google_at(double.url, load_image=load), request(*history))
        await replied(google_at(double.url), request(*history))
    seen, blind = (json.dumps(body) for body in double.bodies)
    assert seen.count(base64.b64encode(PIXEL).decode()) == 2
    assert blind.count("that is not shown") == 2


# ------------------------------------------------------------------------------------------------------- mistral: SSE
async def test_mistral_streams_text_and_calls_and_takes_them_back():
    async with SseDouble(MISTRAL, MISTRAL) as double:
        deltas, end = await replied(mistral_at(double.url))
        assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == "Let me look."
        (made,) = end.reply.calls
        assert (made.wire_id, json.loads(made.arguments)) == ("a1b2c3d4e", {"command": "ls"})
        assert (end.usage, end.finish, end.served_by) == (Usage(50, 12), "calls", "mistral-large-2512")
        other = Call("01abc", "toolu_of_another_provider", "bash", "not json")
        history = (
            Asked("Hello"),
            Reply((*end.reply.parts, other)),
            Answered(made.id, made.wire_id, "bash", "one"),
            Answered("01abc", other.wire_id, "bash", "two"),
        )
        await replied(mistral_at(double.url), request(*history))
    first, second = double.bodies
    assert (first["max_tokens"], first["stream"]) == (1000, True)
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assistant = next(message for message in second["messages"] if message["role"] == "assistant")
    ids = [each["id"] for each in assistant["tool_calls"]]
    assert ids[0] == "a1b2c3d4e"
    # Mistral refuses ids of any other form.
    assert re.fullmatch("[a-zA-Z0-9]{9}", ids[1])
    assert [message["tool_call_id"] for message in second["messages"] if message["role"] == "tool"] == ids
    assert "invalid_arguments" in json.dumps(assistant["tool_calls"][1]["function"]["arguments"])


# ------------------------------------------------------------------------------------- openai's own form, by a double
async def test_a_provider_that_resembles_openai_answers_like_one():
    script = [
        {
            "when": {"step": 0},
            "reply": {"text": "I look.", "calls": [{"name": "bash", "arguments": {"command": "ls"}}]},
        },
        {"when": {"step": 1}, "reply": {"text": "Done."}},
    ]
    async with Double(script, key=KEY) as double:
        endpoint = resolve("nebius/m", double.url, {"NEBIUS_API_KEY": KEY})
        _, end = await replied(AdaptedModel(endpoint))
        (made,) = end.reply.calls
        answered = request(Asked("Hello"), end.reply, Answered(made.id, made.wire_id, "bash", "a.txt"))
        _, last = await replied(AdaptedModel(endpoint), answered)
        assert len(double.exchanges) == 2
    assert (end.reply.text, json.loads(made.arguments), end.finish) == ("I look.", {"command": "ls"}, "calls")
    assert (last.reply.text, last.finish) == ("Done.", "stop")
    assert last.usage is not None
    assert last.usage.prompt > 0
