"""A whole turn at level walls, through the real command line."""

from pathlib import Path

import pytest

from ml_intern.sandbox.levels import Level, probe_walls
from tests.walks.walk import MODEL, Hearing, Walk, bash, story


@pytest.fixture
def landlocked() -> None:
    found = probe_walls()
    if found.level < Level.WALLS:
        pytest.skip(f"level walls is not on this machine: {found.reasons}")


@pytest.fixture
async def own(tmp_path: Path, landlocked: None):
    walk = Walk(tmp_path)
    yield walk
    await walk.close()


async def test_a_turn_at_level_walls_works_and_tells_its_walls(own: Walk):
    (own.workspace / ".git" / "hooks").mkdir(parents=True)
    (own.workspace / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (own.place / "secret").write_text("canary")
    steps = (
        [("write", {"path": "square.py", "content": "print(sum(n * n for n in range(4)))\n"})],
        [bash("python square.py | tee result; uv run square.py; chmod +x square.py; mktemp -d")],
        [bash("git init -q . && git add result && git -c user.name=a -c user.email=a@b commit -qm done; git log")],
        [bash(f"cat {own.place}/secret")],
        [bash("echo evil > .git/hooks/post-commit")],
        [bash("curl -sS --max-time 3 http://192.0.2.1/")],
    )
    async with Hearing(story(*steps)) as double:
        running = await own.start("do it", *MODEL, "--base-url", double.url, "--level", "walls")
        done = await running.ended()
        assert done.code == 0, done.said
        head = double.bodies[0].decode()
    written, ran, committed, read, hook, network = await own.answers()
    assert "sandbox walls" in done.err
    assert "num_workers=0" in head
    assert "14\n14\n" in ran.text, ran.text
    assert (own.workspace / "result").read_text() == "14\n"
    assert "done" in committed.text, committed.text
    assert "canary" not in read.text
    assert "outside what this session may see" in read.text
    assert "have been put back" in hook.text
    assert list((own.workspace / ".git" / "hooks").glob("post-commit")) == []
    assert network.outcome == "failed"
    assert written.outcome == "ok"


async def test_a_level_that_is_no_level_is_one_sentence(own: Walk):
    running = await own.start("do it", *MODEL, "--base-url", "http://127.0.0.1:9/v1", "--level", "strong")
    done = await running.ended()
    assert (done.code, done.out) == (2, "")
    assert "There is no sandbox level 'strong'." in done.err


async def test_level_none_is_refused_with_the_way_out(own: Walk):
    running = await own.start("do it", *MODEL, "--base-url", "http://127.0.0.1:9/v1", "--level", "none")
    done = await running.ended()
    assert done.code != 0
    assert "nobody watches" in done.err
    assert "ml-intern doctor" in done.err
