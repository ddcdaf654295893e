"""A port of a pod seen from outside, through a real supervisor and a real server inside."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ml_intern.base.errors import BadSettings, SandboxError
from ml_intern.sandbox import forward, lock
from ml_intern.sandbox.commands import Running
from ml_intern.sandbox.forward import Forward, forwarded, require, standing, until_gone
from ml_intern.sandbox.ports import OURS, ports
from tests.sandbox.yard import PYTHON, Yard

# Echoes what arrives until the client has ended, then says how much that was.
ECHO = """
import socket, sys, threading
def serve(peer):
    with peer:
        count = 0
        while piece := peer.recv(65536):
            count += len(piece)
            peer.sendall(piece)
        peer.sendall(b"<%d>" % count)
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as server:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""  # noqa: E501 - a program


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PORT = _free()
"""Other workers of this machine have others."""


async def serve(yard: Yard, code: str, *arguments: object, key: str = "server") -> None:
    """Leave a server running inside."""
    (yard.workspace / f"{key}.py").write_text(code)
    spec = yard.spec(f"exec {PYTHON} -I {key}.py {' '.join(map(str, arguments))}", key)
    assert isinstance(await yard.commands().start(spec), Running)
    async with asyncio.timeout(10):
        while not ports(yard.session):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def echoing(yard: Yard, host: str = "127.0.0.1") -> AsyncGenerator[tuple[Forward, list[str]]]:
    await serve(yard, ECHO, host, PORT)
    told: list[str] = []
    async with forwarded(yard.session, PORT, None, told.append) as made:
        yield made, told


async def exchanged(at: int, data: bytes) -> bytes:
    """What came back for `data`, the end of which was told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at)
    sending = asyncio.ensure_future(_send(writer, data))
    try:
        return await reader.read(-1)
    finally:
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


async def test_what_is_sent_arrives_and_the_end_of_one_direction_leaves_the_other_open(walled: Yard):
    async with echoing(walled) as (made, told):
        assert PORT <= made.at < PORT + 100
        assert await exchanged(made.at, b"hello") == b"hello<5>"
    assert told == []


@pytest.mark.watch_loop
async def test_many_connections_carry_much_at_once_each_its_own(walled: Yard):
    async with echoing(walled) as (made, told):
        sent = [bytes([number]) * 300_000 for number in range(20)]
        back = await asyncio.gather(*(exchanged(made.at, data) for data in sent))
    assert [hashlib.sha256(each).hexdigest() for each in back] == [
        hashlib.sha256(each + b"<300000>").hexdigest() for each in sent
    ]
    assert told == []


async def test_who_does_not_read_holds_up_who_writes_and_memory_stays_small(walled: Yard):
    flood = f"import socket\nwith socket.create_server(('127.0.0.1', {PORT})) as s:\n    p = s.accept()[0]\n    n = 0\n"
    flood += "    while True:\n        n += p.send(b'x' * 65536)\n        open('sent', 'w').write(str(n))\n"
    await serve(walled, flood)
    async with forwarded(walled.session, PORT, None, lambda _: None) as made:
        with socket.create_connection(("127.0.0.1", made.at)):
            before = -1
            while (now := await _sent(walled)) != before:
                before = now
            # The kernel's own buffers on both sides hold some megabytes; ours hold next to nothing.
            assert 0 < now < 32_000_000


async def _sent(yard: Yard) -> int:
    await asyncio.sleep(0.5)
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int((yard.workspace / "sent").read_text())
    return 0


async def test_a_server_that_listens_by_ipv6_alone_is_reached_too(walled: Yard):
    async with echoing(walled, "::1") as (made, _):
        assert await exchanged(made.at, b"six") == b"six<3>"


async def test_a_port_that_is_taken_here_gives_way_to_the_next_and_one_that_was_chosen_is_refused(walled: Yard):
    await serve(walled, ECHO, "127.0.0.1", PORT)
    with socket.create_server(("127.0.0.1", PORT)):
        async with forwarded(walled.session, PORT, None, lambda _: None) as made:
            assert PORT < made.at < PORT + 100
            assert await exchanged(made.at, b"x") == b"x<1>"
        with pytest.raises(BadSettings, match=f"Port {PORT} of this machine is taken"):
            async with forwarded(walled.session, PORT, PORT, lambda _: None):
                pass


async def test_only_localhost_listens_and_nothing_does_afterwards(walled: Yard):
    async with echoing(walled) as (made, _):
        listening = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
        places = [row.split()[1] for row in listening.splitlines() if f":{made.at:04X} " in row and " 0A " in row]
        assert places == [f"0100007F:{made.at:04X}"]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", made.at)


async def test_another_user_of_this_machine_is_refused(walled: Yard):
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    code = "import encodings.idna, os, socket, sys; os.setuid(65534)\n"
    code += "print(socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(9))"
    async with echoing(walled) as (made, told):
        line = [sys.executable, "-I", "-S", "-c", code, str(made.at)]
        done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, timeout=20)
        assert done.stdout.strip() == "b''" or "ConnectionResetError" in done.stderr, done
        assert await exchanged(made.at, b"mine") == b"mine<4>"
    assert told == ["A connection of another user of this machine was refused."]


async def test_another_user_cannot_ask_the_supervisor_even_where_the_socket_is_open_to_all(walled: Yard):
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    await serve(walled, ECHO, "127.0.0.1", PORT)
    for path, mode in ((walled.session, 0o755), (walled.session / "supervisor.sock", 0o777)):
        path.chmod(mode)
    code = "import os, socket, sys; os.setuid(int(sys.argv[1]))\n"
    code += "s = socket.socket(socket.AF_UNIX); s.settimeout(9); s.connect('supervisor.sock')\n"
    code += 'try:\n    s.sendall(b\'{"op": "forward", "port": PORT}\\n\'); print(socket.recv_fds(s, 999, 1)[:2])\n'
    code += "except OSError as error:\n    print(error)\n"
    line = [sys.executable, "-I", "-S", "-c", code.replace("PORT", str(PORT))]
    ours, theirs = (
        subprocess.run([*line, uid], check=True, cwd=walled.session, capture_output=True, text=True, timeout=20)
        for uid in ("0", "65534")
    )
    assert "forward" in ours.stdout, ours
    assert "forward" not in theirs.stdout, theirs
    assert theirs.stdout.strip() in {"(b'', [])", "[Errno 104] Connection reset by peer", "[Errno 32] Broken pipe"}


def ask(yard: Yard, **request: object) -> tuple[dict[str, str], list[int]]:
    """Talk to the supervisor as any program of ours could."""
    with contextlib.chdir(yard.session), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect("supervisor.sock")
        connection.sendall(json.dumps({"op": "forward", **request}).encode() + b"\n")
        line, numbers, _, _ = socket.recv_fds(connection, 4096, 1)
        return json.loads(line), numbers


async def test_no_address_but_the_pods_localhost_can_be_asked_for(walled: Yard):
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        await walled.run("true")
        assert forward.dial(walled.session, port) is None
        answer, numbers = await asyncio.to_thread(
            ask, walled, port=port, host="10.0.0.1", address="169.254.169.254", family=1
        )
        assert answer["event"] == "forward"
        with socket.socket(fileno=numbers[0]) as given:
            # Refused by the pod's own localhost, or about to be.
            with contextlib.suppress(OSError):
                assert given.getpeername() == ("127.0.0.1", port)
            assert given.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
        outside.settimeout(0.2)
        with pytest.raises(TimeoutError):
            outside.accept()


@pytest.mark.parametrize("port", [*OURS, 0, -1, 65_536, "8000 ", "x", None, True, [80], 1e9])
async def test_the_brokers_own_ports_and_what_is_no_port_are_refused(walled: Yard, port: object):
    await walled.run("true")
    answer, numbers = await asyncio.to_thread(ask, walled, port=port)
    if port == "8000 ":
        os.close(numbers[0])
        return
    assert (answer["event"], numbers) == ("refused", [])


async def test_where_there_is_no_pod_nothing_is_handed_out(yard: Yard):
    await yard.run("true")
    if yard.level.name == "FULL":
        assert await standing(yard.session) is not None
        return
    answer, numbers = await asyncio.to_thread(ask, yard, port=PORT)
    assert (answer["event"], numbers) == ("refused", [])
    words = {"WALLS": "no network, not even localhost", "NONE": "this machine's own localhost"}
    with pytest.raises(SandboxError, match=words[yard.level.name]):
        await require(yard.session, PORT, "s1")


async def test_a_command_inside_cannot_make_a_forward(walled: Yard):
    await serve(walled, ECHO, "127.0.0.1", PORT)
    _, text = await walled.python(f"""
import glob, os, socket
names = [{str(walled.session / "supervisor.sock")!r}, "supervisor.sock", "../session/supervisor.sock"]
names += glob.glob("/proc/*/cwd/supervisor.sock") + glob.glob("/proc/*/root/**/supervisor.sock")
for name in names:
    try:
        socket.socket(socket.AF_UNIX).connect(name)
        print("REACHED", name)
    except OSError as error:
        print(type(error).__name__)
print([name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{{name}}")])
""")
    assert "REACHED" not in text, text
    assert text.count("FileNotFoundError") >= 3


async def test_what_does_not_listen_is_told_with_what_does(walled: Yard):
    with pytest.raises(SandboxError, match=r"Nothing of session s1 runs\."):
        await require(walled.session, PORT, "s1")
    await walled.run("true")
    with pytest.raises(SandboxError, match=r"Nothing listens on port 1 .* No command of it listens\."):
        await require(walled.session, 1, "s1")
    await serve(walled, ECHO, "127.0.0.1", PORT)
    with pytest.raises(SandboxError, match=rf"Nothing listens on port 1 in session s1\. Listening: {PORT}\."):
        await require(walled.session, 1, "s1")
    with pytest.raises(BadSettings, match="the sandbox's own"):
        await require(walled.session, OURS[0], "s1")
    assert (await require(walled.session, PORT, "s1")).supervisor == lock.holder(str(walled.session))


async def test_a_server_that_ends_and_comes_back_is_told_once_and_found_again(walled: Yard):
    async with echoing(walled) as (made, told):
        assert await exchanged(made.at, b"1") == b"1<1>"
        await walled.commands().stop("server")
        await walled.commands().attach("server", lambda _: None)
        for _ in range(3):
            with contextlib.suppress(ConnectionError):
                assert await exchanged(made.at, b"2") == b""
        assert [re.sub(r"\d+", "N", each) for each in told] == [
            "Nothing listens on port N any more; it is tried again at each connection."
        ]
        await serve(walled, ECHO, "127.0.0.1", PORT, key="again")
        assert await exchanged(made.at, b"3") == b"3<1>"


async def test_it_is_told_when_the_sessions_commands_end_and_later_connections_are_refused_in_words(walled: Yard):
    async with echoing(walled) as (made, told):
        found = await standing(walled.session)
        assert found is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", made.at)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        gone = asyncio.ensure_future(until_gone(found.supervisor))
        await asyncio.sleep(0.1)
        assert not gone.done()
        await walled.commands().close()
        async with asyncio.timeout(10):
            await gone
            with contextlib.suppress(ConnectionError):
                assert await reader.read(-1) == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            assert await exchanged(made.at, b"late") == b""
    assert told == ["Nothing of the session runs any more."]


async def test_more_connections_than_the_limit_are_refused_and_the_others_go_on(walled: Yard):
    async with echoing(walled) as (made, told):
        kept = [await asyncio.open_connection("127.0.0.1", made.at) for _ in range(forward.MOST_CONNECTIONS)]
        for reader, writer in kept:
            writer.write(b"x")
            assert await reader.read(1) == b"x"
        with contextlib.suppress(ConnectionError):
            assert await exchanged(made.at, b"one too many") == b""
        reader, writer = kept[0]
        writer.write(b"y")
        assert await reader.read(1) == b"y"
        for _, writer in kept:
            writer.close()
    assert told == ["More than 256 connections are open: the newest was refused."]
