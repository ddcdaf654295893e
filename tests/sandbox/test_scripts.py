import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.sandbox.paths import SHIMS
from ml_intern.sandbox.scripts import scripts_in, write_map

HEADER = '# /// script\n# dependencies = ["tiny"]\n# ///\n'


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("uv run train.py --lr 3", ["/w/train.py"]),
        ("python train.py", ["/w/train.py"]),
        ("python3 -u ./train.py 2>&1 | tee log", ["/w/train.py"]),
        ("python3.11 -W ignore train.py", ["/w/train.py"]),
        ("cd sub && python a.py", ["/w/sub/a.py"]),
        ("(cd sub; python a.py); python train.py", ["/w/sub/a.py", "/w/train.py"]),
        ("cd sub || python train.py", ["/w/train.py"]),
        ("A=b time python train.py", ["/w/train.py"]),
        ("env A=b nohup uv run -q train.py &", ["/w/train.py"]),
        ("timeout 10 /usr/bin/python3 train.py", ["/w/train.py"]),
        ("CUDA_VISIBLE_DEVICES=0 uv run --script train.py", ["/w/train.py"]),
        ("./train.py", ["/w/train.py"]),
        ("python /w/sub/a.py && uv run train.py", ["/w/sub/a.py", "/w/train.py"]),
        ("echo hi\npython train.py\n", ["/w/train.py"]),
        ("python \\\n  train.py", ["/w/train.py"]),
        ('bash -c "cd sub && python a.py"', ["/w/sub/a.py"]),
        ('x="$(python train.py)"', ["/w/train.py"]),
        ("for s in 1 2; do python train.py --seed $s; done", ["/w/train.py"]),
        ("python 'with space.py'", ["/w/with space.py"]),
        ("uv run python train.py", ["/w/train.py"]),
        ("python train.py # don't", ["/w/train.py"]),
        ("python -c 'import train' train.py", []),
        ("python -m pytest train.py", []),
        ("cat train.py", []),
        ("python missing.py", []),
        ("", []),
    ],
)
def test_the_scripts_that_a_command_line_runs_are_found(command, found):
    there = {"/w/train.py", "/w/sub/a.py", "/w/with space.py"}
    assert scripts_in(command, "/w", there.__contains__) == tuple(found)


@pytest.fixture
def shell(tmp_path):
    """Run a command line by /bin/sh with the shims first; `own` stands for a built environment's Python."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    own = tmp_path / "env" / "bin" / "python"
    own.symlink_to(sys.executable)
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "listed.py").write_text(
        HEADER + "import os, sys\nprint(os.environ.get('VIRTUAL_ENV'), *sys.argv[1:])\nsys.exit(7)\n"
    )
    (tmp_path / "unlisted.py").write_text(HEADER + "print('ran')\n")
    (tmp_path / "plain.py").write_text("import os, sys\nprint('plain', os.environ.get('VIRTUAL_ENV'), *sys.argv[1:])\n")
    scripts = write_map(tmp_path, "call", {str(tmp_path / "listed.py"): own})

    def run(command: str) -> tuple[int, str, str]:
        environ = {"PATH": f"{SHIMS}:{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin", "ML_INTERN_SCRIPTS": str(scripts)}
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    "command",
    [
        "uv run listed.py a 'b c'",
        "uv run --quiet --no-project -p 3.11 ./listed.py a 'b c'",
        "uv run -s listed.py a 'b c'",
        "uv run -- listed.py a 'b c'",
        "uv run python listed.py a 'b c'",
        "cd 'sub dir' && uv run ../listed.py a 'b c'",
        "python listed.py a 'b c'",
        "python3 -u -W ignore listed.py a 'b c'",
        "cd / && python \"$OLDPWD/listed.py\" a 'b c'",
    ],
)
def test_a_listed_script_runs_in_its_own_environment(command, shell, tmp_path):
    assert shell(command) == (7, f"{tmp_path}/env a b c\n", "")


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("python plain.py x", "plain None x\n"),
        ("uv run plain.py x", "plain None x\n"),
        ("python -c 'print(1)' listed.py", "1\n"),
        ("echo 'print(2)' | python", "2\n"),
        ("echo 'print(3)' | python -", "3\n"),
        ("python -m this >/dev/null; echo $?", "0\n"),
        ("uv run echo hi", "hi\n"),
        ("ML_INTERN_SCRIPTS= python plain.py", "plain None\n"),
    ],
)
def test_everything_else_runs_in_the_plain_interpreter(command, out, shell):
    assert shell(command) == (0, out, "")


def test_a_script_written_and_run_in_one_command_is_told_why_its_packages_lack(shell):
    code, out, err = shell("python unlisted.py")
    assert (code, out) == (0, "ran\n")
    assert "run it in a command of its own" in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("uv pip install numpy", "'uv pip' is not available"),
        ("uv add numpy", "'uv add' is not available"),
        ("uv", "is not available"),
        ("uv run --with numpy plain.py", "'uv run --with' is not available"),
        ("uv run", "needs a script"),
        ("uv run nowhere.py", "there is no script nowhere.py"),
        ("uv run unlisted.py", "the environment of unlisted.py was not built"),
        ("pip install numpy", "'pip install' is not available"),
        ("pip3 install numpy", "'pip install' is not available"),
    ],
)
def test_installing_inside_is_answered_with_what_to_do(command, words, shell):
    code, out, err = shell(command)
    assert (code, out) == (1, "")
    assert words in err
    assert "# /// script" in err


def test_a_missing_interpreter_is_said(tmp_path):
    os.symlink("/bin/sh", tmp_path / "sh")
    done = subprocess.run([f"{SHIMS}/python"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "python3: not found in this sandbox." in done.stderr
