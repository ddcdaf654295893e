"""Heads of skills: what the format's own checker takes is taken, and the same is read."""

from pathlib import Path

import pytest

from ml_intern.agent.skills import DESCRIPTION_CHARS, Fault, Skill, listed, read_skill

skills_ref = pytest.importorskip("skills_ref", reason="skills-ref, the format's checker, is a development dependency")
parser = pytest.importorskip("skills_ref.parser")

GOOD = [
    "name: tune\ndescription: Tunes models. Use it for learning rates.",
    "name: tune\ndescription: 'It''s quoted: with a colon'",
    'name: tune\ndescription: "Doubly \\"quoted\\", with\\ttab"',
    'name: "tune"\ndescription: |\n  Two lines\n  of text.',
    "name: tune\ndescription: >\n  Folded\n  text.\n\n  Second part.",
    "name: tune\ndescription: >-\n  Folded.\nlicense: Apache-2.0\ncompatibility: Needs a GPU",
    "name: tune\ndescription: Goes\n  over lines.",
    "name: tune\nmetadata:\n  author: me\n  name: not-this\n  version: '1.0'\ndescription: After a table.",
    "description: First.\nname: tune\nallowed-tools: Bash(git:*) Read",
    "name: tune # the name\ndescription: Text with a # hash in a#b",
    "name: tune\ndescription: Für Modelle – 模型.",
    "# a comment\nname: tune\n\ndescription: Below a blank line.",
]
BAD = [
    "name: Tune\ndescription: x",
    "name: other\ndescription: x",
    "name: tune-\ndescription: x",
    "name: tu--ne\ndescription: x",
    "name: tu_ne\ndescription: x",
    "name: " + "t" * 65 + "\ndescription: x",
    "name: tune",
    "description: x",
    "name: tune\ndescription: ''",
    f"name: tune\ndescription: {'x' * (DESCRIPTION_CHARS + 1)}",
    f"name: tune\ndescription: x\ncompatibility: {'x' * 501}",
]


def made(tmp_path: Path, head: str) -> Path:
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / "SKILL.md").write_text(f"---\n{head}\n---\n\n# Body\n---\nname: forged\n")
    return folder


def ours(folder: Path) -> Skill | Fault:
    return read_skill((folder / "SKILL.md").read_text(), folder.name, "p", "workspace")


@pytest.mark.parametrize("head", GOOD)
def test_what_the_formats_checker_takes_is_read_as_it_reads_it(tmp_path, head):
    folder = made(tmp_path, head)
    assert skills_ref.validate(folder) == []
    theirs = parser.read_properties(folder)
    found = ours(folder)
    assert isinstance(found, Skill), found
    assert (found.name, found.description) == (theirs.name, " ".join(theirs.description.split()))


@pytest.mark.parametrize("head", BAD)
def test_what_it_refuses_is_a_fault_in_one_sentence(tmp_path, head):
    folder = made(tmp_path, head)
    assert skills_ref.validate(folder) != []
    found = ours(folder)
    assert isinstance(found, Fault)
    assert found.what.endswith(".")
    assert "\n" not in found.what


@pytest.mark.parametrize("text", ["", "no head", "---\nname: tune\n", "\n---\nname: tune\n---\n"])
def test_a_file_without_a_head_is_a_fault(text):
    assert read_skill(text, "tune", "p", "yours") == Fault(
        "p", "It does not begin with a head between two lines of ---."
    )


def test_a_colon_that_yaml_would_refuse_is_read_as_text():
    text = "---\r\nname: tune\r\ndescription: Use when: the loss stalls\r\n---\r\nBody"
    assert read_skill(text, "tune", "p", "yours") == Skill("tune", "Use when: the loss stalls", "p", "yours")


def test_the_list_keeps_its_budget_and_says_what_is_left_out():
    skills = [
        Skill(f"s{number}", "d" * 300, f".agents/skills/s{number}/SKILL.md", "workspace") for number in range(100)
    ]
    whole = listed(skills[:3], 8_192)
    assert [line[:4] for line in whole.splitlines()] == ["- s0", "- s1", "- s2"]
    assert "d" * 300 in whole
    small = listed(skills, 2_048)
    assert len(small.encode()) <= 2_048 + 60
    assert small.splitlines()[-1].endswith("more skills are left out here]")
    middle = listed(skills[:20], 2_048)
    assert len(middle.splitlines()) == 20, "all are named before any is left out"
    assert listed([], 100) == ""


def test_a_description_cannot_forge_a_line():
    found = read_skill("---\nname: t\ndescription: |\n  a\n  - x (y): z\n---\n", "t", "p", "workspace")
    assert isinstance(found, Skill)
    assert listed([found], 1_000) == "- t (p): a - x (y): z"
