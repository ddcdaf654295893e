"""Plants each fault of mutants.toml in a copy of the tree and runs the test named beside it, which must turn red.

Knows nothing of what it breaks. A [[mutant]] has `name`, `file` (below the root), `old` (text that stands there exactly
once), `new`, and `test` (what pytest is given: a file or `file::test`; several separated by spaces).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "bench", "docs", ".ci", "Makefile", "pyproject.toml", ".gitignore", "LICENSE")
PATTERNS = ("requirements*.lock", "*.md")
AT_ONCE = 2
LIMIT_S = 300
PASSED, FAILED = 0, 1


class Mutant(NamedTuple):
    """One fault, and the test that must see it."""

    name: str
    file: str
    old: str
    new: str
    test: str


class Outcome(NamedTuple):
    """What became of a mutant or of a test in the tree as it is."""

    name: str
    verdict: str
    good: bool
    seconds: float
    output: str = ""


class BadList(ValueError):
    """The list of mutants does not fit the tree."""


def load(path: Path, root: Path = ROOT) -> list[Mutant]:
    """The mutants of a list, each checked against the tree.

    Raises:
        BadList: a field is missing or unknown, a name comes twice, or `old` does not stand exactly once in the file.
    """
    tables = tomllib.loads(path.read_text()).get("mutant", [])
    faults = [fault for table in tables for fault in _faults(table, root)]
    names = [table.get("name") for table in tables]
    faults += [f"{name}: stands twice in the list" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise BadList("\n".join(faults))
    return [Mutant(**table) for table in tables]


def _faults(table: dict[str, str], root: Path) -> Iterable[str]:
    if set(table) != set(Mutant._fields):
        yield f"{table.get('name', table)}: needs exactly {', '.join(Mutant._fields)}"
        return
    mutant = Mutant(**table)
    file = root / mutant.file
    found = file.read_text().count(mutant.old) if file.is_file() and mutant.old else 0
    if found != 1:
        yield f"{mutant.name}: `old` stands {found} times in {mutant.file}, must be once"
    if mutant.old == mutant.new:
        yield f"{mutant.name}: `new` changes nothing"
    yield from (
        f"{mutant.name}: no test file {test}"
        for test in mutant.test.split()
        if not (root / test.split("::")[0]).exists()
    )


def check(mutants: Sequence[Mutant], root: Path = ROOT) -> list[Outcome]:
    """Every distinct test in the tree as it is, then every mutant whose test was green there."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tests = sorted({mutant.test for mutant in mutants})
        unplanted = dict(zip(tests, pool.map(lambda test: _green(test, root), tests), strict=True))
        sound = [mutant for mutant in mutants if unplanted[mutant.test].good]
        planted = list(pool.map(lambda mutant: _caught(mutant, root), sound))
    return [outcome for outcome in unplanted.values() if not outcome.good] + planted


def _green(test: str, root: Path) -> Outcome:
    code, seconds, output = _run(test, root, None)
    return Outcome(test, "green" if code == PASSED else "red without a fault", code == PASSED, seconds, output)


def _caught(mutant: Mutant, root: Path) -> Outcome:
    code, seconds, output = _run(mutant.test, root, mutant)
    # Any other code means that pytest could not even run the test: that proves nothing about the test.
    verdict = {PASSED: "SURVIVED", FAILED: "caught", None: "caught (hung)"}.get(code, f"BROKEN (pytest exit {code})")
    return Outcome(mutant.name, verdict, code in {FAILED, None}, seconds, output)


def _run(test: str, root: Path, mutant: Mutant | None) -> tuple[int | None, float, str]:
    """(pytest's exit code, None where it was stopped at the limit; seconds; its output) in a copy of the tree."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "tree"
        _copy(root, copy)
        if mutant:
            file = copy / mutant.file
            file.write_text(file.read_text().replace(mutant.old, mutant.new))
        # A test that hangs ends its process: raising in whatever it stands in may break pytest itself.
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "unshrunk", "--timeout-method", "thread"]
        command = [sys.executable, "-m", "pytest", *options, *test.split()]
        found = (str(copy / "src"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
        path = os.pathsep.join(filter(None, found))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return None, time.monotonic() - begun, ""
        return done.returncode, time.monotonic() - begun, done.stdout + done.stderr


def _copy(root: Path, copy: Path) -> None:
    copy.mkdir()
    for path in (*(root / name for name in COPIED), *(path for pattern in PATTERNS for path in root.glob(pattern))):
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        elif path.exists():
            shutil.copy(path, copy)


def report(outcomes: Sequence[Outcome]) -> str:
    """The table, and under it what pytest printed for each that was not caught."""
    width = max((len(outcome.name) for outcome in outcomes), default=0)
    lines = [f"{one.name:<{width}}  {one.seconds:5.1f} s  {one.verdict}" for one in outcomes]
    lines += [f"\n--- {one.name}: {one.verdict}\n{one.output[-3000:]}" for one in outcomes if not one.good]
    return "\n".join([*lines, f"{sum(one.good for one in outcomes)} of {len(outcomes)} caught"])


def main() -> int:
    """Exit code 0 where every mutant was caught, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="words: only mutants whose name contains one of them")
    parser.add_argument("--list", type=Path, default=Path(__file__).parent / "mutants.toml")
    options = parser.parse_args()
    try:
        mutants = load(options.list)
    except BadList as error:
        print(error)
        return 1
    words: list[str] = options.only
    chosen = [mutant for mutant in mutants if not words or any(word in mutant.name for word in words)]
    outcomes = check(chosen)
    print(report(outcomes))
    return 0 if chosen and all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
