import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_intern.record.titles import MOST_CHARS, clean_title, title_of


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("gamma", "gamma"),
        ("Please fine-tune Qwen on my data.", "fine-tune Qwen on my data"),
        ("Hi! Could you please train a classifier? It should be small.", "train a classifier"),
        ("# Task\n\nTrain it", "Task"),
        ("\n\n- **Compare** `a.py` and [b](https://x.y/z)", "Compare a.py and b"),
        ("```python\nprint(1)\n```\nWhy does this fail", "Why does this fail"),
        ("Fix v1.5 of the loader, now", "Fix v1.5 of the loader, now"),
        ("   \n\t ", ""),
        ("...", ""),
        ("please", "please"),
        ("\x1b[31mred\x1b[0m alert", "red alert"),
        ("列車を訓練する", "列車を訓練する"),
    ],
)
def test_a_title_is_what_the_first_message_asks_for_without_its_wrapping(said, title):
    assert title_of(said) == title


def test_a_long_title_ends_at_a_word():
    title = title_of("train " + "many different words " * 10)
    assert len(title) <= MOST_CHARS
    assert title.endswith("words…") or title.endswith("many…") or title.endswith("different…")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_one_short_line(said):
    for title, most in ((title_of(said), MOST_CHARS), (clean_title(said), 2 * MOST_CHARS)):
        assert len(title) <= most
        assert len(title.splitlines()) <= 1
        assert title == title.strip()
