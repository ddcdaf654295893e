import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterator

import pytest

from ml_intern.sandbox import groups
from ml_intern.sandbox.groups import Group
from ml_intern.sandbox.limits import MEBIBYTE, Limits
from tests.walks.walk import MODEL, Done, Hearing, Walk, bash, story

# Above the product's own limit for one command: else the agent, which is in the net too, cannot start a thread.
MOST_PROCESSES = Limits().processes + 256
PYTHON = f"{sys.base_prefix}/bin/python3"
BOMB = "bomb() { bomb | bomb & }; bomb; sleep 30"
HOG = f'{PYTHON} -c \'x = bytearray(2048 * 1024 * 1024); print("ESC" + "APED")\'; echo went on'


@pytest.fixture
def net() -> Iterator[Group]:
    """A group around everything: what the product's own limits let through ends here, not at this machine."""
    bases = groups.find_bases()
    if not bases.memory or not bases.processes:
        pytest.skip(f"no cgroup for memory and processes can be made here: {bases}")
    group = groups.make(bases, f"walk-{os.getpid()}", processes=MOST_PROCESSES, memory_bytes=2048 * MEBIBYTE)
    yield group
    give_up_at = time.monotonic() + 20
    while not _is_removed(group):
        assert time.monotonic() < give_up_at, "processes are left in the net"
        time.sleep(0.02)


def _is_removed(net: Group) -> bool:
    """End and remove the net with the groups of commands inside it."""
    for folder in net.folders():
        for inner in [entry.path for entry in os.scandir(folder) if entry.is_dir()] if os.path.exists(folder) else []:
            inside = Group(inner, None, net.names)
            inside.kill()
            inside.remove()
    net.kill()
    return net.remove()


async def inside(net: Group, walk: Walk, command: str, timeout: int) -> tuple[Done, str]:
    """The command as a call of a session inside the net; how it ended, and what the model was told."""
    async with Hearing(story([bash(command, timeout=timeout)])) as double:
        done = await walk.run("go", *MODEL, "--base-url", double.url, preexec_fn=net.enter)
    return done, (await walk.answers())[0].text


async def test_a_fork_bomb_ends_with_its_call_and_the_machine_answers_meanwhile(walk: Walk, net: Group):
    bomb = asyncio.create_task(inside(net, walk, BOMB, timeout=2))
    took: list[float] = []
    while not bomb.done():
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        took.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)
    done, text = await bomb
    assert (done.code, done.out) == (0, "All done.\n"), done.said
    assert "deadline" in text
    assert "limit of processes. Start fewer at a time" in text or "processes was reached" in text, text
    # One that is slow may be another test's doing: with two workers the machine has as many cores as they have.
    assert statistics.median(took) < 1, took
    assert max(took) < 10, took


async def test_a_memory_hog_is_ended_alone_and_the_model_is_told_to_use_less(walk: Walk, net: Group):
    done, text = await inside(net, walk, HOG, timeout=30)
    assert (done.code, done.out) == (0, "All done.\n"), done.said
    assert "ESCAPED" not in text
    assert "went on" in text
    assert "memory limit" in text
