"""What an opened session brings along for the door: pictures to be said, what it learned of its server."""

import pytest

from ml_intern.headless.exits import Exit
from ml_intern.headless.run import Run
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
