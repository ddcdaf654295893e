"""The price file is what the library says, compact and quick to read."""

import json
import subprocess
import sys
import time
from datetime import date

import pytest

from ml_intern.model.pricelist import FILE, find, find_dearest, is_match, names
from ml_intern.record.messages import Prices
from scripts import make_prices


def test_the_file_is_what_the_library_says_as_of_its_date():
    made = json.loads(FILE.read_text())
    assert make_prices.text_of(make_prices.table(date.fromisoformat(made["date"]))) == FILE.read_text()


def test_the_file_is_compact():
    assert FILE.stat().st_size <= 400_000


def test_a_look_is_quick():
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        assert find("openrouter", "no such model") is None
        times.append(time.perf_counter() - begun)
    assert min(times) <= 0.015


def test_nothing_is_read_at_import():
    code = (
        "import sys\nread = []\n"
        "sys.addaudithook(lambda event, args: read.append(str(args[0])) if event == 'open' else None)\n"
        "import ml_intern.model.catalog, ml_intern.model.prices\n"
        "assert not [name for name in read if name.endswith('prices.json')]\n"
        "assert 'httpx2' not in sys.modules and 'asyncio' not in sys.modules, 'heavy'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_known_models_are_found():
    found = find("openai", "gpt-5")
    assert found is not None
    assert (found.prices.input, found.prices.output, found.prices.cache_read) == (1_250_000, 10_000_000, 125_000)
    assert found.window == 400_000
    assert "genai-prices" in found.prices.source


def test_a_threshold_is_kept():
    found = find("openai", "gpt-5.4")
    assert found is not None
    assert (found.prices.long_from, found.prices.long_input, found.prices.long_output) == (
        272_001,
        5_000_000,
        22_500_000,
    )


def test_case_does_not_matter():
    assert find("openai", "GPT-5") == find("openai", "gpt-5")


def test_what_is_not_listed_is_unknown():
    assert find("openai", "no-such-model") is None
    assert find("no-such-provider", "gpt-5") is None
    assert find_dearest("huggingface_", "no/such") is None


def test_embeddings_are_no_chat_models():
    assert find("openai", "text-embedding-3-small") is None


def test_of_a_router_the_dearest_row_holds():
    dearest = find_dearest("huggingface_", "Qwen/Qwen3-32B")
    rows = [found for name in providers() if (found := find(name, "Qwen/Qwen3-32B"))]
    assert len(rows) > 1
    assert dearest is not None
    assert dearest.prices.input == max(row.prices.input for row in rows)
    assert dearest.prices.output == max(row.prices.output for row in rows)
    assert dearest.window == min(row.window for row in rows if row.window)


def providers():
    return [name for name in json.loads(FILE.read_text())["providers"] if name.startswith("huggingface_")]


def test_a_row_that_is_written_here_is_read_as_prices():
    rows = json.loads(FILE.read_text())["providers"]
    assert all(
        isinstance(Prices(*row[2:]).input, int) and all(value is None or value >= 0 for value in row[2:])
        for models in rows.values()
        for row in models
    )


@pytest.mark.parametrize(
    ("match", "name", "holds"),
    [
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "gpt-5-mini", False),
        ("^gpt-5", "gpt-5-mini", True),
        ("$mini", "gpt-5-mini", True),
        ("*5-m", "gpt-5-mini", True),
        ("~^gpt-\\d$", "gpt-5", True),
        (["a", "^b"], "bc", True),
        (["&", "^b", "$d"], "bcd", True),
        (["&", "^b", "$d"], "bc", False),
        (["a", ["&", "^b", "$d"]], "bd", True),
    ],
)
def test_matches(match, name, holds):
    assert is_match(match, name) is holds


def test_names_are_ones_that_can_be_typed_or_the_beginning_of_one():
    found = names()
    assert found["openai"]["gpt-5"] == find("openai", "gpt-5")
    assert found["anthropic"]["claude-opus-4-1*"].window == 200_000
    assert not [name for rows in found.values() for name in rows if name[:1] in "^$~&" or not name]
    for provider, rows in found.items():
        for name in rows:
            assert find(provider, name.removesuffix("*").lower()) is not None, (provider, name)
