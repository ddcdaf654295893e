"""The net under the tests holds: no network, no credentials, no home of the user's, no loop that stands still."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.event_loop import LoopWatch
from tests.network import NetworkRefused

ROOT = Path(__file__).parents[2]
PLANTED = {"HF_TOKEN", "OPENAI_API_KEY", "MY_SECRET", "HF_ENDPOINT"}


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_a_connection_to_another_machine_is_refused(method):
    with socket.socket() as plain, pytest.raises(NetworkRefused, match=r"192\.0\.2\.1"):
        getattr(plain, method)(("192.0.2.1", 80))


def test_a_datagram_to_another_machine_is_refused():
    with socket.socket(type=socket.SOCK_DGRAM) as plain, pytest.raises(NetworkRefused):
        plain.sendto(b"x", ("192.0.2.1", 53))


def test_another_machine_is_not_looked_up():
    with pytest.raises(NetworkRefused):
        socket.getaddrinfo("example.org", 443)


async def test_the_event_loop_cannot_go_round_the_refusal():
    with pytest.raises(NetworkRefused):
        await asyncio.open_connection("192.0.2.1", 80)


async def test_a_server_on_this_machine_is_reached_by_name_address_and_path(tmp_path):
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    path = os.path.relpath(tmp_path / "s")
    by_path = await asyncio.start_unix_server(greet, path)
    async with server, by_path:
        connections = [
            await asyncio.open_connection("127.0.0.1", port),
            await asyncio.open_connection("localhost", port),
            await asyncio.open_unix_connection(path),
        ]
        for reader, writer in connections:
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()


def test_home_and_xdg_folders_are_the_tests_own(private_home):
    assert Path.home() == private_home
    assert all(private_home in Path(os.environ[name]).parents for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"))


def test_no_credential_of_the_machine_reaches_a_test(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_it.py").write_text(
        f"import os\nPLANTED = {PLANTED}\ndef test_it():\n    assert not PLANTED & {{*os.environ}}\n"
    )
    assert _pytest(tmp_path, **dict.fromkeys(PLANTED, "x")).returncode == 0


def test_a_test_that_blocks_its_loop_fails_with_the_stack(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_it.py").write_text(
        "import time, pytest\n@pytest.mark.watch_loop\nasync def test_it():\n    time.sleep(0.5)  # the culprit\n"
    )
    result = _pytest(tmp_path)
    assert result.returncode == 1
    assert "the event loop stood still" in result.stdout
    assert "the culprit" in result.stdout


async def test_a_loop_that_only_waits_is_not_blamed():
    watch = LoopWatch(limit_s=0.2)
    watch.start()
    await asyncio.sleep(0.5)
    watch.stop()
    assert watch.blocks == []


async def test_a_block_at_the_very_end_is_seen():
    watch = LoopWatch(limit_s=0.05)
    watch.start()
    await asyncio.sleep(0.1)
    time.sleep(0.2)
    watch.stop()
    assert len(watch.blocks) == 1


@pytest.mark.watch_loop(limit_s=1)
async def test_the_marker_leaves_a_quick_test_alone():
    await asyncio.sleep(0.01)


def _pytest(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml"]
    return subprocess.run(
        [*command, "--rootdir", folder, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
