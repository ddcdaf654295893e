from hypothesis import given
from hypothesis import strategies as st

from ml_intern.agent.context import IMAGE_TOKENS, MARGIN_TOKENS, Head, bound_tokens, make_request
from ml_intern.model.port import ToolSpec
from ml_intern.record.display import TextDisplay
from ml_intern.record.events import Entry, Event, ModelAsked, ModelReplied, SessionStarted, ToolFinished, UserSaid
from ml_intern.record.log import replay
from ml_intern.record.messages import Asked, Call, Image, Opaque, Reply, Text, Thinking, Usage
from ml_intern.record.view import View

HEAD = Head("system", (ToolSpec("t", "text", {"type": "object"}),))


def record(*events: Event) -> View:
    return replay(Entry(seq, seq, "main", event) for seq, event in enumerate(events, 1))


def asked(head: Head = HEAD) -> ModelAsked:
    return ModelAsked("a", "main", "m", 0, 0, 0, head.digest)


def replied(*parts: Text | Thinking | Call, prompt: int | None = 500) -> ModelReplied:
    usage = None if prompt is None else Usage(prompt, 10)
    return ModelReplied("a", Reply(parts), usage, 0, "stop")


def test_a_first_request_is_bounded_by_its_bytes():
    text = "päper" * 100
    bound = bound_tokens(record(UserSaid("u", text)), "main", HEAD)
    assert bound >= HEAD.bound + len(text.encode()) + MARGIN_TOKENS


def test_the_providers_count_stands_for_the_prefix_and_bytes_for_what_is_new():
    long = "x" * 50_000
    before = record(UserSaid("u", long), asked(), replied(Text("ok")))
    bound = bound_tokens(before, "main", HEAD)
    assert 500 + 2 + MARGIN_TOKENS <= bound < 2_000
    after = record(UserSaid("u", long), asked(), replied(Text("ok")), UserSaid("v", "y" * 3_000))
    assert bound_tokens(after, "main", HEAD) >= bound + 3_000


def test_another_head_makes_the_count_worthless():
    view = record(UserSaid("u", "x" * 50_000), asked(), replied(Text("ok")))
    other = Head("another system", HEAD.tools)
    assert bound_tokens(view, "main", other) >= 50_000


def test_an_attempt_without_usage_leaves_the_older_count():
    view = record(
        UserSaid("u", "x" * 50_000), asked(), replied(Text("ok")), asked(), replied(Text("z" * 400), prompt=None)
    )
    assert 500 + 400 <= bound_tokens(view, "main", HEAD) < 3_000


def test_images_thinking_state_and_arguments_count():
    call = Call("c", "w", "t", '{"a": "' + "b" * 1_000 + '"}')
    plain = bound_tokens(record(UserSaid("u", "hi")), "main", HEAD)
    image = bound_tokens(record(UserSaid("u", "hi", (Image("0" * 64, "image/png"),))), "main", HEAD)
    assert image == plain + IMAGE_TOKENS
    parts = (Thinking("t" * 700, state=Opaque("o" * 300)), call)
    view = record(UserSaid("u", "hi"), asked(), replied(*parts), ToolFinished("c", "ok", "r" * 200, TextDisplay("t")))
    assert bound_tokens(view, "main", HEAD) >= 500 + 700 + 300 + 1_000 + 200


@given(texts=st.lists(st.text(max_size=200), min_size=1, max_size=8), tokens_per_byte=st.floats(0, 1))
def test_the_bound_holds_for_every_tokeniser_that_makes_at_most_a_token_a_byte(texts, tokens_per_byte):
    """Whatever share of bytes are tokens, a request never holds more than its bound."""
    events: list[Event] = []
    for text in texts:
        events += [UserSaid(f"u{len(events)}", text)]
        held = int(sum(len(said.encode()) for said in texts[: len(events)]) * tokens_per_byte)
        assert held <= bound_tokens(record(*events), "main", HEAD)


def test_a_request_holds_the_transcript_in_order_and_names_session_and_lane():
    view = record(
        SessionStarted("s1", "/w", "0"), UserSaid("u", "hi"), asked(), replied(Text("ok")), UserSaid("v", "go")
    )
    request = make_request(view, "main", HEAD, 4_096)
    assert [type(message) for message in request.messages] == [Asked, Reply, Asked]
    assert (request.session, request.max_output, request.system) == ("s1-main", 4_096, "system")


def test_the_digest_of_a_head_changes_with_every_part_of_it():
    heads = [HEAD, Head("other", HEAD.tools), Head("system", ()), Head("system", (ToolSpec("t", "text", {}),))]
    assert len({head.digest for head in heads}) == 4
