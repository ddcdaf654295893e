"""A broker in this process, with its sockets, and a world in which names and addresses are what a test says."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ml_intern.sandbox.broker.desk import Desk
from ml_intern.sandbox.broker.egress import Egress
from ml_intern.sandbox.broker.heads import MOST_HEAD_BYTES
from ml_intern.sandbox.broker.outlet import Outlet, Stream
from ml_intern.sandbox.broker.reach import Reach
from ml_intern.sandbox.broker.serve import Broker
from ml_intern.sandbox.network import make_reach

TOKEN = "hf_theRealTokenOfThePerson0123456789"
PUBLIC = "93.184.216.34"
REACH = make_reach({"PIP_INDEX_URL": "http://10.1.2.3:8080/simple", "UV_INDEX": "https://index.corp:4433"}, token=TOKEN)


@dataclass
class Outside:
    """The world: whom names belong to, who listens, what was asked. A name may answer differently each time."""

    names: Mapping[str, list[list[str]]]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    heard: bytes = b""
    answer: bytes = b""

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError("no such name")
        return answers[min(self.asked.count(host), len(answers)) - 1]

    async def connect(self, address: str, port: int) -> Stream:
        self.reached.append(f"{address}:{port}")
        return Stream(*await asyncio.open_connection("127.0.0.1", self.port, limit=MOST_HEAD_BYTES))

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            self.heard += piece
            writer.write(self.answer or piece)
            await writer.drain()
            if self.answer:
                break
        writer.close()


@dataclass
class Bench:
    """A running broker, the doors' ports, its log and the world around it."""

    broker: Broker
    outside: Outside
    log: Path
    proxy: int
    hub: int

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    async def ask(self, port: int, *pieces: bytes, until: bytes = b"") -> bytes:
        """Send the pieces; each after the first when `until` was answered. All that came back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = b""
        for number, piece in enumerate(pieces):
            if number:
                got += await reader.readuntil(until)
            writer.write(piece)
        writer.write_eof()
        async with asyncio.timeout(10):
            got += await reader.read()
        writer.close()
        return got


@asynccontextmanager
async def running(place: Path, outside: Outside, reach: Reach) -> AsyncGenerator[Bench]:
    log = place / "egress.jsonl"
    broker = Broker(Egress(str(log)), Outlet(outside.resolve, outside.connect), Desk(str(place / "commands")))
    broker.reach = reach
    world = await asyncio.start_server(outside.listen, "127.0.0.1", 0)
    doors = [
        await asyncio.start_server(serve, "127.0.0.1", 0, limit=MOST_HEAD_BYTES) for serve in (broker.proxy, broker.hub)
    ]
    outside.port, *ports = (server.sockets[0].getsockname()[1] for server in (world, *doors))
    try:
        yield Bench(broker, outside, log, *ports)
    finally:
        for server in (world, *doors):
            server.close()


NAMES = {
    "pypi.org": [[PUBLIC]],
    "github.com": [["10.0.0.7"]],
    "files.pythonhosted.org": [["169.254.169.254"]],
    "codeload.github.com": [["::ffff:127.0.0.1"]],
    "raw.githubusercontent.com": [["64:ff9b::7f00:1"]],
    "objects.githubusercontent.com": [[PUBLIC, "127.0.0.1"]],
    "api.github.com": [[PUBLIC], ["127.0.0.1"]],
    "cdn-lfs.huggingface.co": [["100.64.1.1"]],
    "cdn-lfs-us-1.huggingface.co": [["2002:7f00:1::1"]],
    "cdn-lfs-eu-1.huggingface.co": [["2001:0:4136:e378::1"]],
    "media.githubusercontent.com": [["224.0.0.1"]],
    "release-assets.githubusercontent.com": [["fe80::1%eth0"]],
    "a.hf.co": [["0.0.0.0"]],
    "b.hf.co": [["fd00::1"]],
    "c.hf.co": [["255.255.255.255"]],
    "d.hf.co": [["::1"]],
    "e.hf.co": [["192.168.1.1"]],
    "f.hf.co": [["::127.0.0.1"]],
    "index.corp": [["10.9.9.9"]],
    "huggingface.co": [[PUBLIC]],
    "proxy.corp": [["10.0.0.1"]],
}


def connect(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]).encode()


def get(url: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {url} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def client_hello(name: str | None) -> bytes:
    """What the ssl module of this Python says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
