import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ml_intern.base.errors import StoreFailed
from ml_intern.record.events import StopAsked, TurnEnded, UserSaid
from ml_intern.record.log import Refusal
from ml_intern.session.entrance import SOCKET, Absent, Sent, deliver, entrance
from tests.agent.stage import Stage, set_stage
from tests.session.test_session import Hanging, held_stage, say
from tests.session.test_stops import until

HI = Sent("say", "one", "hello")


@asynccontextmanager
async def running(folder: Path, stage: Stage) -> AsyncGenerator[asyncio.Task[object]]:
    """The stage's session at work, and its entrance open."""
    async with entrance(stage.session, folder):
        work = asyncio.create_task(stage.session.run())
        yield work
    await asyncio.wait_for(work, 5)


@pytest.mark.watch_loop
async def test_what_another_process_says_and_its_stop_are_taken_in(tmp_path: Path):
    hanging = Hanging()
    stage = await set_stage(hanging)
    await say(stage, "go")
    async with running(tmp_path, stage):
        await hanging.begun.wait()
        assert await deliver(tmp_path, Sent("say", "one", "then that", "after")) is None
        assert await deliver(tmp_path, Sent("stop", "two")) is None
        await until(lambda: len(stage.of(TurnEnded)) == 1)
    assert [(event.text, event.when, event.seen) for event in stage.of(UserSaid)][1:] == [("then that", "after", 0)]
    assert len(stage.of(StopAsked)) == 1


async def test_an_id_that_was_taken_in_is_dropped(tmp_path: Path):
    stage = await set_stage()
    async with entrance(stage.session, tmp_path):
        answers = await asyncio.gather(*(deliver(tmp_path, HI) for _ in range(20)))
    assert answers == [None] * 20
    assert len(stage.of(UserSaid)) == 1


async def test_a_refusal_comes_back_in_its_words(tmp_path: Path):
    stage = await set_stage()
    async with entrance(stage.session, tmp_path):
        assert await deliver(tmp_path, Sent("stop", "one")) == Refusal("Nothing runs that could be stopped.")
        refused = await deliver(tmp_path, Sent("say", "two", " "))
        assert isinstance(refused, Refusal)
        assert refused.what == "The message is empty."


async def test_what_comes_from_outside_never_answers_a_held_call(tmp_path: Path):
    stage = await held_stage([], "a")
    async with entrance(stage.session, tmp_path):
        assert await deliver(tmp_path, Sent("say", "one", "no, never")) is None
    [open_call] = stage.log.view.lane("main").calls.values()
    assert open_call.state == "held"


async def test_nobody_is_there_before_after_and_where_the_process_was_killed(tmp_path: Path):
    stage = await set_stage()
    assert await deliver(tmp_path, HI) == Absent()
    assert await deliver(tmp_path / "no folder", HI) == Absent()
    async with entrance(stage.session, tmp_path):
        pass
    assert not (tmp_path / SOCKET).exists()
    assert await deliver(tmp_path, HI) == Absent()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / SOCKET))
    left.close()
    assert await deliver(tmp_path, HI) == Absent()
    async with entrance(stage.session, tmp_path):
        assert await deliver(tmp_path, HI) is None


async def test_the_session_folder_may_have_a_path_of_any_length(tmp_path: Path):
    deep = tmp_path.joinpath(*(["long" * 20] * 3))
    deep.mkdir(parents=True)
    stage = await set_stage()
    async with entrance(stage.session, deep):
        assert await deliver(deep, HI) is None


async def test_what_cannot_be_read_and_who_sends_nothing_do_no_harm(tmp_path: Path):
    stage = await set_stage()
    async with entrance(stage.session, tmp_path):
        idle = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        for line in (b"no JSON\n", b'{"kind": "answer", "id": "x"}\n', b"\n", b"\xff\n"):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
            writer.write(line)
            assert b"could not be read" in await reader.readline()
            writer.close()
        assert await deliver(tmp_path, HI) is None
        idle[1].close()
    assert [event.text for event in stage.of(UserSaid)] == ["hello"]


async def test_what_is_too_long_for_the_socket_is_refused_at_once_and_what_just_fits_is_taken_in(tmp_path: Path):
    stage = await set_stage()
    async with entrance(stage.session, tmp_path):
        refused = await deliver(tmp_path, Sent("say", "one", "x" * 5_000_000))
        assert isinstance(refused, Refusal)
        assert refused.what == "The message is too long."
        assert await deliver(tmp_path, Sent("say", "two", "x" * 4_000_000)) is None
    assert [len(event.text) for event in stage.of(UserSaid)] == [4_000_000]


async def test_a_folder_that_takes_no_socket_is_told(tmp_path: Path):
    stage = await set_stage()
    (tmp_path / SOCKET).mkdir()
    with pytest.raises(StoreFailed, match="takes no socket"):
        async with entrance(stage.session, tmp_path):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_another_user_is_not_heard(tmp_path: Path):
    stage = await set_stage()
    for place in (tmp_path, *tmp_path.parents[:3]):
        place.chmod(0o777)
    async with entrance(stage.session, tmp_path):
        (tmp_path / SOCKET).chmod(0o777)
        code = (
            "import os, socket, sys\n"
            "os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "s.connect(sys.argv[1])\n"
            's.sendall(b\'{"kind": "say", "id": "x", "text": "hi"}\\n\')\n'
            "print(len(s.recv(100)))\n"
        )
        process = await asyncio.create_subprocess_exec(
            "python3", "-c", code, str(tmp_path / SOCKET), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    assert (out, stage.of(UserSaid)) == (b"0\n", [])
