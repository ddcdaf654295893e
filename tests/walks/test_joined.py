"""Texts that join the prompt, through the real command line: told, framed, cleaned, kept over a resume, used inside."""

import json
import os

import pytest

from ml_intern.record.events import Nudged
from tests.walks.walk import Hearing, Walk, bash, step, story

SECRET = "hf_" + "s" * 34
SKILL = "---\nname: {0}\ndescription: Counts things for {0}.\n---\nRun scripts/count.sh.\n"


def system(body: bytes) -> str:
    return json.loads(body)["messages"][0]["content"]


def skill(folder, name: str) -> None:
    (folder / name / "scripts").mkdir(parents=True)
    (folder / name / "SKILL.md").write_text(SKILL.format(name))
    (folder / name / "scripts/count.sh").write_text("echo counted by $0\n")


async def test_what_is_there_joins_the_prompt_and_is_told_in_the_start_line(walk: Walk):
    (walk.workspace / "AGENTS.md").write_text("Use ruff.\n")
    (walk.workspace / "MEMORY.md").write_text(f"- the token was {SECRET}\n")
    skill(walk.workspace / ".agents/skills", "tally")
    (walk.workspace / ".agents/skills/Bad").mkdir()
    async with Hearing(story()) as double:
        done = await walk.say(double, "hi", env={"HF_TOKEN": SECRET})
    assert done.code == 0, done.said
    text = system(double.bodies[0])
    assert "told AGENTS.md (10 B), MEMORY.md (" in done.err
    assert ", 1 skill\n" in done.err
    assert "1 skill was left out; `ml-intern skills` says why.\n" in done.err
    assert "Use ruff." in text
    assert "it is no message of the user" in text
    assert "- tally (.agents/skills/tally/SKILL.md): Counts things for tally." in text
    assert "the token was [secret:HF_TOKEN]" in text
    assert SECRET not in text
    assert "Budget: $5.00" in text


@pytest.mark.parametrize("level", ["full", "walls"])
async def test_a_skill_of_the_user_is_read_and_run_inside_and_cannot_be_changed(walk: Walk, level):
    own = walk.home / ".config/ml-intern/skills"
    skill(own, "tally")
    path = os.path.realpath(own / "tally")
    steps = [
        [("read", {"path": f"{path}/SKILL.md"})],
        [bash(f"sh {path}/scripts/count.sh; echo x > {path}/SKILL.md || echo kept")],
    ]
    async with Hearing(story(*steps)) as double:
        done = await walk.say(double, "count", "--level", level)
    assert done.code == 0, done.said
    assert f"- tally ({path}/SKILL.md)" in system(double.bodies[0])
    read, ran = await walk.answers()
    assert "Run scripts/count.sh." in read.text
    assert f"counted by {path}/scripts/count.sh" in ran.text
    assert "kept" in ran.text
    assert (own / "tally/SKILL.md").read_text() == SKILL.format("tally")


async def test_a_resume_tells_the_same_prompt_and_what_changed(walk: Walk):
    agents = walk.workspace / "AGENTS.md"
    agents.write_text("Use ruff.\n")
    async with Hearing([step(number, text="Done.") for number in range(3)]) as double:
        assert (await walk.say(double, "hi")).code == 0
        agents.write_text("Use black.\n")
        again = await walk.run("resume", "last", "go on", "--budget", "7")
        more = await walk.run("resume", "last", "go on")
    assert (again.code, more.code) == (0, 0), again.said
    assert len({system(body) for body in double.bodies}) == 1, "the prefix stays cached"
    assert "Use black." not in system(double.bodies[-1])
    told = [each.event.text for each in await walk.entries() if isinstance(each.event, Nudged)]
    assert told == [
        "The budget of the session is now $7.00; $7.00 of it is left.",
        "AGENTS.md has changed since the session began: look at it again before you rely on it.",
    ]


async def test_nothing_joins_where_it_is_turned_off(walk: Walk):
    (walk.workspace / "AGENTS.md").write_text("Use ruff.\n")
    (walk.workspace / "MEMORY.md").write_text("- it worked\n")
    async with Hearing(story()) as double:
        none = await walk.say(double, "hi", "--join", "none")
        some = await walk.say(double, "hi", env={"ML_INTERN_JOIN": "memory"})
        wrong = await walk.say(double, "hi", "--join", "memroy")
    assert (none.code, some.code, wrong.code) == (0, 0, 2)
    texts = [system(body) for body in double.bodies]
    assert ["Use ruff" in text for text in texts] == [False, False]
    assert ["MEMORY.md" in text for text in texts] == [False, True]
    assert "told" not in none.err
    assert "--join: nothing that is called 'memroy' can join." in wrong.err
    assert "memory" in wrong.err


async def test_a_workspaces_settings_may_leave_texts_out_and_not_bring_them_back(walk: Walk):
    (walk.workspace / "AGENTS.md").write_text("Use ruff.\n")
    (walk.workspace / ".ml-intern").mkdir()
    file = walk.workspace / ".ml-intern/settings.toml"
    mine = walk.home / ".config/ml-intern/settings.toml"
    mine.parent.mkdir(parents=True)
    async with Hearing(story()) as double:
        file.write_text("join = []\n")
        assert (await walk.say(double, "hi")).code == 0
        file.write_text('join = ["instructions"]\n')
        mine.write_text('join = ["memory"]\n')
        looser = await walk.say(double, "hi")
    assert "Not trusted, so ignored: join in" in looser.err
    assert ["Use ruff" in system(body) for body in double.bodies] == [False, False]


async def test_skills_are_listed_with_their_source_and_their_faults(walk: Walk):
    assert "No skills: put folders with a SKILL.md" in (await walk.run("skills")).err
    skill(walk.workspace / ".agents/skills", "tally")
    skill(walk.home / ".config/ml-intern/skills", "plot")
    (walk.workspace / ".ml-intern/skills/none").mkdir(parents=True)
    done = await walk.run("skills")
    assert done.code == 0
    rows = [line.split(None, 2) for line in done.out.splitlines()]
    assert rows == [["plot", "yours", "Counts things for plot."], ["tally", "workspace", "Counts things for tally."]]
    assert done.err == "left out: .ml-intern/skills/none: It has no SKILL.md.\n"
    found = [json.loads(line) for line in (await walk.run("skills", "--json")).out.splitlines()]
    assert [row["fault"] for row in found] == [None, None, "It has no SKILL.md."]
    assert (await walk.run("skills", "--cwd", "nowhere")).code == 2


async def test_memory_is_shown_edited_and_cleared(walk: Walk):
    path = walk.workspace / "MEMORY.md"
    empty = await walk.run("memory")
    assert (empty.code, empty.out) == (0, "")
    assert "nothing is remembered yet" in empty.err
    assert (await walk.run("memory", "--edit", env={"EDITOR": "", "VISUAL": ""})).code == 2
    assert (await walk.run("memory", "--edit", env={"EDITOR": "sh -c 'echo - it worked >> \"$0\"'"})).code == 0
    shown = await walk.run("memory")
    assert shown.out == path.read_text()
    assert shown.out.startswith("# Memory\n")
    assert shown.out.endswith("- it worked\n")
    failed = await walk.run("memory", "--edit", env={"EDITOR": "false"})
    assert (failed.code, failed.err) == (1, "ml-intern: The editor false ended with code 1.\n")
    assert (await walk.run("memory", "--edit", "--clear")).code == 2
    cleared = await walk.run("memory", "--clear")
    assert "is kept in" in cleared.out
    assert (path.exists(), (walk.workspace / "MEMORY.md.old").exists()) == (False, True)
    assert (await walk.run("memory", "--clear")).code == 0
    path.symlink_to("/etc/passwd")
    assert (await walk.run("memory")).code == 2
    assert (await walk.run("memory", "--edit", env={"EDITOR": "cat"})).code == 2


async def test_what_a_session_remembers_the_next_one_is_told(walk: Walk):
    line = "- lr 3e-4 diverged at step 400 (session 01OLD)\n"
    async with Hearing(story([("write", {"path": "MEMORY.md", "content": line})])) as double:
        assert (await walk.say(double, "train")).code == 0
        assert not [each for each in await walk.entries() if isinstance(each.event, Nudged)], (
            "its own change is no news"
        )
        assert (await walk.say(double, "train on")).code == 0
    assert [line.strip() in system(body) for body in double.bodies] == [False, False, True, True]


async def test_a_secret_cannot_be_remembered(walk: Walk):
    async with Hearing(story([("write", {"path": "MEMORY.md", "content": f"- token {SECRET}"})])) as double:
        assert (await walk.say(double, "train", env={"HF_TOKEN": SECRET})).code == 6
    assert not (walk.workspace / "MEMORY.md").exists()
    (answer,) = await walk.answers()
    assert answer.outcome != "ok"


async def test_instructions_of_a_folder_are_told_when_a_file_there_is_looked_at(walk: Walk):
    (walk.workspace / "lib").mkdir()
    (walk.workspace / "lib/AGENTS.md").write_text("No prints.\n")
    (walk.workspace / "lib/a.py").write_text("x = 1\n")
    async with Hearing(story([("read", {"path": "lib/a.py"})], [("read", {"path": "lib/a.py"})])) as double:
        done = await walk.say(double, "look")
    assert done.code == 0, done.said
    assert "told the model (what changed): lib/AGENTS.md holds instructions for lib/" in done.err
    assert "No prints." not in system(double.bodies[-1])
    assert len([each for each in await walk.entries() if isinstance(each.event, Nudged)]) == 1


async def test_an_editor_that_is_not_there_leaves_no_memory_behind_and_each_old_one_is_kept(walk: Walk):
    path = walk.workspace / "MEMORY.md"
    missing = await walk.run("memory", "--edit", env={"EDITOR": "no-such-editor --wait"})
    assert (missing.code, path.exists()) == (2, False)
    assert "The editor no-such-editor is not there.\nSet EDITOR to one that is.\n" in missing.err
    for name, text in (("MEMORY.md.old", "one\n"), ("MEMORY.md.old2", "two\n"), ("MEMORY.md.old3", "three\n")):
        path.write_text(text)
        cleared = await walk.run("memory", "--clear")
        assert cleared.out == f"Cleared. What it held is kept in {walk.workspace / name}.\n", cleared.said
    assert [(walk.workspace / f"MEMORY.md.old{end}").read_text() for end in ("", "2", "3")] == [
        "one\n",
        "two\n",
        "three\n",
    ]
    path.mkdir()
    refused = await walk.run("memory", "--clear")
    assert (refused.code, "is a folder, no memory.\nMove it away yourself.\n" in refused.err) == (2, True)
