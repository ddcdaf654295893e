"""Requests of the messages API as they go out; what the model's side must not change goes back byte for byte."""

import json

from inline_snapshot import snapshot

from ml_intern.model.catalog import resolve
from ml_intern.model.wire.turns import TurnEncoder
from ml_intern.record.messages import Answered, Asked, Call, Image, Message, Opaque, Reply, Text, Thinking
from tests.model.raw import request

ENDPOINT = resolve("anthropic/claude-x", "", {"ANTHROPIC_API_KEY": "k"})
MARK = {"type": "ephemeral"}
LS = Call("01", "toolu_a", "bash", '{"command": "ls"}')
PWD = Call("02", "toolu_b", "bash", '{ "command":"pwd" }')
A, B = Answered("01", "toolu_a", "bash", "a.txt"), Answered("02", "toolu_b", "bash", "", ok=False)
THOUGHT = Thinking("Hm.\n", "signed_thinking", Opaque("EqQB+/sig=="))
HIDDEN = Thinking("", "redacted_thinking", Opaque("enc+/data=="))


def body(*messages: Message, encoder=None, pictures=None, **more) -> str:
    return (encoder or TurnEncoder(ENDPOINT)).body(request(*messages, **more), pictures or {}).decode()


def rows(*messages: Message, **more) -> list[dict]:
    return unmarked(json.loads(body(*messages, **more)))["messages"]


def unmarked(whole):
    for row in whole["messages"]:
        for block in row["content"]:
            block.pop("cache_control", None)
    return whole


def test_a_first_request():
    assert body(Asked("Hello")).replace(',"', ',\n"') == snapshot("""\
{"model":"claude-x",
"stream":true,
"tools":[{"name":"bash",
"description":"Run a command.",
"input_schema":{"type":"object",
"properties":{"command":{"type":"string"}}}}],
"system":[{"type":"text",
"text":"Be brief.",
"cache_control":{"type":"ephemeral"}}],
"messages":[{"role":"user",
"content":[{"type":"text",
"text":"Hello",
"cache_control":{"type":"ephemeral"}}]}],
"max_tokens":1000}\
""")


def test_without_a_system_text_the_last_tool_is_marked():
    whole = json.loads(body(Asked("Hello"), system=""))
    assert "system" not in whole
    assert whole["tools"][-1]["cache_control"] == MARK
    assert json.loads(body(Asked("Hello"), system="", tools=())).keys() == {"model", "stream", "messages", "max_tokens"}


def test_thinking_calls_and_answers_stand_as_blocks_in_their_order():
    reply = Reply((HIDDEN, THOUGHT, Text("I look."), LS, PWD))
    assert rows(Asked("Look"), reply, A, B) == snapshot(
        [
            {"role": "user", "content": [{"type": "text", "text": "Look"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "redacted_thinking", "data": "enc+/data=="},
                    {"type": "thinking", "thinking": "Hm.\n", "signature": "EqQB+/sig=="},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_a", "name": "bash", "input": {"command": "ls"}},
                    {"type": "tool_use", "id": "toolu_b", "name": "bash", "input": {"command": "pwd"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_a", "content": "a.txt"},
                    {"type": "tool_result", "tool_use_id": "toolu_b", "content": "[nothing]", "is_error": True},
                ],
            },
        ]
    )


def test_arguments_go_back_as_the_model_wrote_them():
    assert '"input":{ "command":"pwd" }}' in body(Asked("Look"), Reply((PWD,)), B)


def test_thinking_that_is_not_signed_here_does_not_go_back():
    foreign = (Thinking("Hm.", "reasoning_content"), Thinking("Hm.", "signed_thinking"), Thinking("Hm.", "thinking"))
    assert rows(Asked("Look"), Reply((*foreign, Text("Yes."))), Asked("More"))[1]["content"] == [
        {"type": "text", "text": "Yes."}
    ]


def test_all_answers_to_a_reply_are_one_turn_and_what_the_user_adds_follows_them():
    turn = rows(Asked("Look"), Reply((LS, PWD)), A, B, Asked("Be quick", by="product"))[2]
    assert [block["type"] for block in turn["content"]] == ["tool_result", "tool_result", "text"]


def test_a_reply_of_nothing_but_thoughts_is_left_out():
    assert [turn["role"] for turn in rows(Asked("Go"), Reply((HIDDEN, THOUGHT)), Asked("More"))] == ["user"]


def test_blank_texts_which_the_api_refuses_are_left_out_or_named():
    assert rows(Asked(" "), Reply((Text("\n"),)), Asked("More")) == [
        {"role": "user", "content": [{"type": "text", "text": "[nothing]"}, {"type": "text", "text": "More"}]}
    ]


def test_ids_of_other_wires_become_ids_of_this_one_for_the_call_and_its_answer():
    odd = Call("03", "functions.bash:0", "functions.bash:0", "{}")
    again = Call("04", "toolu_a", "bash", "{}")
    sent = rows(
        Asked("Look"),
        Reply((odd,)),
        Answered("03", "functions.bash:0", "bash", "x"),
        Reply((LS,)),
        A,
        Reply((again,)),
        Answered("04", "toolu_a", "bash", "y"),
    )
    calls = [row["content"][0]["id"] for row in sent if row["role"] == "assistant"]
    answers = [row["content"][0]["tool_use_id"] for row in sent[2::2]]
    assert calls == answers == ["toolu_03", "toolu_a", "toolu_04"]
    assert sent[1]["content"][0]["name"] == "functions_bash_0"


def test_what_is_no_object_is_told_as_invalid():
    broken = ["", " ", '{"command": ', "[1]", '{"a": NaN}', "[" * 100_000]
    calls = [Call(f"{n}", f"w{n}", "bash", text) for n, text in enumerate(broken)]
    answers = [Answered(call.id, call.wire_id, "bash", "x") for call in calls]
    inputs = [block["input"] for block in rows(Asked("Look"), Reply((*calls,)), *answers)[1]["content"]]
    assert inputs[:5] == [
        {},
        {},
        {"invalid_arguments": '{"command": '},
        {"invalid_arguments": "[1]"},
        {"invalid_arguments": '{"a": NaN}'},
    ]
    assert len(json.dumps(inputs[5])) < 300


def test_half_characters_do_not_break_a_request():
    half = Call("01", "toolu_a", "bash", '{"command": "\\ud83d"}')
    sent = rows(Asked("a\ud83db"), Reply((half,)), A)
    assert sent[0]["content"][0]["text"] == "a?b"
    assert sent[1]["content"][0]["input"] == {"command": "?"}


def test_images_stand_in_messages_and_answers():
    picture, svg = Image("5a", "image/png"), Image("6b", "image/svg+xml")
    answer = Answered("01", "toolu_a", "bash", "a plot", images=(picture, svg, Image("7c", "image/png")))
    sent = rows(Asked("Look", (picture,)), Reply((LS,)), answer, pictures={"5a": b"\x89PNG", "6b": b"<svg/>"})
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}}
    assert sent[0]["content"] == [{"type": "text", "text": "Look"}, block]
    texts = [part.get("text", "") for part in sent[2]["content"][0]["content"]]
    assert sent[2]["content"][0]["content"][1] == block
    assert "cannot be shown" in texts[2]
    assert "that you cannot see" in texts[3]


def steps(count: int) -> list[Message]:
    messages: list[Message] = []
    for step in range(count):
        call = Call(f"{step}", f"toolu_{step}", "bash", "{}")
        messages += [Asked(f"step {step}"), Reply((call,)), Answered(call.id, call.wire_id, "bash", str(step))]
    return messages


def test_what_was_sent_is_the_beginning_of_what_is_sent_next_but_for_its_marks():
    encoder, before = TurnEncoder(ENDPOINT), ""
    messages: list[Message] = []
    for message in steps(20):
        messages.append(message)
        now = body(*messages, encoder=encoder)
        assert now == body(*messages)
        marks = [block for row in json.loads(now)["messages"] for block in row["content"] if "cache_control" in block]
        assert 1 <= len(marks) <= 2
        plain = now.replace(',"cache_control":{"type":"ephemeral"}', "")
        start = before.partition(']}],"max_tokens"')[0]
        assert plain.startswith(start)
        before = plain


def test_the_newest_turn_and_the_one_before_are_marked():
    whole = json.loads(body(*steps(3), Asked("go on")))
    marked = [
        (row["role"], number == len(row["content"]) - 1)
        for row in whole["messages"]
        for number, block in enumerate(row["content"])
        if "cache_control" in block
    ]
    assert marked == [("user", True), ("user", True)]
    assert whole["messages"][-1]["content"][-1]["cache_control"] == MARK
    assert whole["system"][-1]["cache_control"] == MARK


def test_messages_that_were_replaced_are_encoded_anew():
    encoder = TurnEncoder(ENDPOINT)
    body(Asked("one"), Asked("two"), encoder=encoder)
    for messages, version in (((Asked("other"), Asked("two")), 1), ((Asked("other"),), 1), ((), 2)):
        assert body(*messages, encoder=encoder, version=version) == body(*messages, version=version)


def test_only_new_images_are_asked_for():
    encoder = TurnEncoder(ENDPOINT)
    first, second = Asked("a", (Image("1", "image/png"),)), Asked("b", (Image("2", "image/png"),))
    body(first, encoder=encoder, pictures={"1": b"x"})
    assert [each.sha for each in encoder.new_images(request(first, second))] == ["2"]
