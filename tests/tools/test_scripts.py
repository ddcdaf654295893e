import zipfile

import pytest

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.record.effects import Executes, Reaches
from tests.tools.bench import sha

SCRIPT = '# /// script\n# dependencies = ["tiny"]\n# ///\nimport tiny\nprint("got", tiny.value)\n'


@pytest.fixture(autouse=True)
def one_wheel(tmp_path, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "value = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(links / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("command", ["uv run train.py", "python train.py", "cd . && time python3 ./train.py | cat"])
async def test_a_script_runs_with_the_packages_of_its_header(shell, command):
    (shell.bench.workspace / "train.py").write_text(SCRIPT)
    result = await shell.run(command)
    assert "got 42" in result.text
    assert result.outcome == "ok"
    assert any("tiny" in line for line in shell.bench.live)


async def test_packages_are_an_effect_and_the_script_an_input(shell):
    (shell.bench.workspace / "train.py").write_text(SCRIPT)
    prepared = await shell.bench.prepare(shell.bash(), command="uv run train.py")
    assert prepared.effects == (Executes("uv run train.py"), Reaches("the package index", known=True))
    assert prepared.inputs == ((shell.bench.path("train.py"), sha(SCRIPT.encode())),)


async def test_a_script_without_a_header_is_an_input_and_needs_nothing(shell):
    (shell.bench.workspace / "plain.py").write_text("print('plain')\n")
    prepared = await shell.bench.prepare(shell.bash(), command="python plain.py")
    assert prepared.effects == (Executes("python plain.py"),)
    assert (await shell.run("python plain.py")).text == "plain"


async def test_a_header_that_cannot_be_read_is_told_before_anything_runs(shell):
    (shell.bench.workspace / "bad.py").write_text('# /// script\n# dependencies = ["tiny"\n# ///\n')
    with pytest.raises(EnvironmentFailed, match="header is no TOML"):
        await shell.bench.prepare(shell.bash(), command="python bad.py")


async def test_a_package_that_cannot_be_had_is_told_and_nothing_runs(shell):
    text = SCRIPT.replace("tiny", "no-such-package") + "open('witness', 'w')\n"
    (shell.bench.workspace / "train.py").write_text(text)
    with pytest.raises(EnvironmentFailed, match="no-such-package"):
        await shell.run("uv run train.py")
    assert not (shell.bench.workspace / "witness").exists()


async def test_a_script_outside_the_roots_is_left_to_the_walls(shell, tmp_path):
    (tmp_path / "outside.py").write_text(SCRIPT)
    prepared = await shell.bench.prepare(shell.bash(), command=f"python {tmp_path}/outside.py")
    assert prepared.inputs == ()
