"""What an opened session brings along for the door: pictures to be said, what it learned of its server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ml_intern.base.ids import new_id
from ml_intern.headless.exits import Exit
from ml_intern.headless.run import Run
from ml_intern.model.port import Request
from ml_intern.record.commands import Say
from ml_intern.record.messages import Asked, Image
from tests.agent.stage import says
from tests.headless.door import Door
from tests.headless.made import NASTY, SPELLED


def test_pictures_that_the_launch_brought_along_are_said_with_the_prompt():
    picture = Image("0" * 64, "image/png")
    door = Door(opened={"images": (picture,)})
    assert door.run("look", says("A curve.")) is Exit.DONE
    assert door.stage.model.requests[0].messages == [Asked("look", (picture,))]


def test_what_was_learned_of_the_server_is_told_once_at_the_end(capfd: pytest.CaptureFixture[str]):
    facts = ["learned: m takes no tools", f"learned: {NASTY}\n  ok      forged"]
    door = Door(opened={"learned": lambda: facts})
    assert door.run("go", says("Done.")) is Exit.DONE
    told = capfd.readouterr().err.splitlines()
    assert told[-2:] == ["learned: m takes no tools", f"learned: {SPELLED}\\n  ok      forged"]
    assert door.run(Run("go", quiet=True), says("Done.")) is Exit.DONE
    assert "learned" not in capfd.readouterr().err


def test_what_comes_in_as_the_turn_comes_to_rest_is_worked_on_with_the_entrance_open():
    open_now, seen = [False], list[bool]()

    @asynccontextmanager
    async def entrance() -> AsyncGenerator[None]:
        open_now[0] = True
        yield
        open_now[0] = False
        if len(seen) == 1:
            assert await door.stage.session.send(Say(new_id(), "and this")) is None

    async def late(_: Request) -> Any:
        seen.append(open_now[0])
        yield says(f"Answer {len(seen)}.")

    door = Door(opened={"entrance": entrance})
    assert door.run("go", late, late) is Exit.DONE
    assert seen == [True, True]


def test_what_a_person_may_want_to_know_is_left_out_where_they_asked_for_quiet(capfd: pytest.CaptureFixture[str]):
    door = Door(opened={"hint": f"1 skill was left out {NASTY}"})
    assert door.run(Run("go"), says("Done.")) is Exit.DONE
    assert f"1 skill was left out {SPELLED}\n" in capfd.readouterr().err
    assert door.run(Run("go", quiet=True), says("Done.")) is Exit.DONE
    assert "skill" not in capfd.readouterr().err
