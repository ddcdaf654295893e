"""The contracts of import-linter bite: each planted breach is reported under the contract's name."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, source, sources

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract for contract in SETTINGS["contracts"]}
FLOORS = [[room.strip() for room in floor.split("|")] for floor in CONTRACTS["floors"]["layers"]]
ROOMS = [room for floor in FLOORS for room in floor]
# A way to the outside world, and the rooms that may open it.
DOORS = {name: CONTRACTS[name] for name in ("http", "terminal", "database", "adapter")}
SANDBOX = "ml_intern.sandbox"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "ml_intern"
    for room in ROOMS:
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").touch()
    for folder in ("", "record/folds"):
        (package / folder).mkdir(exist_ok=True)
        (package / folder / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for contract in DOORS.values():
        for importer in contract["allowed_importers"]:
            folder = importer.removeprefix("ml_intern.").replace(".", "/")
            plant(package, f"{folder}/a.py", f"import {contract['protected_modules'][0]}")
    return package


def plant(package: Path, path: str, text: str) -> None:
    (package / path).parent.mkdir(exist_ok=True)
    (package / path.rpartition("/")[0] / "__init__.py").touch()
    (package / path).write_text(text)


def broken(package: Path) -> set[str]:
    """The contracts that the linter reports as broken, by id."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=package.parents[1],
        env={**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts:" in result.stdout, result.stdout + result.stderr
    names = {name for name, contract in CONTRACTS.items() if f"{contract['name']} BROKEN" in result.stdout}
    assert result.returncode == bool(names), result.stdout
    return names


def test_a_house_in_order_is_kept(house):
    assert broken(house) == set()


@pytest.mark.parametrize(("upper", "lower"), [(FLOORS[i][0], FLOORS[i - 1][0]) for i in range(1, len(FLOORS))])
def test_a_floor_that_imports_the_one_above_is_reported(house, upper, lower):
    plant(house, f"{upper}/planted.py", f"import ml_intern.{lower}")
    assert "floors" in broken(house)


@pytest.mark.parametrize(("left", "right"), [(floor[0], floor[1]) for floor in FLOORS if len(floor) > 1])
def test_siblings_that_import_each_other_are_reported(house, left, right):
    plant(house, f"{left}/planted.py", f"import ml_intern.{right}")
    assert "floors" in broken(house)


def test_a_room_without_a_floor_is_reported(house):
    plant(house, "attic/planted.py", "")
    assert "floors" in broken(house)


def test_a_lazy_import_counts(house):
    plant(house, "agent/planted.py", "def f():\n    import ml_intern.tools")
    assert "floors" in broken(house)


def test_a_cycle_inside_a_room_is_reported(house):
    plant(house, "record/one.py", "import ml_intern.record.two")
    plant(house, "record/two.py", "import ml_intern.record.one")
    assert broken(house) == {"siblings"}


@pytest.mark.parametrize("name", DOORS)
def test_a_client_library_in_another_room_is_reported(house, name):
    plant(house, "policy/planted.py", f"import {DOORS[name]['protected_modules'][0]}")
    assert broken(house) == {name}


def test_the_supervisor_the_broker_and_what_they_import_need_the_standard_library_only():
    files = {f"ml_intern.{file.path.removesuffix('.py').replace('/', '.')}": file.tree for file in sources()}
    assert foreign(files) == set()


def test_a_planted_package_is_found_behind_the_supervisor():
    texts = {
        "ml_intern.__init__": "",
        "ml_intern.sandbox.__init__": "import click",
        "ml_intern.sandbox.supervisor": "import os\nfrom ml_intern.sandbox import pod",
        "ml_intern.sandbox.pod": "def f():\n    import pydantic\nfrom ml_intern.record.log import Log",
    }
    planted = {"click", "pydantic", "ml_intern.record.log.Log"}
    assert foreign({name: source("x.py", text).tree for name, text in texts.items()}) == planted


def foreign(files: dict[str, ast.Module]) -> set[str]:
    """What is neither the standard library nor the sandbox's own, in the supervisor, the broker and all they import."""
    found: set[str] = set()
    seen: set[str] = set()
    started = ("__init__", "supervisor", "broker.__init__", "broker.serve")
    waiting = ["ml_intern.__init__", *(name for each in started if (name := f"{SANDBOX}.{each}") in files)]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for imported in imports(files[name]):
            # `from ml_intern.sandbox import pod`, `from ml_intern.sandbox.pod import Pod`, or `import pod` beside it
            paths = (imported, imported.rpartition(".")[0], f"{SANDBOX}.{imported}")
            inside = [path for path in paths if path in files and path.startswith(SANDBOX)]
            waiting += [path for path in inside if path not in seen]
            if not inside and imported.split(".")[0] not in sys.stdlib_module_names:
                found.add(imported)
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                pass
