import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.text import clip, one_line, plain, visible, visible_line

lines = st.lists(st.text(st.characters(exclude_characters="\n"), max_size=30), max_size=30).map("\n".join)


@given(lines, st.integers(0, 200), st.floats(0, 1))
def test_clipping_keeps_head_and_tail_and_counts_what_it_left_out(text, budget, share):
    clipped, omitted = clip(text, budget, head_share=share)
    if len(text) <= budget:
        assert (clipped, omitted) == (text, 0)
        return
    marker = f"\n[... {omitted:,} characters left out ...]\n"
    head, _, tail = clipped.rpartition(marker)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) + omitted == len(text)
    assert len(head) + len(tail) <= budget


def test_clipping_cuts_at_line_ends_and_says_how_to_go_on():
    text = "\n".join(f"line {number:03}" for number in range(100))
    clipped, _ = clip(text, 200, note="page with offset")
    head, tail = clipped.split("\n[... ", 1)
    assert head.splitlines()[-1] in text.splitlines()
    assert tail.splitlines()[1] in text.splitlines()
    assert "characters left out; page with offset ...]" in clipped


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r50%\r100%\nnext", "100%\nnext"),
        ("10%\r100%\r\ndone\r", "100%\ndone"),
        ("plain", "plain"),
    ],
)
def test_plain_text_has_no_escapes_and_the_last_state_of_progress_bars(raw, shown):
    assert plain(raw) == shown


@given(st.text())
def test_plain_text_holds_no_escape_sequence_start_of_colour(text):
    assert "\x1b[31m" not in plain(text.replace("\x1b", "") + "\x1b[31mx")


def test_what_cannot_be_seen_is_spelled_out():
    assert visible("rm\u202e -rf\x1b[2K\u200b") == "rm\\u202e -rf\\x1b[2K\\u200b"
    assert visible("tab\tand\nline é") == "tab\tand\nline é"
    assert visible("over\rwritten") == "over\\rwritten"


@pytest.mark.parametrize(
    "unseen",
    [
        *("\u00ad", "\u061c", "\u180e", "\u200b", "\u200d", "\u2028", "\u2060"),
        *("\u2069", "\ufe0f", "\ufeff", "\U000e0001", "\U000e0041", "\U000e007f"),
    ],
)
def test_a_character_that_shows_nothing_is_spelled_out_wherever_it_stands(unseen):
    for text in (f"a{unseen}b", f"{unseen}b", f"a{unseen}", f"a{unseen}\U0001f600"):
        assert unseen not in visible(text)
        assert text.replace(unseen, unseen.encode("unicode_escape").decode()) == visible(text)


@pytest.mark.parametrize("emoji", ["❤️", "👩‍🔬", "🏳️‍🌈", "👨🏽‍💻", "1️⃣", "👨‍👩‍👧", "↔️"])
def test_an_emoji_stays_whole(emoji):
    assert visible(f"so {emoji} it is") == visible_line(f"so {emoji} it is") == f"so {emoji} it is"


def test_what_hides_behind_an_emoji_is_spelled_out():
    assert visible("👩\u200d rm") == "👩\\u200d rm"
    assert visible("❤\ufe0f\ufe0f") == "❤\ufe0f\\ufe0f"


@given(st.text())
def test_a_line_stays_one_line_and_what_is_seen_stays_as_it_is(text):
    line = visible_line(text)
    assert len(line.splitlines()) <= 1
    assert visible_line(line) == line
    assert "\t" not in line
    assert visible(text).replace("\n", "\\n").replace("\t", "\\t") == line


def test_one_line_is_one_line():
    assert one_line(" a\n b\t c ", 10) == "a b c"
    assert one_line("abcdefghij", 5) == "abcd…"
    assert one_line("abcde", 5) == "abcde"
