import json
import shutil
import time
from pathlib import Path

import pytest

from ml_intern.base.errors import LevelTooLow
from ml_intern.sandbox import boot, bubblewrap, landlock
from ml_intern.sandbox.levels import Level, Probe, probe, probe_walls, require


@pytest.fixture
def full(machine_level: Level) -> None:
    if machine_level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {machine_level.name}: {probe().reasons}")


def test_levels_are_ordered():
    assert Level.NONE < Level.WALLS < Level.FULL


def test_a_lower_level_is_refused_with_its_reason_and_remedy():
    found = Probe(Level.NONE, "", ("There is no bubblewrap.",), ("Install it.",))
    with pytest.raises(LevelTooLow) as refused:
        require(found, Level.WALLS)
    assert all(word in refused.value.what for word in ("none", "walls", "no bubblewrap"))
    assert refused.value.remedy == "Install it."
    require(found, Level.NONE)
    require(Probe(Level.FULL), Level.FULL)


@pytest.mark.speed
def test_a_full_level_is_remembered_and_found_fast(full: None, tmp_path: Path):
    cache = tmp_path / "deep" / "level.json"
    first = probe(cache)
    begun = time.perf_counter()
    assert probe(cache) == first
    assert time.perf_counter() - begun < 0.03
    assert first.level is Level.FULL
    assert first.bwrap in bubblewrap.binaries()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"marks": [], "bwrap": "/bin/true"}', '{"bwrap": 1}'])
def test_a_cache_that_is_not_of_this_machine_is_not_believed(full: None, tmp_path: Path, damage: str):
    cache = tmp_path / "level.json"
    cache.write_text(damage)
    assert probe(cache).bwrap in bubblewrap.binaries()
    assert json.loads(cache.read_text())["marks"]


def fake_bubblewrap(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    binary = place / "bwrap"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    return str(binary)


def test_a_bubblewrap_that_makes_no_walls_is_passed_over_for_the_next(
    full: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    good = bubblewrap.binaries()
    fake = fake_bubblewrap(tmp_path, monkeypatch, 'echo "bwrap: no permissions" >&2; exit 1')
    assert bubblewrap.binaries()[0] == fake
    assert probe().bwrap == good[-1]


def test_a_bubblewrap_that_only_pretends_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: None):
    fake_bubblewrap(tmp_path, monkeypatch, 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    planted = Path("/ml-intern-trial")
    try:
        found = probe(tmp_path / "cache.json")
    finally:
        planted.unlink(missing_ok=True)
    assert found.level < Level.FULL
    assert "walls succeeded" in found.reasons[0] or "ended with 5" in found.reasons[0]
    assert not (tmp_path / "cache.json").exists()


def test_without_any_bubblewrap_the_remedy_is_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = probe()
    assert (found.level, found.bwrap) == (probe_walls().level, "")
    assert "apt-get install bubblewrap" in found.remedies[0]
    assert shutil.which("bwrap") is None


@pytest.mark.parametrize("known", [0, 3])
def test_a_kernel_whose_landlock_is_too_old_has_no_walls_and_the_remedy_names_one(
    known: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(landlock, "version", lambda: known)
    found = probe_walls()
    assert found.level is Level.NONE
    assert "Landlock" in found.reasons[0]
    assert "6.7" in found.remedies[0]


def test_walls_are_believed_only_after_they_have_held(monkeypatch: pytest.MonkeyPatch):
    if landlock.version() < landlock.LEAST_VERSION:
        pytest.skip(f"this kernel has version {landlock.version()} of Landlock")
    assert probe_walls() == Probe(Level.WALLS)
    monkeypatch.setattr(boot, "command_line", lambda _module, _walls, place, *command: [*command, place, place])
    assert "outside the walls succeeded" in probe_walls().reasons[0] or probe_walls().level is Level.NONE
