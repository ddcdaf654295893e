import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ml_intern.record.events import Entry, ModelReplied, UserSaid
from ml_intern.record.live import Live, LiveItem
from ml_intern.record.messages import Call, Opaque, Reply, Text, Thinking
from ml_intern.record.secrets import SHORTEST, CleanStream, Secrets
from ml_intern.record.texts import storable, with_texts

TOKEN = "hf_Zx9/Kq+3=Lm&n~Pé"
# What a token may consist of, and signs that some encoding changes. Brackets stand in labels: they are left out.
values = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_characters="[]"), min_size=SHORTEST, max_size=40
)
around = st.text(max_size=20)


def forms(value: str) -> dict[str, str]:
    raw = value.encode()
    return {
        "plain": value,
        "json": json.dumps(value),
        "json unescaped": json.dumps(value, ensure_ascii=False),
        "json twice": json.dumps(json.dumps(value)),
        "url": quote(value, safe=""),
        "form": quote_plus(value),
        "base64": base64.b64encode(raw).decode(),
        "base64 url": base64.urlsafe_b64encode(raw).decode(),
        "base64 of basic auth": base64.b64encode(b"user:" + raw).decode(),
        "base64 shifted": base64.b64encode(b"x-access:" + raw + b"@host").decode(),
        "hex": raw.hex(),
    }


@pytest.mark.parametrize("form", forms(TOKEN))
def test_every_form_of_a_secret_is_replaced(form):
    secrets = Secrets({"HF_TOKEN": TOKEN})
    text = f"before {forms(TOKEN)[form]} after"
    assert secrets.in_text(text)
    cleaned = secrets.clean(text)
    assert "[secret:HF_TOKEN]" in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    assert secrets.clean_bytes(text.encode()) == cleaned.encode()
    assert secrets.labelled(cleaned)
    assert not secrets.labelled(text)


@settings(deadline=None)
@given(values, around, around, st.sampled_from(list(forms(TOKEN))))
def test_cleaned_text_never_contains_the_value(value, before, behind, form):
    secrets = Secrets({"K": value})
    cleaned = secrets.clean(before + forms(value)[form] + behind)
    assert value not in cleaned
    assert secrets.clean(cleaned) == cleaned or not secrets.in_text(secrets.clean(cleaned))


@settings(deadline=None)
@given(values, values, around, st.data())
def test_a_stream_cut_anywhere_shows_no_value(one, other, filler, data):
    secrets = Secrets({"ONE": one, "OTHER": other})
    text = data.draw(st.permutations([one, filler, other, filler])).copy()
    whole = "".join(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream, shown = CleanStream(secrets), ""
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        shown += stream.push(whole[begin:end])
    shown += stream.rest()
    assert one not in shown
    assert other not in shown


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(1, 5))
def test_a_stream_without_secrets_loses_and_adds_nothing(text, size):
    assume("hunter" not in text)
    stream = CleanStream(Secrets({"K": "hunter2-hunter2"}))
    pieces = [stream.push(text[begin : begin + size]) for begin in range(0, len(text), size)]
    assert "".join(pieces) + stream.rest() == text


def test_a_stream_holds_back_only_what_may_begin_a_secret():
    stream = CleanStream(Secrets({"K": "hunter2-hunter2"}))
    assert stream.push("I said hunt") == "I said "
    assert stream.push("ing") == "hunting"
    assert stream.push("hunter2-hunter2") == "[secret:K]"
    assert stream.rest() == ""


def test_short_values_and_no_values_change_nothing():
    for secrets in (Secrets({}), Secrets({"SHORT": "x" * (SHORTEST - 1), "EMPTY": ""})):
        assert secrets.clean("x" * 50) == "x" * 50
        assert not secrets.in_text("x" * 50)
        assert CleanStream(secrets).push("xxx") == "xxx"


def test_the_longer_of_two_values_is_replaced_whole():
    secrets = Secrets({"A": "sk-1234567890", "B": "sk-1234567890-and-more"})
    assert secrets.clean("sk-1234567890-and-more sk-1234567890") == "[secret:B] [secret:A]"


def test_every_text_of_an_event_is_cleaned_but_opaque_state_is_not():
    secrets = Secrets({"K": "hunter2-hunter2"})
    parts = (
        Thinking("hunter2-hunter2", "reasoning", Opaque("hunter2-hunter2")),
        Text("say hunter2-hunter2"),
        Call("k", "w", "tool", '{"a": "hunter2-hunter2"}'),
    )
    event = ModelReplied("a", Reply(parts), None, 7, "calls")
    cleaned = with_texts(event, secrets.clean)
    thinking, text, call = cleaned.reply.parts
    assert thinking == Thinking("[secret:K]", "reasoning", Opaque("hunter2-hunter2"))
    assert text == Text("say [secret:K]")
    assert call == Call("k", "w", "tool", '{"a": "[secret:K]"}')
    assert (cleaned.cost, cleaned.usage, cleaned.finish) == (7, None, "calls")


def test_numbers_and_whole_entries_pass_through():
    entry = Entry(3, 4, "main", UserSaid("c", "x", seen=2))
    assert with_texts(entry, str.upper) == Entry(3, 4, "MAIN", UserSaid("C", "X", when="NOW", seen=2))  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_can_be_stored_and_good_text_stays(text):
    kept = storable(text)
    kept.encode()
    if not any("\ud800" <= sign <= "\udfff" for sign in text):
        assert kept == text


def test_halves_of_characters_are_joined_or_marked():
    assert storable("a\ud83d\ude00b\ud83dc\ude00") == "a\U0001f600b�c�"


def test_live_items_reach_every_reader_until_it_leaves():
    live, first, second = Live(), list[LiveItem](), list[LiveItem]()
    assert not live.watched
    leave = live.read_with(first.append)
    live.read_with(second.append)
    assert live.watched
    live.send(LiveItem("main", "a", "text", "x"))
    leave()
    live.send(LiveItem("main", "a", "text", "y", 1))
    assert ([item.text for item in first], [item.text for item in second]) == (["x"], ["x", "y"])
