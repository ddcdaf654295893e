import time
from pathlib import Path

import pytest

from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.scan import Mark, Scan, diff, scan


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots((Root(str(tmp_path), str(tmp_path), "write"),), (), str(tmp_path))


def test_a_flat_folder_costs_what_the_limit_allows(roots, tmp_path):
    for n in range(10_000):
        (tmp_path / f"{n:05}").touch()

    def cost_s(limit: int) -> float:
        begun = time.process_time()
        assert len(scan(roots, limit).files) == limit
        return time.process_time() - begun

    # In turn, and the least of many: another process on this machine takes its time from either.
    pairs = [(cost_s(1_000), cost_s(10_000)) for _ in range(15)]
    few, all_of_them = map(min, zip(*pairs, strict=True))
    assert few < all_of_them / 3
    assert sorted(scan(roots, 1_000).files) == [f"{n:05}" for n in range(1_000)]
    assert not scan(roots, 1_000).complete


def test_many_folders_cost_what_the_limit_allows(roots, tmp_path):
    for n in range(3_000):
        (tmp_path / "data" / str(n)).mkdir(parents=True)

    def cost_s(limit: int) -> float:
        begun = time.process_time()
        scan(roots, limit)
        return time.process_time() - begun

    assert min(cost_s(300) for _ in range(3)) < min(cost_s(10_000) for _ in range(3)) / 3
    assert not scan(roots, 300).complete
    assert scan(roots, 10_000).complete


def test_the_files_of_a_folder_are_seen_before_those_below_it(roots, tmp_path):
    (tmp_path / "data").mkdir()
    for n in range(100):
        (tmp_path / "data" / str(n)).touch()
    (tmp_path / "train.py").touch()
    assert "train.py" in scan(roots, 10).files


def test_the_same_files_are_seen_each_time(roots, tmp_path):
    for n in range(100):
        (tmp_path / str(n)).touch()
    assert scan(roots, 10).files == scan(roots, 10).files
    assert diff(scan(roots, 10), scan(roots, 10)) == ()


def test_a_scan_that_saw_all_says_so(roots, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("xyz")
    (tmp_path / "link").symlink_to("/etc")
    seen = scan(roots)
    assert seen.complete
    assert set(seen.files) == {"a/b/c", "link"}
    assert seen.files["a/b/c"].size == 3


def test_what_must_be_walled_is_noted_by_name(roots, tmp_path):
    for folder in (".git/hooks", "deep/inner/.git", ".vscode", ".github/workflows"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "deep" / ".envrc").touch()
    (tmp_path / "plain").touch()
    expected = {".git", "deep/inner/.git", ".vscode", ".github/workflows", "deep/.envrc"}
    assert scan(roots).protected == expected


def test_an_incomplete_scan_proves_nothing_about_what_it_did_not_see():
    one, two = Scan({"a": Mark(1, 1)}, complete=False), Scan({"b": Mark(1, 1)}, complete=False)
    assert diff(one, two) == ()
