"""The program answers at once: what it does not need is not imported, and it starts within twice its floor."""

import os
import statistics
import subprocess
import sys
import time

import pytest

OURS = "from ml_intern.cli.main import main; main()"
FLOOR = "import click"
HEAVY = ("asyncio", "httpx2", "keyring", "pydantic", "pydantic_ai", "sqlite3", "ml_intern.session", "ml_intern.tools")
RATIO = 2.0
PAIRS = 7


def start(code: str, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    # A machine that is told not to write bytecode would compile our sources at every start: not what a user has.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *flags, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_nothing_heavy_is_imported_for(argument):
    imported = start(OURS, argument, flags=("-X", "importtime")).stderr
    names = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "click" in names
    assert {name for name in names if name.startswith(HEAVY)} == set()


def test_nothing_of_an_extra_is_imported_on_the_way_of_a_run():
    ours = "import ml_intern.cli.start, ml_intern.app.wire, ml_intern.model.wire.chat, ml_intern.model.wire.messages"
    found = "import sys; print([name for name in sys.modules if name.startswith(('pydantic_ai', 'keyring', 'openai'))])"
    assert start(f"{ours}; {found}").stdout == "[]\n"


@pytest.mark.speed
def test_help_is_there_within_twice_the_import_of_click():
    # The machine may be busy: the better of two medians of paired runs counts.
    assert min(ratio(), ratio()) <= RATIO


def ratio() -> float:
    start(OURS, "--help")
    return statistics.median(seconds(OURS, "--help") / seconds(FLOOR) for _ in range(PAIRS))


def seconds(code: str, *arguments: str) -> float:
    begun = time.perf_counter()
    start(code, *arguments)
    return time.perf_counter() - begun
