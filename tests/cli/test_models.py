"""The table of models, from rows."""

from ml_intern.app.offers import Offer
from ml_intern.cli.models import table


def offer(**more) -> Offer:
    usual = dict.fromkeys(("window", "input", "output", "tools", "images", "thinking"), None)
    facts = {"id": "hf/a/b", "provider": "hf", "source": "router", "where": "live: x", "key": "HF_TOKEN", **usual}
    return Offer(**{**facts, "has_key": True, **more})


def test_what_is_unknown_is_a_question_and_what_it_cannot_a_dash():
    head, unknown, known = table([offer(), offer(tools=False, window=8192, input=250_000, output=12_000_000)])
    assert unknown.split() == ["hf/a/b", "?", "?", "?", "live:", "x", "HF_TOKEN"]
    assert known.split() == ["hf/a/b", "8,192", "0.25/12", "-", "live:", "x", "HF_TOKEN"]
    assert len({line.index(word) for line, word in ((head, "served"), (unknown, "live"), (known, "live"))}) == 1


def test_what_costs_nothing_is_free():
    assert "  free  " in table([offer(input=0, output=0)])[1]
    assert "  0/1  " in table([offer(input=0, output=1_000_000)])[1]


def test_a_row_of_a_server_cannot_forge_the_screen():
    forged = "x\x1b[2J\nollama/y"
    lines = table([offer(id=forged, where=forged, key=forged)])
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
    assert "\n" not in lines[1]


def test_a_long_list_of_providers_is_cut():
    line = table([offer(where="live: " + ", ".join(f"provider{n}" for n in range(20)))])[1]
    assert "…  HF_TOKEN" in line
    assert len(line) < 120
