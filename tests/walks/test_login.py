"""A key that `ml-intern login` keeps is used, and seen by no command, no record and no reader."""

import os
from pathlib import Path

import pytest

from ml_intern.model import login
from ml_intern.sandbox.levels import probe, probe_walls
from tests.architecture.tree import ROOT
from tests.walks.walk import MODEL, Hearing, Walk, bash, everything_in, step

KEY = "sk-kept-by-login-0123456789"
NAME = "OPENAI_COMPATIBLE_API_KEY"


@pytest.fixture
async def own(tmp_path: Path):
    walk = Walk(tmp_path, {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"})
    yield walk
    await walk.close()


@pytest.mark.parametrize("level", ["full", "walls"])
async def test_a_stored_key_is_used_and_no_command_sees_it(own: Walk, level: str):
    found = probe() if level == "full" else probe_walls()
    if found.level.name.lower() != level:
        pytest.skip(f"level {level} is not on this machine: {found.reasons}")
    kept = await own.run("login", "openai-compatible", stdin=f"{KEY}\n".encode())
    assert kept.code == 0, kept.said
    file = login.folder(own.environ) / NAME
    assert file.read_text().strip() == KEY
    (own.workspace / "link").symlink_to(file)
    look = f"cat {file}; ls {file.parent}; cat link; env; cat /proc/*/environ | tr '\\0' '\\n'; echo looked"
    script = [step(0, bash(look), ("read", {"path": str(file)}), ("read", {"path": "link"})), step(1, text="Done.")]
    async with Hearing(script, key=KEY) as double:
        done = await own.run("look around", *_model(double.url), "--level", level)
        assert done.code == 0, done.said
    ran, *read = await own.answers()
    assert "looked" in ran.text
    assert [each.outcome for each in read] == ["failed", "failed"]
    assert KEY.encode() not in everything_in(own.data)
    assert KEY not in done.out + done.err


async def test_a_person_who_pastes_a_stored_key_finds_it_hidden_wherever_it_lies(own: Walk):
    ring = {
        "PYTHON_KEYRING_BACKEND": "tests.doubles.keyring_backend.Ring",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "DOUBLE_KEYRING": str(own.home / "ring.json"),
    }
    kept = await own.run("login", "openai-compatible", stdin=KEY.encode(), env=ring)
    assert "keyring" in kept.out, kept.said
    async with Hearing([step(0, text=f"You said {KEY}.")], key=KEY) as double:
        done = await own.run(f"My key is {KEY}", *_model(double.url), env=ring)
        assert done.code == 0, done.said
        assert KEY.encode() not in b"".join(double.bodies)
    assert f"[secret:{NAME}]" in done.out
    assert KEY.encode() not in everything_in(own.data)


async def test_a_workspace_that_holds_the_keys_is_refused(own: Walk):
    await own.run("login", "openai-compatible", stdin=KEY.encode())
    folder = login.folder(own.environ).parent.parent
    async with Hearing([step(0, text="Hello.")], key=KEY) as double:
        done = await own.run("look", *_model(double.url), "--cwd", str(folder))
    assert done.code == 2, done.said
    assert "the keys that `ml-intern login` keeps" in done.err


def _model(url: str) -> tuple[str, ...]:
    return (*MODEL, "--base-url", url)
