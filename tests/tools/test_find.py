import asyncio
import os
import time
from pathlib import Path

import pytest

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.record.effects import Reads, is_read_only
from ml_intern.tools.find import Find
from tests.tools.bench import Bench


@pytest.fixture
def find(bench: Bench) -> Find:
    for path, text in {
        "train.py": "import torch\n\ndef train():\n    loss = 1\n    return loss\n",
        "src/model.py": "LOSS = 'Loss'\n",
        "src/deep/data.csv": "a,b\n1,2\n",
        "notes.md": "the loss fell\n",
    }.items():
        (bench.workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.workspace / path).write_text(text)
    return Find(bench.roots)


def names(text: str) -> list[str]:
    return [line.partition("  (")[0] for line in text.splitlines() if line and not line.startswith("[")]


async def test_a_search_says_where_it_looks_and_may_run_beside_others(bench, find):
    prepared = await bench.prepare(find, pattern="loss", path="src/../src")
    assert prepared.effects == (Reads(bench.path("src")),)
    assert (is_read_only(prepared.effects), prepared.replay) == (True, "pure")
    assert await bench.recover(find, prepared, pattern="loss") is None


async def test_names_are_found_at_any_depth_newest_first(bench, find):
    for age, name in enumerate(("train.py", "src/model.py")):
        os.utime(bench.workspace / name, (age, age))
    assert names((await bench.call(find, glob="*.py")).text) == ["src/model.py", "train.py"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.{csv,md}", {"src/deep/data.csv", "notes.md"}),
        ("src/*", {"src/model.py", "src/deep/"}),
        ("src/**/*.csv", {"src/deep/data.csv"}),
        ("**/model.py", {"src/model.py"}),
        ("./train.py", {"train.py"}),
        ("[mt]*.py", {"train.py", "src/model.py"}),
        ("[!t]*.py", {"src/model.py"}),
        ("?rain.py", {"train.py"}),
        ("deep", {"src/deep/"}),
        ("a{b", set()),
    ],
)
async def test_globs_mean_what_they_mean_elsewhere(bench, find, glob, found):
    if glob == "a{b":
        with pytest.raises(ToolFailed, match="no pattern for names"):
            await bench.call(find, glob=glob)
        return
    assert set(names((await bench.call(find, glob=glob)).text)) == found


async def test_matching_lines_are_numbered_under_their_files_name(bench, find):
    text = (await bench.call(find, pattern="loss")).text
    assert text.splitlines() == [
        "notes.md",
        "1: the loss fell",
        "",
        "train.py",
        "4:     loss = 1",
        "5:     return loss",
        "[4 files searched]",
    ]


async def test_case_and_a_glob_bound_the_search(bench, find):
    text = (await bench.call(find, pattern="^loss", ignore_case=True, glob="*.py")).text
    assert text.splitlines() == ["src/model.py", "1: LOSS = 'Loss'", "[2 files searched]"]


async def test_context_stands_around_a_match_and_is_told_once(bench, find):
    (bench.workspace / "notes.md").write_text("".join(f"line {n}\n" for n in range(1, 10)))
    text = (await bench.call(find, pattern="line (3|7)", path="notes.md", context=1)).text
    rows = ["2- line 2", "3: line 3", "4- line 4", "--", "6- line 6", "7: line 7", "8- line 8"]
    assert text.splitlines()[1:-1] == rows


async def test_only_files_with_their_counts(bench, find):
    text = (await bench.call(find, pattern="loss", files_only=True)).text
    assert text.splitlines()[:-1] == ["notes.md: 1", "train.py: 2"]


async def test_pages_joined_give_every_match_once(bench, find):
    (bench.workspace / "many.txt").write_text("".join(f"hit {n}\n" for n in range(250)))
    seen, offset = [], 0
    while offset is not None:
        rows = (await bench.call(find, pattern="hit", offset=offset)).text.splitlines()
        seen += [row.partition(": ")[2] for row in rows[1:-1]]
        offset = int(rows[-1].partition("offset=")[2].partition(";")[0].rstrip("]")) if "offset=" in rows[-1] else None
    assert seen == [f"hit {n}" for n in range(250)]


async def test_an_offset_past_the_last_match_is_told(bench, find):
    assert "no more than 3 results" in (await bench.call(find, pattern="loss", offset=9)).text


async def test_a_page_is_bounded_in_characters(bench, find):
    (bench.workspace / "wide.txt").write_text(("x" * 5_000 + "needle" + "y" * 5_000 + "\n") * 500)
    text = (await bench.call(find, pattern="needle", limit=1_000)).text
    assert len(text) < 26_000
    assert "[...] " in text
    assert all("needle" in row for row in text.splitlines()[1:-1])


async def test_what_gitignore_names_is_left_out_unless_asked_for(bench, find):
    (bench.workspace / ".gitignore").write_text("*.csv\n/out/\n!keep.csv\n")
    (bench.workspace / "src" / ".gitignore").write_text("!data.csv\nmodel.py\n")
    made = "out/a.csv keep.csv drop.csv src/other.csv src/out/b.txt node_modules/c.csv .git/d.csv"
    for name in made.split():
        (bench.workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (bench.workspace / name).write_text("x\n")
    text = (await bench.call(find, glob="*.{csv,txt,py}")).text
    assert set(names(text)) == {"keep.csv", "src/deep/data.csv", "src/out/b.txt", "train.py"}
    assert "5 ignored names left out" in text
    below = (await bench.call(find, glob="*.{csv,py}", path="src")).text
    assert set(names(below)) == {"src/deep/data.csv"}
    everything = names((await bench.call(find, glob="*.csv", all_files=True)).text)
    assert {"drop.csv", "out/a.csv", "node_modules/c.csv"} < set(everything)
    assert ".git/d.csv" not in everything


async def test_an_expression_that_would_never_end_elsewhere_ends(bench, find):
    (bench.workspace / "trap.txt").write_text("a" * 100_000 + "b\n")
    begun = time.monotonic()
    assert "nothing found" in (await bench.call(find, pattern="(a+)+$", path="trap.txt")).text
    assert time.monotonic() - begun < 5


async def test_a_match_stays_on_its_line(bench, find):
    assert "nothing found" in (await bench.call(find, pattern=r"torch[^x]*def", path="train.py")).text


@pytest.mark.parametrize("pattern", ["(", "(?=x)", r"(a)\1", "x" * 3_000])
async def test_a_wrong_expression_is_told_with_the_syntax(bench, find, pattern):
    with pytest.raises(ToolFailed) as refused:
        await bench.call(find, pattern=pattern)
    assert refused.value.remedy


async def test_nothing_to_look_for_is_told(bench, find):
    with pytest.raises(ToolFailed, match="nothing to look for"):
        await bench.call(find)


async def test_no_link_is_followed_and_nothing_outside_is_seen(bench, find, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("loss of a secret\n")
    (bench.workspace / "link").symlink_to(tmp_path / "outside")
    (bench.workspace / "one.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    assert "secret" not in (await bench.call(find, pattern="loss", all_files=True)).text
    with pytest.raises(PathRefused):
        await bench.call(find, pattern="loss", path="/root")
    with pytest.raises(PathRefused):
        await bench.call(find, pattern="loss", path="link")


async def test_binary_and_large_files_are_left_out_and_the_large_ones_told(bench, find, monkeypatch):
    (bench.workspace / "a.bin").write_bytes(b"loss\0loss")
    with (bench.workspace / "big.txt").open("wb") as file:
        file.truncate(17 << 20)
    os.mkfifo(bench.workspace / "fifo")
    text = (await bench.call(find, pattern="loss")).text
    assert "a.bin" not in text
    assert "1 over 16 MB left out" in text


async def test_names_that_are_no_text_are_shown_all_the_same(bench, find):
    with open(os.path.join(os.fsencode(bench.workspace), b"\xff\n.odd"), "wb"):
        pass
    assert (await bench.call(find, glob="*.odd")).text.encode().decode().startswith("\ufffd\\n.odd")


async def test_a_missing_folder_is_told_with_the_nearest(bench, find):
    with pytest.raises(ToolFailed, match="does not exist"):
        await bench.call(find, glob="*", path="scr")


@pytest.mark.watch_loop(limit_s=1.0)
async def test_a_large_tree_does_not_stop_the_event_loop_and_can_be_cancelled(bench, find):
    await asyncio.to_thread(grow, bench.workspace)
    task = asyncio.create_task(bench.call(find, pattern="words nowhere"))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    text = (await bench.call(find, pattern="words nowhere")).text
    assert "nothing found; 3,005 files searched" in text


def grow(workspace: Path) -> None:
    for number in range(3_000):
        folder = workspace / f"d{number % 30}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text("some words\n" * 20)
    (workspace / ".gitignore").write_text("*.pyc\nbuild/\n")
