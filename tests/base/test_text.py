import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.text import clip, one_line, plain, visible

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


def test_one_line_is_one_line():
    assert one_line(" a\n b\t c ", 10) == "a b c"
    assert one_line("abcdefghij", 5) == "abcd…"
    assert one_line("abcde", 5) == "abcde"
