import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.app.doctor import Line, examine
from ml_intern.app.level import find_walls
from ml_intern.app.places import find_places
from ml_intern.base.errors import BadSettings, LevelTooLow
from ml_intern.sandbox.levels import Level, probe, probe_walls

SECRET = "hf_" + "x" * 34


def environ(place: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(place), "PATH": os.environ["PATH"], "ML_INTERN_DATA": str(place / "data"), **more}


async def lines(place: Path, **more: str) -> dict[str, Line]:
    found = await examine(environ(place, **more))
    assert len({line.topic for line in found}) == len(found)
    return {line.topic: line for line in found}


def doctor(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ml-intern")), "doctor", *arguments]
    return subprocess.run(command, env=environ(place, **more), capture_output=True, text=True, timeout=50, check=False)


async def test_every_part_of_the_machine_has_a_line_and_what_is_not_well_has_a_remedy(tmp_path: Path):
    found = await lines(tmp_path)
    topics = {"version", "packages", "sandbox", "bubblewrap", "landlock", "cgroups", "accelerators", "data folder"}
    topics |= {"disk of sessions", "disk of environments", "git", "keys", "local servers"}
    assert topics <= set(found)
    assert [line for line in found.values() if line.state != "ok" and not line.remedy] == []
    assert f"level {probe().level.name.lower()}" in found["sandbox"].said


async def test_keys_are_named_and_never_shown(tmp_path: Path):
    found = await lines(tmp_path, HF_TOKEN=SECRET, OPENAI_API_KEY="sk-" + "y" * 30)
    assert set(found["keys"].said.split(", ")) == {"HF_TOKEN (environment)", "OPENAI_API_KEY (environment)"}
    assert not [line for line in found.values() if SECRET in line.said + line.remedy or "yyyy" in line.said]


async def test_without_keys_and_servers_the_remedy_names_some(tmp_path: Path):
    found = await lines(tmp_path)
    assert found["keys"].said == "none"
    assert "hf auth login" in found["keys"].remedy or found["local servers"].said != "none answers"


async def test_a_data_folder_that_others_can_read_is_told_with_the_command_that_shuts_it(tmp_path: Path):
    assert "will be made" in (await lines(tmp_path))["data folder"].said
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    open_ = (await lines(tmp_path))["data folder"]
    assert (open_.state, open_.remedy) == ("warn", f"`chmod 700 {data}`")
    data.chmod(0o700)
    assert (await lines(tmp_path))["data folder"].state == "ok"


def hooked(place: Path, command: str) -> dict[str, str]:
    file = place / "settings.toml"
    file.write_text(f"[[hooks]]\nname = 'guard'\nevent = 'before_call'\ncommand = {json.dumps(command)}\n")
    return {"ML_INTERN_CONFIG": str(file)}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("sh guard.sh", "guard.sh"),
        ("./guard.sh --strict", "guard.sh"),
        ("./not/there/yet.sh", "not/there/yet.sh"),
        ("python3 {work}/guard.sh", "guard.sh"),
        ("sh -c 'cd .; exec ./guard.sh'", "guard.sh"),
        ('sh "$PWD/guard.sh"', "guard.sh"),
        ("python3 -m judge --rules=tools/rules.json", "tools/rules.json"),
        ("sh ~/work/guard.sh", "guard.sh"),
        ("sh ../link.sh", "guard.sh"),
    ],
)
async def test_a_hook_that_names_a_file_of_the_workspace_is_warned_of(tmp_path, monkeypatch, command, named):
    work = tmp_path / "work"
    work.mkdir()
    (work / "guard.sh").write_text("true\n")
    (tmp_path / "link.sh").symlink_to(work / "guard.sh")
    monkeypatch.chdir(work)
    line = (await lines(tmp_path, **hooked(tmp_path, command.format(work=work))))["hook files"]
    assert (line.state, line.said.startswith(f"guard names {named} in the workspace")) == ("warn", True)
    assert line.remedy


@pytest.mark.parametrize(
    "command",
    [
        "sh {out}/guard.sh",
        "true",
        "sh ~/guard.sh",
        "sh .ml-intern/guard.sh",
        "cat >> heard.jsonl",
        "env A=b date",
        "sh ../x",
    ],
)
async def test_a_hook_whose_files_the_agent_cannot_change_is_fine(tmp_path, monkeypatch, command):
    work = tmp_path / "work"
    (work / ".ml-intern").mkdir(parents=True)
    (work / "heard.jsonl").touch()
    (work / "true").touch()
    monkeypatch.chdir(work)
    found = await lines(tmp_path, **hooked(tmp_path, command.format(out=tmp_path)))
    assert "hook files" not in found
    assert found["hooks"].state == "ok"


async def test_a_data_folder_that_is_a_file_fails(tmp_path: Path):
    (tmp_path / "data").touch()
    assert (await lines(tmp_path))["data folder"].state == "fail"


def test_the_exit_code_tells_whether_something_fails(tmp_path: Path):
    ended = doctor(tmp_path, "--json", HF_TOKEN=SECRET)
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    fails = [row for row in rows if row["state"] == "fail"]
    assert ended.returncode == (1 if fails else 0), ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    (tmp_path / "data").touch()
    ended = doctor(tmp_path)
    assert ended.returncode == 1
    assert "fail  data folder" in ended.stdout


def test_a_person_names_the_level_and_gets_no_other(tmp_path: Path):
    places = find_places(environ(tmp_path))
    if probe_walls().level is Level.WALLS:
        assert find_walls("walls", places).level is Level.WALLS
    if probe().level is Level.FULL:
        assert find_walls("full", places).level is find_walls(None, places).level is Level.FULL
    with pytest.raises(BadSettings, match="no sandbox level 'strong'"):
        find_walls("strong", places)


def test_level_none_is_refused_where_nobody_watches(tmp_path: Path):
    with pytest.raises(LevelTooLow, match="nobody watches"):
        find_walls("none", find_places(environ(tmp_path)))
