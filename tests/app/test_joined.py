"""What joins a prompt is found in the workspace and in the user's folder, within its limits; what does not is told."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from ml_intern.app.joined import find_joined, find_skills, ground_again, joined_words
from ml_intern.app.options import KINDS
from ml_intern.app.places import settings_file, skills_folder
from ml_intern.record.ground import Accelerator, GroundSet, Joined, Machine
from ml_intern.sandbox.leaves import MOST_BYTES, Leaf, Unread, read_leaf

SKILL = "---\nname: {name}\ndescription: Does {name}.\n---\nBody.\n"
HOST = Machine(8, 33_000_000_000, 100_000_000_000)


@pytest.fixture
def work(tmp_path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def own(tmp_path) -> Path:
    return tmp_path / "config" / "skills"


def skill(folder: Path, name: str, text: str = SKILL) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "SKILL.md").write_text(text.format(name=name))


def test_an_empty_workspace_adds_nothing_and_tells_nothing(work, own):
    found = find_joined(work, own, KINDS, None)
    assert (found.joined, found.notes) == ((), ())
    assert joined_words(GroundSet(None, found.joined)) == ""


def test_all_three_join_and_are_told_in_a_line(work, own):
    (work / "AGENTS.md").write_text("Use ruff.")
    (work / "MEMORY.md").write_text("- it worked")
    skill(work / ".agents/skills", "tune")
    skill(own, "plot")
    found = find_joined(work, own, KINDS, None)
    assert [each.kind for each in found.joined] == ["instructions", "memory", "skills"]
    assert joined_words(GroundSet(None, found.joined)) == "told AGENTS.md (9 B), MEMORY.md (11 B), 2 skills"
    assert f"- plot ({own}/plot/SKILL.md): Does plot." in found.joined[2].text
    assert "- tune (.agents/skills/tune/SKILL.md): Does tune." in found.joined[2].text


@pytest.mark.parametrize("kinds", [(), ("skills",), ("memory",)])
def test_what_is_turned_off_does_not_join(work, own, kinds):
    (work / "AGENTS.md").write_text("x")
    (work / "MEMORY.md").write_text("x")
    skill(own, "plot")
    assert tuple(each.kind for each in find_joined(work, own, kinds, None).joined) == kinds


def test_a_long_file_is_clipped_to_its_limit_and_to_a_share_of_a_small_window(work, own):
    (work / "AGENTS.md").write_text("word\n" * 20_000)
    large = find_joined(work, own, KINDS, None).joined[0]
    small = find_joined(work, own, KINDS, 8_192).joined[0]
    assert 32_000 < len(large.text) < 32_768 + 100
    assert len(small.text) < 4_096 + 100
    assert "bytes left out here: the rest stands in AGENTS.md]" in small.text
    assert large.sha == small.sha
    assert joined_words(GroundSet(None, (large,))) == "told AGENTS.md (33 kB of 100 kB)"


def test_one_skill_that_was_left_out_is_told_as_one(work, own):
    skill(own, "Bad")
    assert find_joined(work, own, KINDS, None).hint == "1 skill was left out; `ml-intern skills` says why."


def test_the_folder_of_the_users_skills_follows_the_environment_of_the_run(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert skills_folder(environ) == tmp_path / "ml-intern/skills"
    assert settings_file(environ) == tmp_path / "ml-intern/settings.toml"
    assert settings_file({**environ, "ML_INTERN_CONFIG": "/x.toml"}) == Path("/x.toml")


def test_links_are_followed_below_the_workspace_and_nowhere_else(work, own, tmp_path):
    (tmp_path / "secret").write_text("hunter2")
    (work / "AGENTS.md").symlink_to(tmp_path / "secret")
    (work / "CLAUDE.md").write_text("Use ruff.")
    (work / "MEMORY.md").symlink_to("CLAUDE.md")
    found = find_joined(work, own, KINDS, None)
    assert [each.text for each in found.joined] == ["Use ruff."]
    assert found.notes == ("AGENTS.md was left out: it is a link that leads out of its folder.",)


def test_what_is_no_text_is_told_and_left_out(work, own):
    (work / "AGENTS.md").write_bytes(b"\x00\x01")
    os.mkfifo(work / "MEMORY.md")
    assert find_joined(work, own, KINDS, None).notes == (
        "AGENTS.md was left out: it is no text.",
        "MEMORY.md was left out: it is no file.",
    )


def test_no_more_than_a_megabyte_of_a_file_is_read(work):
    (work / "AGENTS.md").write_bytes(b"a" * (MOST_BYTES + 10))
    leaf = read_leaf(str(work), "AGENTS.md")
    assert isinstance(leaf, Leaf)
    assert len(leaf.text) == MOST_BYTES
    (work / "x").symlink_to("x")
    assert isinstance(read_leaf(str(work), "x"), Unread | None)


def test_bad_skills_are_told_in_a_sentence_and_left_out(work, own):
    place = work / ".ml-intern/skills"
    skill(place, "good")
    skill(place, "Bad")
    skill(place, "nohead", "Just text.")
    (place / "empty").mkdir()
    (place / "link").symlink_to("good")
    (place / "README.md").write_text("no folder")
    skill(work / ".agents/skills", "twice")
    skill(own, "twice")
    skill(work / ".agents/skills", "again")
    skill(place, "again")
    skill(place, "binary", "\0")
    found = find_skills(work, own)
    assert [(each.name, each.source) for each in found.usable] == [
        ("twice", "yours"),
        ("again", "workspace"),
        ("good", "workspace"),
    ]
    assert {each.path: each.what for each in found.shadowed} == {
        ".agents/skills/twice/SKILL.md": f"{own}/twice/SKILL.md has the same name and comes first.",
    }
    assert {Path(each.path).parts[-2 if each.path.endswith(".md") else -1]: each.what for each in found.faults} == {
        "Bad": "Its name 'Bad' may only hold lower-case letters, digits and hyphens.",
        "nohead": "It does not begin with a head between two lines of ---.",
        "empty": "It has no SKILL.md.",
        "link": "It is a link, which commands could not follow; copy the folder.",
        "binary": "It is no text.",
        "again": ".agents/skills/again/SKILL.md has the same name and comes first.",
    }
    told = find_joined(work, own, KINDS, None)
    assert (told.notes, told.hint) == ((), "6 skills were left out; `ml-intern skills` says why.")


def test_a_skill_of_the_workspace_cannot_be_a_file_from_outside(work, own, tmp_path):
    (tmp_path / "key").write_text(SKILL.format(name="leak"))
    (work / ".agents/skills/leak").mkdir(parents=True)
    (work / ".agents/skills/leak/SKILL.md").symlink_to(tmp_path / "key")
    (work / ".ml-intern").symlink_to(tmp_path)
    found = find_skills(work, own)
    assert found.usable == ()
    assert "leads out of its folder" in found.faults[0].what


def test_a_session_that_goes_on_keeps_its_ground_but_for_another_machine_and_what_is_off():
    joined = (Joined("instructions", "AGENTS.md", "a", "x"), Joined("memory", "MEMORY.md", "b", "y"))
    ground = GroundSet(HOST, joined, 5, None, KINDS)
    assert ground_again(ground, replace(HOST, disk_bytes=1, memory_bytes=33_000_004_096), None) == ground
    cards = replace(HOST, accelerators=(Accelerator("H100", 1),))
    assert ground_again(ground, cards, KINDS).machine == cards
    less = ground_again(ground, HOST, ("memory",))
    assert (less.kinds, [each.kind for each in less.joined]) == (("memory",), ["memory"])
    assert ground_again(less, HOST, KINDS) == less, "turning one on holds for new sessions"
