"""A name, a path, a title or words from outside never begin a line of their own, nor move the cursor."""

import sys
from collections.abc import Callable

import pytest

from ml_intern.base.errors import BadSettings
from ml_intern.cli import records
from ml_intern.cli.details import detail_lines, table_lines
from ml_intern.headless.streams import complain
from ml_intern.record.display import LinkDisplay, LogDisplay, TableDisplay
from ml_intern.record.events import Event, ModelAsked, UserSaid
from tests.headless.made import NASTY, SPELLED, UNSEEN, entry, replied
from tests.walks.walk import Hearing, Walk, bash, step, story

FORGED = "  ok      forged  1.0 s"
EVIL = f"a\n{FORGED}\nbudget: $999.00\x1b[2K\u202e"


def test_what_went_wrong_is_one_line_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]):
    complain(BadSettings(f"There is no {EVIL}{NASTY}.", f"Say it otherwise {NASTY}.\nOr not."))
    told = capsys.readouterr().err
    assert [line.split(" ")[0] for line in told.splitlines()] == ["ml-intern:", "Say", "Or"]
    assert SPELLED in told
    assert not set(told) & UNSEEN


@pytest.mark.parametrize(
    "lines",
    [
        lambda: table_lines([("NAME", "OF"), (EVIL, "x")]),
        lambda: detail_lines(TableDisplay("t", ("NAME",), ((EVIL,), (NASTY,))), None),
        lambda: detail_lines(LinkDisplay("t", EVIL), None),
        lambda: detail_lines(LogDisplay("t", EVIL), None),
    ],
    ids=["table", "rows", "link", "log"],
)
def test_a_cell_and_an_address_begin_no_line(lines: Callable[[], list[str]]):
    told = lines()
    assert not any("\n" in line or set(line) & UNSEEN or line == FORGED for line in told)


def test_a_reply_is_told_from_our_own_lines(capsys: pytest.CaptureFixture[str]):
    asked = ModelAsked("a", "main", "m", 0, 0, 0, "h")
    said: tuple[Event, ...] = (UserSaid("c", EVIL), asked, replied(f"I look.\n{FORGED.strip()}\n{FORGED}"))
    records._print([entry(event, seq) for seq, event in enumerate(said, 1)], "", None)
    lines = capsys.readouterr().out.splitlines()
    assert FORGED not in lines
    assert f"  | {FORGED.strip()}" in lines


async def test_nothing_that_a_stranger_wrote_forges_a_line(walk: Walk):
    folder = walk.place / EVIL.replace("/", "")
    (folder / EVIL).mkdir(parents=True)
    said = f"I look.\n{FORGED}\nok      forged  1.0 s\nbudget: $999.00"
    script = [
        step(0, ("read", {"path": "."}), ("read", {"path": EVIL}), ("read", {"path": f"{EVIL}/none"}), text=said),
        step(
            1, bash(f"echo '{EVIL}'; printf '{FORGED}'"), (EVIL, {}), ("write", {"path": f"{EVIL}/f", "content": "x"})
        ),
        step(2, text=said),
    ]
    async with Hearing(script) as double:
        done = await walk.say(double, EVIL, cwd=folder)
        assert (done.code, done.out) == (0, f"{said}\n"), done.said
    listed, shown = await walk.run("sessions"), await walk.run("show")
    renamed = await walk.run("sessions", "rename", "last", EVIL)
    for told in (done.err, listed.out, shown.out, renamed.out):
        lines = told.splitlines()
        assert FORGED not in lines
        assert not any(line.startswith(("ok", "budget: $999")) for line in lines)
        assert not set(told) & UNSEEN
    assert len(listed.out.splitlines()) == 2
    around, inside = (answer.text.splitlines() for answer in (await walk.answers())[:2])
    assert FORGED not in (*around, *inside)
    assert sum("forged" in line for line in around) == 2
    assert len(inside) == 1


async def test_on_a_terminal_the_answer_moves_no_cursor_in_a_pipe_it_stays_as_it_is(walk: Walk):
    terminal = (sys.executable, "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)")
    async with Hearing(story(end=f"It is {NASTY}.")) as double:
        piped = await walk.say(double, "go")
        typed = await walk.say(double, "go", before=terminal)
    assert (piped.out, typed.code) == (f"It is {NASTY}.\n", 0), typed.said
    assert f"It is {SPELLED}." in typed.out
    assert "\x1b[2K" not in typed.out
