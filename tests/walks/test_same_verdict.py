import asyncio
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import ml_intern
from ml_intern.record.events import ToolFinished
from ml_intern.sandbox.levels import Level
from tests.walks.outside import MARK, PLANTED, Outside, planted
from tests.walks.walk import Hearing, Walk, bash, everything_in, story

pytestmark = pytest.mark.xdist_group("verdicts")

FREE, LOOK, NEVER = "read and write", "read only", "neither"
WALL = r"outside|sandbox|read-only|protected|is a link|only .* can be written"
REMEDY = r"ask the person|tell the person|the person .*|Write (below|elsewhere)|Name .* itself|Leave it"
# Name of the row: what all tools may do there.
TABLE = {
    "a file of the workspace": FREE,
    "a file of the private home": FREE,
    "a file of the private /tmp": FREE,
    "a link inside the workspace": FREE,
    "a file of the system": LOOK,
    "our own code": LOOK,
    "a git hook": LOOK,
    "git's settings": LOOK,
    "our own settings": LOOK,
    "a shell's start file": LOOK,
    "a pipeline": LOOK,
    "a file beside the workspace": NEVER,
    "the same upwards": NEVER,
    "the same through a link": NEVER,
    "the same through a linked folder": NEVER,
    "the same through /proc": NEVER,
    "a file of the person's home": NEVER,
    "a login": NEVER,
    "another user's file": NEVER,
    "our record": NEVER,
    "a file of /etc that programs do not need": NEVER,
}


# Valid wherever it stands: also as settings, which are read at every start.
ONE = "# one\n"


def paths(outside: Outside) -> dict[str, str]:
    walk, secret = outside.walk, outside.secret
    work, home = walk.workspace, walk.home
    found = {
        "a file of the workspace": f"{work}/mine.txt",
        "a file of the private home": "~/mine.txt",
        "a file of the private /tmp": "/tmp/mine.txt",
        "a link inside the workspace": f"{work}/near",
        "a file of the system": "/usr/share/common-licenses/GPL-3",
        "our own code": f"{Path(ml_intern.__file__).parent}/sandbox/shims/uv",
        "a git hook": f"{work}/.git/hooks/pre-commit",
        "git's settings": f"{work}/.git/config",
        "our own settings": f"{work}/.ml-intern/settings.toml",
        "a shell's start file": f"{work}/.bashrc",
        "a pipeline": f"{work}/.github/workflows/ci.yml",
        "a file beside the workspace": str(secret),
        "the same upwards": "../outside/secret.txt",
        "the same through a link": f"{work}/way_out",
        "the same through a linked folder": f"{work}/ways_out/secret.txt",
        "the same through /proc": f"/proc/1/root{secret}",
        "a file of the person's home": f"{home}/notes.txt",
        "a login": f"{home}/.netrc",
        "another user's file": f"{outside.place}/another/theirs.txt",
        "our record": f"{walk.data}/sessions.db",
        "a file of /etc that programs do not need": "/etc/hostname",
    }
    assert found.keys() == TABLE.keys()
    return found


def furnish(outside: Outside) -> None:
    work = outside.walk.workspace
    for path in ("mine.txt", ".git/hooks/pre-commit", ".git/config", ".ml-intern/settings.toml", ".bashrc"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(ONE)
    (work / ".github" / "workflows").mkdir(parents=True)
    (work / ".github" / "workflows" / "ci.yml").write_text("one\n")
    system = [
        Path(path) for name, path in paths(outside).items() if "system" in name or "code" in name or "/etc" in name
    ]
    outside.kept |= {path: path.read_bytes() for path in system}
    (work / "near").symlink_to("mine.txt")
    (work / "way_out").symlink_to(outside.secret)
    (work / "ways_out").symlink_to(outside.place)


def five(path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The same path by every tool: two looks, then three changes."""
    word = path if path.startswith("~") else f"'{path}'"
    return [
        bash(f"cat {word}"),
        ("read", {"path": path}),
        bash(f"echo more >> {word}"),
        ("edit", {"path": path, "old_str": "one", "new_str": "two"}),
        ("write", {"path": path, "content": "three\n"}),
    ]


Verdicts = dict[str, list[ToolFinished]]


@pytest.fixture(scope="module")
def outside(walls: Level) -> Iterator[Outside]:
    # Not below /tmp, which is another folder for commands.
    with (
        tempfile.TemporaryDirectory(prefix="ml-intern-walk-", dir="/var/tmp") as place,
        planted(Walk(Path(place))) as it,
    ):
        yield it


@pytest.fixture(scope="module")
def verdicts(outside: Outside) -> Verdicts:
    furnish(outside)
    return asyncio.run(play(outside))


async def play(outside: Outside) -> Verdicts:
    walk = outside.walk
    named = paths(outside)
    first = [bash("echo one > ~/mine.txt; echo one > /tmp/mine.txt")]
    # Each on its own: what one call does must not hide what the next one may.
    steps = [[call] for path in named.values() for call in five(path)]
    async with Hearing(story(first, *steps)) as double:
        done = await walk.say(double, "try them all")
        assert done.code == 0, done.said
        assert not any(MARK.encode() in body for body in double.bodies)
    answers = (await walk.answers())[1:]
    await walk.close()
    assert MARK.encode() not in everything_in(walk.data)
    return {name: answers[5 * row : 5 * row + 5] for row, name in enumerate(named)}


def worked(answers: list[ToolFinished]) -> list[str]:
    return [answer.text for answer in answers if answer.outcome == "ok"]


@pytest.mark.parametrize("name", [name for name, access in TABLE.items() if access is NEVER])
def test_what_lies_outside_is_refused_to_every_tool(verdicts: Verdicts, name: str):
    assert worked(verdicts[name]) == []


@pytest.mark.parametrize("name", [name for name, access in TABLE.items() if access is LOOK])
def test_what_is_read_only_is_shown_by_every_tool_and_changed_by_none(verdicts: Verdicts, name: str):
    by_command, by_read, *changes = verdicts[name]
    assert (by_command.outcome, by_read.outcome) == ("ok", "ok"), (by_command.text, by_read.text)
    assert worked(changes) == []


@pytest.mark.parametrize("name", [name for name, access in TABLE.items() if access is FREE])
def test_what_is_ours_is_open_to_every_tool(verdicts: Verdicts, name: str):
    # A command changes the file before the edit, which is refused until it is read again: that is no wall.
    by_command, by_read, appended, *_ = verdicts[name]
    assert (by_command.outcome, appended.outcome) == ("ok", "ok")
    assert by_read.outcome == ("failed" if "link" in name else "ok"), by_read.text


@pytest.mark.parametrize("name", [name for name, access in TABLE.items() if access is not FREE])
def test_each_refusal_names_the_wall_and_the_way_around(verdicts: Verdicts, name: str):
    refused = [answer.text for answer in verdicts[name] if answer.outcome != "ok"]
    assert [text for text in refused if not re.search(WALL, text, re.DOTALL)] == []
    assert [text for text in refused if not re.search(REMEDY, text, re.DOTALL)] == []


def test_nothing_outside_was_changed(outside: Outside, verdicts: Verdicts):
    assert outside.changed() == []
    assert not (outside.place / PLANTED).exists()
    work = outside.walk.workspace
    for path in (".git/hooks/pre-commit", ".git/config", ".ml-intern/settings.toml", ".bashrc"):
        assert (work / path).read_text() == ONE
