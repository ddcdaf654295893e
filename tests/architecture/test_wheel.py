"""The wheel holds every file of the package, and what it installs runs without the source tree."""

import os
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.architecture.tree import PACKAGE, ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy, as a fresh clone would: what a build leaves behind stays there.
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(PACKAGE, tree / "src" / "ml_intern", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tree / "dist", cwd=tree)
    return next((tree / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `ml-intern` of a fresh environment that has the wheel, and our dependencies but not our source tree."""
    folder = tmp_path_factory.mktemp("fresh")
    run(find_uv_bin(), "venv", "--quiet", "--offline", "--python", sys.executable, folder, cwd=folder)
    python = folder / "bin" / "python"
    run(find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel, cwd=folder)
    # A line in a .pth file adds the folder to the path, but does not read the .pth files in it (our editable install).
    packages = next((folder / "lib").glob("python3.*")) / "site-packages"
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin" / "ml-intern"


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    ours = {path.relative_to(PACKAGE.parent).as_posix() for path in files}
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("ml_intern/")}
    assert shipped == ours


def test_the_licence_and_nothing_foreign_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"ml_intern", f"ml_intern-{VERSION}.dist-info"}


def test_scripts_that_are_run_keep_their_mode(wheel):
    run_as_they_are = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if is_script(path)}
    with zipfile.ZipFile(wheel) as archive:
        kept = {entry.filename for entry in archive.infolist() if entry.external_attr >> 16 & 0o111}
    assert run_as_they_are <= kept


def is_script(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def test_the_installed_program_says_its_version(installed):
    assert VERSION in run(installed, "--version", cwd=installed.parent)


def test_the_installed_program_says_how_it_is_used(installed):
    assert "Usage" in run(installed, "--help", cwd=installed.parent)


def test_the_installed_program_is_not_the_source_tree(installed):
    found = run(installed.parent / "python", "-c", "import ml_intern; print(ml_intern.__file__)", cwd=installed.parent)
    assert Path(found.strip()).is_relative_to(installed.parents[1])
