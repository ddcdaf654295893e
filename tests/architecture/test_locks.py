"""The locks hold every package of the project with hashes, agree with each other, and name no host."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-llm.lock")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")
_HOST = re.compile(
    r"://|\b[a-z0-9-]+\.(org|com|io|net|dev|internal|local|lan|corp)\b|index-url|find-links|file:|^-i ", re.M
)


def pins(lock: str) -> dict[str, str]:
    """Name → version of a lock."""
    found = (_PIN.match(line) for line in (ROOT / lock).read_text().splitlines())
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def unmet(requirements: list[str], locked: dict[str, str]) -> list[str]:
    """Requirements that a lock does not hold in a version that satisfies them."""
    wanted = [Requirement(text) for text in requirements]
    return [
        str(want) for want in wanted if not want.specifier.contains(locked.get(canonicalize_name(want.name), "0"), True)
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_no_host_stands_in_a_lock(lock):
    assert _HOST.search((ROOT / lock).read_text()) is None


@pytest.mark.parametrize("line", ["--index-url https://a/simple", "x @ file:/opt/x", "# from pypi.org", "-i there"])
def test_a_planted_host_is_found(line):
    assert _HOST.search(f"a==1\n{line}\n")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock):
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text())
    assert [block for block in blocks if _PIN.match(block) and "--hash=sha256:" not in block] == []
    assert pins(lock)


def test_every_dependency_is_locked_in_a_version_that_satisfies_it():
    groups = PROJECT["dependency-groups"]
    dev = [item for item in groups["dev"] if isinstance(item, str)]
    assert unmet(PROJECT["project"]["dependencies"], pins("requirements.lock")) == []
    assert unmet(groups["build"] + PROJECT["build-system"]["requires"], pins("requirements-build.lock")) == []
    assert unmet(dev + groups["build"], pins("requirements-dev.lock")) == []
    assert unmet(groups["llm"], pins("requirements-llm.lock")) == []


def test_a_dependency_that_is_not_locked_is_found():
    assert unmet(["click>=99", "new-thing>=1"], pins("requirements.lock")) == ["click>=99", "new-thing>=1"]


def test_the_locks_agree():
    dev = pins("requirements-dev.lock").items()
    assert pins("requirements.lock").items() <= dev
    assert pins("requirements-build.lock").items() <= dev
