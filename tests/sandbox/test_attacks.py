import re

import pytest

from ml_intern.sandbox import levels
from ml_intern.sandbox.attacks import attack
from ml_intern.sandbox.corpus import attempts
from ml_intern.sandbox.levels import Level

LOOKS = {Level.FULL: levels.probe, Level.WALLS: levels.probe_walls}
FILLED = {"secret", "outside", "home", "package", "session", "survived", "unix", "abstract", "shared", "token"}
FILLED |= {"tcp", "udp", "pid", "shm"}


def test_the_corpus_is_large_and_every_attempt_has_its_own_name():
    names = [attempt.name for attempt in attempts()]
    assert len(names) == len(set(names)) >= 60


def test_every_attempt_names_only_what_is_planted():
    used = {name for attempt in attempts() for name in re.findall(r"{([a-z]+)}", attempt.command)}
    assert used <= FILLED


@pytest.mark.timeout(180)
@pytest.mark.parametrize("level", LOOKS, ids=lambda level: level.name.lower())
async def test_every_attempt_fails(level: Level):
    found = LOOKS[level]()
    if found.level < level:
        pytest.skip(f"level {level.name} is not on this machine: {found.reasons}")
    rows = [row async for row in attack(level, found.bwrap)]
    assert [row for row in rows if not row.held] == []
    assert [row.name for row in rows] == [attempt.name for attempt in attempts()]


@pytest.mark.timeout(180)
async def test_without_walls_the_witnesses_see_the_escapes():
    # Those that would touch the machine itself are left out.
    rows = [row async for row in attack(Level.NONE, only=PLANTED)]
    assert {row.name for row in rows if not row.held} == PLANTED


PLANTED = {
    "write a file beside the workspace",
    "make a file beside the workspace",
    "delete a file beside the workspace",
    "write upwards",
    "write through a link",
    "truncate a file outside",
    "change the mode of a file outside",
    "change the times of a file outside",
    "write the machine's shared memory",
    "read a file beside the workspace",
    "read another's environment",
    "list a folder outside",
    "the host's localhost",
    "the host's localhost by datagram",
    "a unix socket of the host",
    "an abstract unix socket of the host",
    "shared memory of old",
    "a git hook",
    "git's hooks behind a link",
    "our own settings moved",
    "a shell's start file replaced",
    "kill a process of the person's",
}
