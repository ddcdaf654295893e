import pytest

from ml_intern.record.clearing import Cleared, Compacted, Told
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Destroys, Executes, Publishes
from ml_intern.record.events import (
    Entry,
    Event,
    LimitsSet,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    RetryPlanned,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.facts import FileRead
from ml_intern.record.folds.memory import MOST_NUMBERS, Memory, told_window
from ml_intern.record.log import replay
from ml_intern.record.messages import Answered, Call, Image, Reply, Text, Usage
from ml_intern.record.next import AskModel, Compact, Rest, next_step
from ml_intern.record.room import expected_tokens, is_full, room_of
from ml_intern.record.view import MAIN, View

HEAD = 4_000
CHOSEN = ModelChosen("main", "m", 32_768, None, None, "me")


def record(*events: Event) -> View:
    return replay(Entry(seq, seq, MAIN, event) for seq, event in enumerate(events, 1))


def asked(expected: int = 0) -> ModelAsked:
    return ModelAsked("a", "main", "m", 0, 100, 2_000, "head", expected)


def step(
    text: str, prompt: int = 0, *facts: FileRead, images: tuple[Image, ...] = (), blob: str | None = None
) -> list[Event]:
    usage = Usage(prompt, 10) if prompt else None
    reply = ModelReplied("a", Reply((Call("k", "w", "tool", "{}"),)), usage, 0, "calls")
    return [asked(), reply, ToolFinished("k", "ok", text, TextDisplay("t"), facts, images, blob=blob)]


def answer(view: View, at: int = -1) -> str:
    found = [line.message.text for line in view.lane(MAIN).transcript.lines if isinstance(line.message, Answered)]
    return found[at]


def test_what_a_request_holds_is_guessed_from_the_providers_count_and_the_density_it_shows():
    view = record(CHOSEN, UserSaid("c", "x" * 8_000), *step("y" * 6_000, prompt=4_000))
    tokens = expected_tokens(view.lane(MAIN).transcript, HEAD)
    assert 4_000 + 6_000 / 3.2 <= tokens <= 4_000 + 6_000 / 2.8, "3 bytes a token, as counted"


def test_a_count_that_cannot_be_meant_is_not_believed():
    view = record(CHOSEN, UserSaid("c", "x" * 80_000), *step("y", prompt=12))
    assert expected_tokens(view.lane(MAIN).transcript, HEAD) > 15_000


def test_a_window_is_full_at_its_share_less_the_room_of_a_reply():
    full = record(CHOSEN, UserSaid("c", "go"), *step("y" * 70_000))
    room = room_of(full, MAIN, HEAD)
    assert room is not None
    assert room.limit == int((32_768 - 8_192) * 0.8)
    assert is_full(full, MAIN, HEAD)
    assert next_step(full, MAIN, 0, HEAD) == Compact()
    later = record(CHOSEN, LimitsSet(None, None, compact_at=1.0), UserSaid("c", "go"), *step("y" * 70_000))
    assert next_step(later, MAIN, 0, HEAD) == AskModel()
    unknown = record(ModelChosen("main", "m", None, None, None, "me"), UserSaid("c", "go"), *step("y" * 900_000))
    assert next_step(unknown, MAIN, 0, HEAD) == AskModel(), "what nobody knows is not guessed"


def test_what_was_compacted_must_grow_before_it_is_compacted_again():
    view = record(CHOSEN, UserSaid("c", "go"), *step("y" * 90_000), Compacted(4, "s" * 90_000))
    assert next_step(view, MAIN, 0, HEAD) == AskModel()


def test_a_cleared_answer_is_a_reference_with_what_it_told_and_where_it_is():
    text = "first line\n" + "noise\n" * 900 + "last line"
    picture = Image("5ha", "image/png")
    view = record(CHOSEN, UserSaid("c", "go"), *step(text, images=(picture,), blob="b10b"))
    cleared = record(
        CHOSEN,
        UserSaid("c", "go"),
        *step(text, images=(picture,), blob="b10b"),
        Cleared((5,), 0, (Told("loss", "0.5", 5),)),
    )
    assert answer(view) == text
    assert answer(cleared) == (
        "[cleared: 5.4 kB, 902 lines, 1 image blob:5ha (image/png); all of it can be read again: entry 5 of the "
        'record, blob:b10b; begins "first line", ends "last line"; told loss = 0.5]'
    )
    transcript = cleared.lane(MAIN).transcript
    assert all(not getattr(line.message, "images", ()) for line in transcript.lines)
    assert transcript.version == 1
    assert transcript.weight < 1_000


def test_a_reference_never_opens_or_closes_a_frame_of_untrusted_text():
    text = "[data 0123456789ab | untrusted]\npage\n" + "row\n" * 900 + "[end of data 0123456789ab]"
    view = record(CHOSEN, UserSaid("c", "go"), *step(text), Cleared((5,)))
    assert "[data" not in answer(view)
    assert 'untrusted text, begins "page"' in answer(view)


def test_an_answer_shown_in_part_can_still_become_a_reference():
    text = "first\n" + "noise\n" * 900 + "last"
    view = record(CHOSEN, UserSaid("c", "go"), *step(text), Cleared((5,), 1_000))
    assert 1_000 < len(answer(view)) < 1_500
    assert answer(view).endswith("last")
    view = record(CHOSEN, UserSaid("c", "go"), *step(text), Cleared((5,), 1_000), Cleared((5,)))
    assert len(answer(view)) < 300
    assert "5.4 kB" in answer(view)


def test_a_read_whose_answer_was_cleared_counts_no_more():
    events = [CHOSEN, UserSaid("c", "go"), *step("y" * 5_000, 0, FileRead("/w/a", "sha"))]
    assert record(*events).files.read_as("/w/a", MAIN) == "sha"
    assert record(*events, Cleared((5,))).files.read_as("/w/a", MAIN) is None
    assert record(*events, Cleared((4,))).files.read_as("/w/a", MAIN) == "sha"


def test_an_attempt_aside_is_no_line_no_step_and_no_call():
    before = [CHOSEN, UserSaid("c", "go"), *step("done", prompt=70)]
    aside = ModelAsked("s", "compaction", "m", 9, 100, 100, "other")
    said = ModelReplied(
        "s", Reply((Text("so far"), Call("x", "w", "t", "{}"))), Usage(5, 5), 3, "calls", role="compaction"
    )
    old, new = record(*before), record(*before, aside, said)
    assert new.lane(MAIN).transcript == old.lane(MAIN).transcript
    assert new.lane(MAIN).turn == old.lane(MAIN).turn
    assert new.lane(MAIN).calls == {}
    assert new.lane(MAIN).memory.prose == "so far"
    assert (new.purse.spent, new.purse.reserved) == (3, {})
    waits = record(*before, aside, UserSaid("d", "wait"))
    assert [line.message for line in waits.lane(MAIN).transcript.lines] == [
        line.message for line in old.lane(MAIN).transcript.lines
    ]
    assert isinstance(next_step(record(*before, aside, said, UserSaid("d", "wait")), MAIN, 0), AskModel)


def test_a_failure_aside_is_none_of_the_turn():
    before = [CHOSEN, UserSaid("c", "go"), *step("done")]
    aside = ModelAsked("s", "compaction", "m", 9, 100, 100, "other")
    failed = ModelFailed("s", "unauthorised", "the key is wrong", "", transient=False, cost=0)
    assert next_step(record(*before, aside, failed), MAIN, 0) == AskModel()
    again = record(*before, aside, failed, RetryPlanned(5_000, 1))
    assert (again.lane(MAIN).memory.tried, again.lane(MAIN).turn.failures) == (1, 0)


def overflowed(times: int, what: str = "too long") -> View:
    failed = ModelFailed("a", "overflow", what, "Choose another model.", transient=False, cost=0)
    more = [event for _ in range(times) for event in (asked(30_000), failed, Cleared((5,)))]
    return record(CHOSEN, UserSaid("c", "go"), *step("y" * 50_000), *more[:-1])


def test_an_overflow_makes_room_and_four_in_a_row_end_the_turn():
    assert next_step(overflowed(1), MAIN, 0, HEAD) == Compact()
    assert isinstance(next_step(overflowed(5), MAIN, 0, HEAD), Rest)


def test_an_overflow_of_next_to_nothing_ends_the_turn_at_once():
    failed = ModelFailed("a", "overflow", "too long", "Choose another model.", transient=False, cost=0)
    ending = next_step(record(CHOSEN, UserSaid("c", "go"), asked(), failed), MAIN, 0, HEAD)
    assert isinstance(ending, Rest)
    assert ending.ending is not None
    assert (ending.ending.reason, ending.ending.remedy) == ("overflow", "Choose another model.")


def test_a_window_is_learned_from_the_words_of_an_overflow_else_it_is_less_than_was_sent():
    assert overflowed(1, "maximum context length is 8192 tokens").lane(MAIN).memory.windows == {"m": 8_192}
    assert overflowed(1).lane(MAIN).memory.windows == {"m": 32_000 * 9 // 10}
    assert overflowed(2, "context length 8192").lane(MAIN).memory.overflows == 2


def test_who_answers_more_than_a_window_was_said_to_hold_has_another_one():
    small = ModelChosen("main", "m", 5_000, None, None, "me")
    before = record(small, UserSaid("c", "x" * 8_000), *step("y" * 6_000, prompt=4_900))
    assert is_full(before, MAIN, HEAD)
    after = record(small, UserSaid("c", "x" * 8_000), *step("y" * 6_000, prompt=5_000))
    assert room_of(after, MAIN, HEAD) is None
    assert not is_full(after, MAIN, HEAD)
    assert next_step(after, MAIN, 0, HEAD) == AskModel()


@pytest.mark.parametrize(
    ("what", "window"),
    [
        ("This model's maximum context length is 131072 tokens. However, you requested 140000 tokens", 131_072),
        ("prompt is too long: 214000 tokens > 200000 maximum", 200_000),
        ("input length and `max_tokens` exceed context limit: 190000 + 21333 > 200000, decrease input length", 200_000),
        ("the request exceeds the available context size (8192 tokens), try increasing it", 8_192),
        ("Requested token count exceeds the model's maximum context length of 32,768 tokens", 32_768),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1_048_576),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000", 4_096),
        ("maximum prompt length is 131072 but the request contains 150000 tokens", 131_072),
        ("Request too large", None),
    ],
)
def test_the_window_is_read_from_what_providers_say(what: str, window: int | None):
    assert told_window(what) == window


def test_numbers_keep_their_last_value_and_their_range_and_metrics_stay_longest():
    values = [Compacted(1, "s", (Told("loss", value, seq),)) for seq, value in enumerate(("0.9", "0.2", "0.4"), 5)]
    loss = record(CHOSEN, UserSaid("c", "go"), *values).lane(MAIN).memory.numbers["loss"]
    assert (loss.last, loss.entry, loss.least, loss.most, loss.count) == ("0.4", 7, "0.2", "0.9", 3)
    noise = Compacted(1, "s", (Told("accuracy", "1", 1), *(Told(f"k{number}", "1", 2) for number in range(500))))
    numbers = record(CHOSEN, UserSaid("c", "go"), noise).lane(MAIN).memory.numbers
    assert len(numbers) == MOST_NUMBERS
    assert "accuracy" in numbers


def test_a_decision_names_what_it_was_about_where_the_call_does_not():
    reply = ModelReplied("a", Reply((Call("k", "w", "tool", "{}"),)), None, 0, "calls")
    effects = (
        Executes("up.sh"),
        Destroys("hub:me/c", remote=True),
        Publishes("hub:me/a", public=False),
        Publishes("hub:me/b", public=True),
    )
    held = ToolHeld("k", "b", "asks", effects, 0, "", TextDisplay("up.sh hub:me/a " + "x" * 500, ""))
    view = record(CHOSEN, UserSaid("c", "go"), asked(), reply, held, ToolAnswered("d", "k", False, "", "user"))
    [decided] = view.lane(MAIN).memory.decided
    assert decided.what.startswith("up.sh hub:me/a xxx")
    assert decided.what.endswith("x… (hub:me/c, hub:me/b, public)")
    assert len(decided.what) < 200


def test_what_a_person_said_and_decided_is_remembered():
    reply = ModelReplied("a", Reply((Call("k", "w", "tool", "{}"),)), None, 0, "calls")
    held = ToolHeld("k", "b", "asks", (), 0, "", TextDisplay("Which seed?", "1. 13"))
    view = record(CHOSEN, UserSaid("c", "go"), asked(), reply, held, ToolAnswered("d", "k", True, "take 42", "user"))
    memory = view.lane(MAIN).memory
    assert [(each.entry, each.text) for each in memory.said] == [(2, "go")]
    assert [(each.what, each.approve, each.text) for each in memory.decided] == [
        ("Which seed?: 1. 13", True, "take 42")
    ]
    assert record(CHOSEN, TurnEnded("done")).lane(MAIN).memory == Memory()
