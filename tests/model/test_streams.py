"""Streams as servers really send them: all mean the same to us as the one in the documentation."""

import json

import pytest

from ml_intern.model.catalog import resolve
from ml_intern.model.port import CallDelta, TextDelta, ThinkingDelta
from ml_intern.model.wire.assemble import Assembly
from ml_intern.model.wire.reading import Reading
from ml_intern.record.messages import Text, Thinking, Usage
from tests.model.corpus import CALLS, CORPUS, HEL, HELLO, LO, LS, PWD, STOP, Told, calling
from tests.model.raw import HEAD, Raw, call, chunk, model_at, replied, sse, usage


def check(deltas, end, told):
    thoughts = [part for part in end.reply.parts if isinstance(part, Thinking)]
    found = Told(
        end.reply.text,
        (thoughts[0].text, thoughts[0].field) if thoughts else None,
        tuple((each.tool, each.arguments) for each in end.reply.calls),
        end.finish,
        end.usage,
    )
    assert found == told
    # What was shown is what was said, in whole.
    assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == told.text
    assert "".join(each.text for each in deltas if isinstance(each, ThinkingDelta)) == (told.thinking or ("", ""))[0]
    for index, (name, arguments) in enumerate(told.calls):
        mine = [each for each in deltas if isinstance(each, CallDelta) and each.index == index]
        assert "".join(each.arguments for each in mine) == arguments
        assert mine[-1].name == name
    ids = [each.wire_id for each in end.reply.calls]
    assert all(ids)
    assert len({*ids}) == len(ids)


@pytest.mark.parametrize("form", CORPUS)
async def test_a_stream_in_one_piece_is_understood(form):
    body, told = CORPUS[form]
    async with Raw(HEAD + body) as server:
        check(*await replied(model_at(server.url)), told)


@pytest.mark.parametrize("form", CORPUS)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_stream_may_be_cut_anywhere_on_its_way(form, size):
    body, told = CORPUS[form]
    reading = Reading(resolve("openai-compatible/m", "http://127.0.0.1:1", {}), Assembly(), None)
    deltas = []
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        if reading.ends:
            reading.keep(piece)
        else:
            deltas += reading.read(piece)
    deltas += reading.rest()
    check(deltas, reading.finished(), told)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
async def test_a_reply_that_is_not_streamed_is_taken_whole(content_type):
    message = {"role": "assistant", "content": "Hello", "tool_calls": [call(None, "a", "bash", LS)]}
    body = {
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        **{"usage": usage()["usage"]},
    }
    text = json.dumps(body, indent=2).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(text)}\r\n\r\n".encode()
    async with Raw(head + text) as server:
        deltas, end = await replied(model_at(server.url))
    check(deltas, end, Told("Hello", calls=(("bash", LS),), finish="calls", usage=Usage(12, 5)))


async def test_a_stream_that_calls_itself_json_is_read_all_the_same():
    body = sse(HEL, LO, STOP, usage())
    async with Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + body) as server:
        check(*await replied(model_at(server.url)), HELLO)


async def test_ids_that_a_server_sends_twice_or_not_at_all_are_made():
    body = sse(calling(call(0, "a", "bash", LS), call(1, "a", "bash", PWD), call(2, None, "bash", LS)), CALLS)
    async with Raw(HEAD + body) as server:
        _, end = await replied(model_at(server.url))
    first, second, third = end.reply.calls
    assert first.wire_id == "a"
    assert len({first.wire_id, second.wire_id, third.wire_id}) == 3
    assert len({first.id, second.id, third.id}) == 3


async def test_the_model_that_served_is_told():
    async with Raw(HEAD + sse(HEL, STOP)) as server:
        _, end = await replied(model_at(server.url))
    assert (end.served_by, end.served_at) == ("m-1", "")


async def test_the_provider_behind_a_router_is_told_whether_it_stands_in_a_header_or_in_the_stream():
    leaked = '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    routed = HEAD.replace(b"connection:", b"X-Inference-Provider: together\r\nconnection:")
    async with Raw(routed + sse(HEL, STOP)) as server:
        _, header = await replied(model_at(server.url))
    async with Raw(HEAD + sse({**HEL, "provider": "DeepInfra"}, STOP)) as server:
        _, stream = await replied(model_at(server.url))
    async with Raw(routed + sse(chunk({"content": leaked}), STOP)) as server:
        _, healed = await replied(model_at(server.url))
    assert (header.served_at, stream.served_at) == ("together", "DeepInfra")
    assert (healed.served_at, healed.finish) == ("together", "calls")


async def test_details_of_thinking_are_put_together_and_kept():
    details = [
        [{"type": "reasoning.text", "text": "Hm", "index": 0, "format": "f"}],
        [{"type": "reasoning.text", "text": "m.", "index": 0}],
        [{"type": "reasoning.text", "signature": "sig", "index": 0, "text": None}],
        [{"type": "reasoning.encrypted", "data": "xyz", "index": 1}],
    ]
    async with Raw(HEAD + sse(*(chunk({"reasoning_details": each}) for each in details), HEL, STOP)) as server:
        _, end = await replied(model_at(server.url))
    thought = end.reply.parts[0]
    assert isinstance(thought, Thinking)
    assert thought.text == "Hmm."
    assert thought.state is not None
    assert json.loads(thought.state.value) == [
        {"type": "reasoning.text", "text": "Hmm.", "index": 0, "format": "f", "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
    ]
    assert end.reply.parts[1] == Text("Hello")


async def test_pieces_that_arrive_together_are_one_delta():
    async with Raw(HEAD + sse(*(chunk({"content": f"{n} "}) for n in range(100)), STOP)) as server:
        deltas, _ = await replied(model_at(server.url))
    assert len(deltas) < 10
