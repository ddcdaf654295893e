"""Requests as they go out, byte for byte; and that what was encoded once is not encoded again."""

import json

import pytest
from inline_snapshot import snapshot

from ml_intern.model.catalog import resolve
from ml_intern.model.wire.encode import Encoder
from ml_intern.record.messages import Answered, Asked, Call, Image, Message, Opaque, Reply, Text, Thinking
from tests.model.raw import request

COMPATIBLE = resolve("openai-compatible/m", "http://127.0.0.1:1", {})
OPENAI = resolve("openai/gpt-5", "", {"OPENAI_API_KEY": "k"})
LS = Call("01", "call_a", "bash", '{"command": "ls"}')
PWD = Call("02", "call_b", "bash", '{"command": "pwd"}')


def body(*messages: Message, endpoint=COMPATIBLE, pictures=None, **more) -> str:
    return Encoder(endpoint).body(request(*messages, **more), pictures or {}).decode()


def rows(*messages: Message, **more) -> list[dict]:
    return json.loads(body(*messages, **more))["messages"][1:]


def test_a_first_request():
    assert body(Asked("Hello")).replace(',"', ',\n"') == snapshot("""\
{"model":"m",
"stream":true,
"stream_options":{"include_usage":true},
"tools":[{"type":"function",
"function":{"name":"bash",
"description":"Run a command.",
"parameters":{"type":"object",
"properties":{"command":{"type":"string"}}}}}],
"messages":[{"role":"system",
"content":"Be brief."},{"role":"user",
"content":"Hello"}],
"max_tokens":1000}\
""")


def test_a_first_request_to_openai():
    assert body(Asked("Hello"), endpoint=OPENAI, tools=(), system="").replace(',"', ',\n"') == snapshot("""\
{"model":"gpt-5",
"stream":true,
"stream_options":{"include_usage":true},
"prompt_cache_key":"s-1",
"messages":[{"role":"user",
"content":"Hello"}],
"max_completion_tokens":1000}\
""")


def test_calls_and_their_answers():
    reply = Reply((Thinking("Hm.", "reasoning_content"), Text("I look."), LS, PWD))
    answers = (Answered("01", "call_a", "bash", "a.txt"), Answered("02", "call_b", "bash", "/home", ok=False))
    assert rows(Asked("Look"), reply, *answers) == snapshot(
        [
            {"role": "user", "content": "Look"},
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "bash", "arguments": '{"command": "ls"}'},
                    },
                    {
                        "id": "call_b",
                        "type": "function",
                        "function": {"name": "bash", "arguments": '{"command": "pwd"}'},
                    },
                ],
                "reasoning_content": "Hm.",
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "a.txt"},
            {"role": "tool", "tool_call_id": "call_b", "content": "/home"},
        ]
    )


def test_thinking_goes_back_under_the_name_it_came_with_where_the_server_takes_it():
    reply = Reply((Thinking("Hm.", "reasoning"), Text("Yes.")))
    signed = Reply((Thinking("Hm.", "reasoning_details", Opaque('[{"type": "x", "data": "é"}]')), Text("Yes.")))
    foreign = Reply((Thinking("Hm.", "signed_by_another_wire", Opaque("abc")), Text("Yes.")))
    assert rows(reply)[0]["reasoning"] == "Hm."
    assert rows(signed)[0]["reasoning_details"] == [{"type": "x", "data": "é"}]
    assert set(rows(foreign)[0]) == {"role", "content"}
    assert set(rows(reply, endpoint=OPENAI)[0]) == {"role", "content"}


def test_calls_alone_have_no_content():
    assert rows(Reply((LS,)))[0]["content"] is None


@pytest.mark.parametrize("parts", [(), (Text(" \n"),), (Thinking("Hm.", "reasoning_content"),)])
def test_a_reply_that_says_nothing_is_left_out_and_what_follows_joins_what_was_asked(parts):
    sent = rows(Asked("Go"), Reply(parts), Asked("It was empty.", by="product"))
    assert sent == [{"role": "user", "content": "Go\n\nIt was empty."}]


def test_what_a_model_wrote_badly_is_sent_so_that_servers_can_read_it():
    names = [Call("1", "w", name, "{}") for name in ("functions.bash:0", "", "ü" * 80)]
    assert [each["function"]["name"] for each in rows(Reply((*names,)))[0]["tool_calls"]] == [
        "functions_bash_0",
        "unknown",
        "_" * 64,
    ]
    broken = [Call("1", "w", "bash", text) for text in ("", " ", '{"command": ', "[1]", "7", "[" * 100_000)]
    sent = [each["function"]["arguments"] for each in rows(Reply((*broken,)))[0]["tool_calls"]]
    assert [json.loads(each) for each in sent[:5]] == [
        {},
        {},
        {"invalid_arguments": '{"command": '},
        {"invalid_arguments": "[1]"},
        {"invalid_arguments": "7"},
    ]
    assert len(sent[5]) < 300


def test_two_messages_of_the_user_in_a_row_are_one():
    assert rows(Asked("Look"), Asked("at this", by="product"), Reply((Text("Yes."),)), Asked("More")) == [
        {"role": "user", "content": "Look\n\nat this"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "More"},
    ]


def test_images_of_the_user_stand_in_the_message():
    picture = Image("5a", "image/png")
    assert rows(Asked("What is this?", (picture,)), Asked("Well?"), pictures={"5a": b"\x89PNG"}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
            ],
        },
        {"role": "user", "content": "Well?"},
    ]


def test_an_image_that_is_gone_is_named():
    assert rows(Asked("This?", (Image("5a", "image/png"),)))[0]["content"][1]["type"] == "text"


def test_images_of_answers_follow_when_every_call_has_its_answer():
    first = Answered("01", "call_a", "bash", "a plot", images=(Image("5a", "image/png"),))
    second = Answered("02", "call_b", "bash", "no plot")
    encoder = Encoder(COMPATIBLE)
    so_far = (Reply((LS, PWD)), first, second)
    halfway = json.loads(encoder.body(request(*so_far), {"5a": b"x"}))["messages"]
    after = json.loads(encoder.body(request(*so_far, Reply((Text("I see."),))), {}))["messages"]
    assert [each["role"] for each in halfway[1:]] == ["assistant", "tool", "tool", "user"]
    assert after[: len(halfway)] == halfway
    assert after[-1]["role"] == "assistant"


def test_half_characters_do_not_break_a_request():
    assert rows(Asked("a\ud83db"))[0]["content"] == "a?b"


def test_every_request_is_the_same_as_one_encoded_anew():
    encoder = Encoder(COMPATIBLE)
    messages: list[Message] = []
    for step in range(20):
        messages += [
            Asked(f"step {step}"),
            Reply((LS,)),
            Answered("01", "call_a", "bash", str(step)),
            Asked("and", by="product"),
        ]
        asked = request(*messages)
        assert encoder.body(asked, {}) == Encoder(COMPATIBLE).body(asked, {})


def test_messages_that_were_replaced_are_encoded_anew():
    encoder = Encoder(COMPATIBLE)
    encoder.body(request(Asked("one"), Asked("two")), {})
    for asked in (
        request(Asked("other"), Asked("two"), version=1),
        request(Asked("other"), version=1),
        request(version=2),
        request(Asked("a"), Asked("b"), Asked("c"), version=2),
    ):
        assert encoder.body(asked, {}) == Encoder(COMPATIBLE).body(asked, {})


def test_a_new_system_text_or_other_tools_are_sent():
    encoder = Encoder(COMPATIBLE)
    encoder.body(request(), {})
    assert b"Be long." in encoder.body(request(system="Be long."), {})
    assert b'"tools"' not in encoder.body(request(tools=()), {})


def test_only_new_images_are_asked_for():
    encoder = Encoder(COMPATIBLE)
    first, second = Asked("a", (Image("1", "image/png"),)), Asked("b", (Image("2", "image/png"),))
    assert [each.sha for each in encoder.new_images(request(first))] == ["1"]
    encoder.body(request(first), {"1": b"x"})
    assert [each.sha for each in encoder.new_images(request(first, second))] == ["2"]
