"""Lines to and from a supervisor, over a real socket that breaks where a supervisor may die."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ml_intern.sandbox import connection
from ml_intern.sandbox.clients import SOCKET
from ml_intern.sandbox.connection import Link, connect

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _linked(folder: Path, play: Play):
    """A link to who does `play` and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await play(reader, writer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, str(folder / SOCKET), limit=8_000_000):
        link = connect(folder)
        assert isinstance(link, Link)
        async with link:
            yield link


async def test_lines_are_answers_however_they_arrive(tmp_path: Path):
    async def in_pieces(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (b'{"event": "sta', b'rted"}\n{"event": "output"}\n{"ev', b'ent": "ended"}\n'):
            writer.write(piece)
            await asyncio.sleep(0.02)

    async with _linked(tmp_path, in_pieces) as link:
        assert [await link.answer() for _ in range(3)] == [
            {"event": "started"},
            {"event": "output"},
            {"event": "ended"},
        ]
        assert await link.answer() is None


async def test_a_line_that_breaks_off_is_no_answer(tmp_path: Path):
    async def dies(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"event": "ended", "result": {"reason": "exi')

    async with _linked(tmp_path, dies) as link:
        assert await link.answer() is None


async def test_a_line_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "_LONGEST_ANSWER", 200_000)
    given_up = asyncio.Event()

    async def floods(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not given_up.is_set():
            writer.write(b"x" * 10_000)
            await asyncio.sleep(0)

    async with _linked(tmp_path, floods) as link:
        assert await link.answer() is None
        given_up.set()


async def test_a_request_of_any_length_arrives_whole(tmp_path: Path):
    async def echoes_its_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readuntil(b"\n"))
        writer.write(json.dumps({"length": len(request["argv"])}).encode() + b"\n")

    async with _linked(tmp_path, echoes_its_length) as link:
        await link.ask({"argv": "x" * 3_000_000})
        assert await link.answer() == {"length": 3_000_000}


async def test_asking_who_has_hung_up_shows_in_the_answer(tmp_path: Path):
    async def hangs_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    async with _linked(tmp_path, hangs_up) as link:
        await asyncio.sleep(0.05)
        for _ in range(3):
            await link.ask({"op": "hello"})
        assert await link.answer() is None


async def test_where_nobody_listens_there_is_no_link(tmp_path: Path):
    assert connect(tmp_path) is None
    assert connect(tmp_path / "missing") is None
