import time
from pathlib import Path

import pytest

from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.scan import Mark, Scan, diff, scan


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots((Root(str(tmp_path), str(tmp_path), "write"),), (), str(tmp_path))


@pytest.mark.speed
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


@pytest.mark.speed
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


def test_what_is_edited_is_seen_however_much_data_stands_before_it(roots, tmp_path):
    for folder in ("data/flat", "src/pkg/deep"):
        (tmp_path / folder).mkdir(parents=True)
    for n in range(2_000):
        (tmp_path / "data" / "flat" / f"{n:05}").touch()
        (tmp_path / "data" / f"{n:05}").touch()
    for n in range(150):
        (tmp_path / "data" / "shards" / f"{n:03}").mkdir(parents=True)
        (tmp_path / "data" / "shards" / f"{n:03}" / "a.bin").touch()
        (tmp_path / "data" / "shards" / f"{n:03}" / "b.bin").touch()
    for path in ("src/train.py", "src/pkg/deep/loss.py", "zebra.toml"):
        (tmp_path / path).touch()
    (tmp_path / "src" / "pkg" / ".envrc").touch()
    seen = scan(roots, 200)
    assert {"src/train.py", "src/pkg/deep/loss.py", "zebra.toml"} <= set(seen.files)
    assert "src/pkg/.envrc" in seen.protected
    assert len(seen.files) == 200
    assert not seen.complete


def test_a_folder_that_becomes_a_link_while_it_is_looked_at_is_not_followed(roots, tmp_path):
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    (tmp_path / "in").symlink_to(outside)
    assert set(scan(roots).files) == {"in"}


def test_descriptors_are_not_kept_open(roots, tmp_path):
    for n in range(50):
        (tmp_path / str(n)).mkdir()
        for m in range(30):
            (tmp_path / str(n) / str(m)).touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    scan(roots, 20)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


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


def test_of_mercurials_folder_only_its_settings_are_noted(roots, tmp_path):
    (tmp_path / "clone" / ".hg" / "store" / "data").mkdir(parents=True)
    (tmp_path / "clone" / ".hg" / "requires").touch()
    assert scan(roots).protected == {"clone/.hg"}
    (tmp_path / "clone" / ".hg" / "hgrc").touch()
    seen = scan(roots)
    assert seen.protected == {"clone/.hg", "clone/.hg/hgrc"}
    assert (seen.files, seen.complete) == ({}, True)


def test_an_incomplete_scan_proves_nothing_about_what_it_did_not_see():
    one, two = Scan({"a": Mark(1, 1)}, complete=False), Scan({"b": Mark(1, 1)}, complete=False)
    assert diff(one, two) == ()
