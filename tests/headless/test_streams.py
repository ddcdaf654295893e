import asyncio
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ml_intern.base.errors import Unauthorised
from ml_intern.headless.exits import Exit
from ml_intern.headless.run import OutputFormat, Run
from ml_intern.sandbox.levels import Level, probe
from tests.agent.stage import says
from tests.headless.door import Door
from tests.walks.walk import BIN, MODEL, Hearing, Walk, story

FULL = "/dev/full"


@contextmanager
def leading_to(monkeypatch: pytest.MonkeyPatch, name: str, where: str) -> Generator[None]:
    """stdout or stderr `closed`, `full`, or a pipe whose reader has `left`; at the end its buffer must be empty."""
    if where == "closed":
        monkeypatch.setattr(sys, name, None)
        yield
        return
    if where == "left":
        receiving, end = os.pipe()
        os.close(receiving)
    else:
        end = os.open(FULL, os.O_WRONLY)
    with os.fdopen(end, "w", encoding="utf-8", buffering=1) as stream:
        monkeypatch.setattr(sys, name, stream)
        yield
        stream.flush()


@pytest.mark.parametrize("where", ["closed", "full", "left"])
@pytest.mark.parametrize("output", ["text", "json", "stream-json"])
def test_a_run_goes_to_its_end_without_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str, output: OutputFormat
):
    with leading_to(monkeypatch, "stderr", where):
        assert Door().run(Run("what is it?", output), says("It is 42.")) is Exit.DONE
    out = capsys.readouterr().out
    assert (out if output == "text" else json.loads(out.splitlines()[-1])["text"]).strip() == "It is 42."


@pytest.mark.parametrize("where", ["closed", "full", "left"])
@pytest.mark.parametrize("output", ["text", "json", "stream-json"])
@pytest.mark.parametrize(
    ("outcome", "code"), [(says("It is 42."), Exit.DONE), (Unauthorised("No key.", "Set it."), Exit.FAILED)]
)
def test_a_run_goes_to_its_own_end_without_stdout(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    output: OutputFormat,
    outcome: object,
    code: Exit,
):
    with leading_to(monkeypatch, "stdout", where):
        assert Door().run(Run("what is it?", output), outcome) is code
    err = capsys.readouterr().err
    assert ("step 1: It is 42." in err) is (code is Exit.DONE)
    told = "ml-intern: stdout takes nothing (No space left on device)."
    # Nothing goes to stdout where there is no answer and only that was wanted.
    empty = output == "text" and code is Exit.FAILED
    assert err.count(told) == (1 if where == "full" and not empty else 0)


def test_a_run_that_can_tell_nobody_keeps_its_code(monkeypatch: pytest.MonkeyPatch):
    with leading_to(monkeypatch, "stdout", "full"), leading_to(monkeypatch, "stderr", "full"):
        assert Door().run("what is it?", says("It is 42.")) is Exit.DONE


@pytest.mark.parametrize(
    ("redirection", "out"),
    [
        ("2>&-", b"It is 42.\n"),
        ("2>/dev/full", b"It is 42.\n"),
        ("2> >(exec true)", b"It is 42.\n"),
        ("<&- 2>&-", b"It is 42.\n"),
        (">&-", b""),
        (">/dev/full", b""),
        ("> >(exec true)", b""),
        (">&- 2>&-", b""),
        (">/dev/full 2>&1", b""),
    ],
)
async def test_a_stream_that_is_closed_full_or_left_costs_no_run(tmp_path: Path, redirection: str, out: bytes):
    found = probe()
    if found.level < Level.WALLS:
        pytest.skip(f"this machine's sandbox level is {found.level.name}: {found.reasons}")
    walk = Walk(tmp_path)
    async with Hearing(story(end="It is 42.")) as double:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f'"$0" "$@" {redirection}', str(BIN), "what is it?", *MODEL, "--base-url", double.url),
            cwd=walk.workspace,
            env=walk.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        got, err = await process.communicate()
        asked = len(double.exchanges)
    await walk.close()
    assert (asked, process.returncode) == (1, 0), err.decode()
    assert b"Traceback" not in err
    assert got == out
