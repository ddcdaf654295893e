"""The proxy's door: where commands may not go, and how they get where they may."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from ml_intern.sandbox.broker import hello
from ml_intern.sandbox.broker.heads import Broken
from ml_intern.sandbox.broker.reach import Reach, Rule, to_reach, to_text, why_refused
from ml_intern.sandbox.broker.serve import MOST_CONNECTIONS
from tests.sandbox.broker_bench import NAMES, PUBLIC, REACH, TOKEN, Bench, Outside, client_hello, connect, get, running


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with running(tmp_path, Outside(NAMES), REACH) as bench:
        yield bench


BY_HOST = {
    "a foreign host": ("evil.example:443", "not among the hosts"),
    "a host that ends like an allowed one": ("evilpypi.org:443", "not among the hosts"),
    "a host that begins like an allowed one": ("pypi.org.evil.example:443", "not among the hosts"),
    "the bare parent of a pattern": ("hf.co:443", "not among the hosts"),
    "data in a name below a foreign host": ("c2VjcmV0.exfil.example:443", "not among the hosts"),
    "localhost": ("localhost:443", "not among the hosts"),
    "a name of the cloud's metadata": ("metadata.google.internal:80", "not among the hosts"),
    "a raw address": (f"{PUBLIC}:443", "an address"),
    "a private address": ("10.0.0.1:443", "an address"),
    "loopback": ("127.0.0.1:443", "an address"),
    "loopback in short": ("127.1:443", "an address"),
    "loopback as a number": ("2130706433:443", "an address"),
    "loopback in hexadecimal": ("0x7f.0.0.1:443", "an address"),
    "loopback in octal": ("0177.0.0.1:443", "an address"),
    "the cloud's metadata": ("169.254.169.254:80", "an address"),
    "loopback with IPv6": ("[::1]:443", "an address"),
    "IPv4 in IPv6": ("[::ffff:10.0.0.1]:443", "an address"),
    "the configured address on another port": ("10.1.2.3:22", "an address"),
    "the configured host on another port": ("index.corp:443", "port 443"),
    "the Hub": ("huggingface.co:443", "$HF_ENDPOINT (http://127.0.0.1:313) and not through the proxy"),
    "the Hub in capitals": ("HuggingFace.CO.:443", "belongs to the Hub"),
    "the Hub's place for uploads": ("cas-server.xethub.hf.co:443", "belongs to the Hub"),
    "SSH": ("github.com:22", "port 22"),
    "mail": ("pypi.org:25", "port 25"),
    "DNS": ("pypi.org:53", "port 53"),
    "another port": ("pypi.org:8443", "port 8443"),
    "port 0": ("pypi.org:0", "port 0"),
    "a port beyond all": ("pypi.org:65979", "port 65979"),
    "a port that is no number": ("pypi.org:4４3", "no HTTP request"),
    "no port": ("pypi.org", "no host and port"),
    "a name with a user": ("evil@pypi.org:443", "no host"),
    "a name with a path": ("pypi.org/..:443", "no host"),
    "a name with a NUL": ("pypi.org\0.evil.example:443", "no HTTP request"),
    "a name with a percent": ("pypi.org%2eevil.example:443", "no host"),
    "a private address behind an allowed name": ("github.com:443", "not public"),
    "the metadata service behind an allowed name": ("files.pythonhosted.org:443", "not public"),
    "a mapped address behind an allowed name": ("codeload.github.com:443", "hides an IPv4"),
    "NAT64 behind an allowed name": ("raw.githubusercontent.com:443", "hides an IPv4"),
    "6to4 behind an allowed name": ("cdn-lfs-us-1.huggingface.co:443", "hides an IPv4"),
    "Teredo behind an allowed name": ("cdn-lfs-eu-1.huggingface.co:443", "hides an IPv4"),
    "one private address among public ones": ("objects.githubusercontent.com:443", "not public"),
    "a carrier's address": ("cdn-lfs.huggingface.co:443", "not public"),
    "a group": ("media.githubusercontent.com:443", "a group"),
    "a link": ("release-assets.githubusercontent.com:443", "one link only"),
    "no address": ("a.hf.co:443", "not public"),
    "a unique local address": ("b.hf.co:443", "not public"),
    "everybody": ("c.hf.co:443", "not public"),
    "loopback behind an allowed name": ("d.hf.co:443", "not public"),
    "a home network": ("e.hf.co:443", "not public"),
    "a compatible address": ("f.hf.co:443", "not public"),
}
BY_REQUEST = {
    "plain HTTP to a foreign host": (get("http://evil.example/"), "not among the hosts"),
    "plain HTTP to the metadata service": (get("http://169.254.169.254/latest/meta-data"), "an address"),
    "plain HTTP with another Host": (get("http://evil.example/", "X: y").replace(b"x", b"pypi.org"), "not among"),
    "plain HTTP to another port": (get("http://pypi.org:8080/"), "port 8080"),
    "the Hub without TLS": (get("http://huggingface.co/api/models"), "belongs to the Hub"),
    "https without a tunnel": (get("https://pypi.org/"), "takes http://host/path"),
    "another scheme": (get("ftp://pypi.org/"), "takes http://host/path"),
    "a URL with a user": (get("http://evil.example@pypi.org/"), "takes http://host/path"),
    "no URL": (get("/"), "takes http://host/path"),
    "an upload without TLS": (get("http://pypi.org/", "Content-Length: 3", method="POST") + b"abc", "without TLS"),
    "a body behind GET": (get("http://pypi.org/", "Content-Length: 3") + b"abc", "without TLS"),
    "two lengths": (get("http://pypi.org/", "Content-Length: 3", "Content-Length: 4"), "says twice"),
    "a length and chunks": (get("http://pypi.org/", "Content-Length: 3", "Transfer-Encoding: chunked"), "says twice"),
    "two hosts": (get("http://pypi.org/", "Host: y"), "says twice"),
    "chunks": (get("http://pypi.org/", "Transfer-Encoding: chunked"), "in chunks"),
    "a folded header": (get("http://pypi.org/", "A: b", " c: d"), "cannot be read"),
    "a space before the colon": (get("http://pypi.org/", "Content-Length : 3"), "cannot be read"),
    "a bare line feed": (get("http://pypi.org/", "A: b\nHost: evil"), "cannot be read"),
    "a NUL in a header": (get("http://pypi.org/", "A: b\0c"), "cannot be read"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "first line"),
    "SOCKS": (b"\x05\x01\x00\r\n\r\n", "first line"),
    "a head without end": (get("http://pypi.org/", *["A: " + "b" * 900] * 50), "too long"),
    "a head cut off": (b"GET http://pypi.org/ HT", "cut off"),
}


@pytest.mark.parametrize(("target", "why"), BY_HOST.values(), ids=BY_HOST)
async def test_a_tunnel_to_where_commands_may_not_go_is_refused_and_logged(bench: Bench, target: str, why: str):
    got = await bench.ask(bench.proxy, connect(target), client_hello("pypi.org"), until=b"\r\n\r\n")
    assert got.startswith((b"HTTP/1.1 403 ml-intern: ", b"HTTP/1.1 400 ml-intern: "))
    assert why.encode() in got
    (line,) = bench.lines()
    assert (line["verdict"], line["sent"], line["received"]) == ("refused", 0, 0)
    assert why in str(line["why"])
    assert bench.outside.reached == []


@pytest.mark.parametrize(("request_", "why"), BY_REQUEST.values(), ids=BY_REQUEST)
async def test_a_request_that_is_not_plain_and_allowed_is_refused_and_logged(bench: Bench, request_: bytes, why: str):
    got = await bench.ask(bench.proxy, request_)
    assert got.startswith(b"HTTP/1.1 4")
    (line,) = bench.lines()
    assert line["verdict"] == "refused"
    assert why in str(line["why"])
    assert bench.outside.reached == []


HELLOS = {
    "another name": (client_hello("evil.example"), "asks for evil.example"),
    "no name": (client_hello(None), "asks for no name"),
    "a name that is longer": (client_hello("pypi.org.evil.example"), "asks for"),
    "no TLS": (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "carries no TLS"),
    "SSH": (b"SSH-2.0-OpenSSH_9.0\r\n", "carries no TLS"),
    "TLS that is no hello": (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "carries no TLS"),
    "a hello of lies": (b"\x16\x03\x01\x00\x2a\x01\x00\x00\x26" + b"\xff" * 38, "carries no TLS"),
}


@pytest.mark.parametrize(("first", "why"), HELLOS.values(), ids=HELLOS)
async def test_what_does_not_ask_for_the_host_of_the_tunnel_goes_nowhere(bench: Bench, first: bytes, why: str):
    got = await bench.ask(bench.proxy, connect("pypi.org:443"), first, until=b"\r\n\r\n")
    assert got == b"HTTP/1.1 200 Connection established\r\n\r\n"
    (line,) = bench.lines()
    assert (line["verdict"], line["sent"]) == ("refused", 0)
    assert why in str(line["why"])
    assert bench.outside.heard == b""


async def test_a_tunnel_carries_bytes_both_ways_and_counts_them(bench: Bench):
    first = client_hello("pypi.org")
    got = await bench.ask(bench.proxy, connect("PyPI.org.:443"), first + b"more", until=b"\r\n\r\n")
    assert got.endswith(first + b"more")
    assert bench.outside.heard == first + b"more"
    (line,) = bench.lines()
    size = len(first) + 4
    assert (line["host"], line["verdict"], line["sent"], line["received"]) == ("pypi.org", "allowed", size, size)


async def test_a_hello_in_small_records_and_pieces_is_read(bench: Bench):
    first = client_hello("pypi.org")
    body = first[5:]
    small = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in (body[at : at + 7] for at in range(0, 999, 7))
        if part
    )  # fmt: skip
    await bench.ask(bench.proxy, connect("pypi.org:443"), small, until=b"\r\n\r\n")
    assert bench.outside.heard == small


async def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_used(bench: Bench):
    await bench.ask(bench.proxy, connect("api.github.com:443"), client_hello("api.github.com"), until=b"\r\n\r\n")
    assert bench.outside.asked == ["api.github.com"]
    assert bench.outside.reached == [f"{PUBLIC}:443"]
    # The second time the name means this machine: refused, not connected.
    got = await bench.ask(bench.proxy, connect("api.github.com:443"))
    assert b"not public" in got
    assert bench.outside.reached == [f"{PUBLIC}:443"]


async def test_a_private_host_that_the_person_configured_is_reached(bench: Bench):
    bench.outside.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    got = await bench.ask(bench.proxy, get("http://10.1.2.3:8080/simple/a/?b=c", "Proxy-Authorization: Basic x"))
    assert got.endswith(b"hi")
    assert bench.outside.heard.startswith(b"GET /simple/a/?b=c HTTP/1.1\r\nHost: 10.1.2.3:8080\r\nConnection: close")
    assert b"Proxy" not in bench.outside.heard
    await bench.ask(bench.proxy, connect("index.corp:4433"), client_hello("index.corp"), until=b"\r\n\r\n")
    assert bench.outside.reached == ["10.1.2.3:8080", "10.9.9.9:4433"]


async def test_nothing_goes_out_behind_the_first_request(bench: Bench):
    bench.outside.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    await bench.ask(bench.proxy, get("http://pypi.org/") + get("http://evil.example/secret"))
    assert b"evil" not in bench.outside.heard


async def test_a_redirect_is_the_clients_to_follow(bench: Bench):
    bench.outside.answer = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    assert b"Location: http://169.254.169.254/" in await bench.ask(bench.proxy, get("http://pypi.org/"))
    assert bench.outside.reached == [f"{PUBLIC}:80"]
    assert b"an address" in await bench.ask(bench.proxy, get("http://169.254.169.254/"))
    assert bench.outside.reached == [f"{PUBLIC}:80"]


async def test_offline_everything_is_refused_with_that_word(bench: Bench):
    bench.broker.reach = replace(REACH, offline=True)
    for port, request in ((bench.proxy, connect("pypi.org:443")), (bench.hub, get("/api/models/gpt2"))):
        got = await bench.ask(port, request)
        assert got.startswith(b"HTTP/1.1 403 ")
        assert b"offline" in got
    assert [line["verdict"] for line in bench.lines()] == ["refused"] * 2
    assert bench.outside.reached == []


async def test_before_it_is_told_anything_nothing_is_let_through(bench: Bench):
    bench.broker.reach = Reach()
    assert (await bench.ask(bench.proxy, connect("pypi.org:443"))).startswith(b"HTTP/1.1 403 ")
    assert (await bench.ask(bench.hub, get("/api/models/gpt2"))).startswith(b"HTTP/1.1 4")
    assert bench.outside.reached == []


async def test_the_persons_own_proxy_is_asked_with_its_credentials(bench: Bench):
    proxies = {"https": "http://me:pass%40word@proxy.corp:3128", "http": "http://proxy.corp:3128"}
    bench.broker.reach = replace(REACH, proxies=proxies, direct=("index.corp",))
    bench.outside.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    got = await bench.ask(bench.proxy, connect("pypi.org:443"))
    assert got.startswith(b"HTTP/1.1 502 ")
    assert b"407" in got
    assert b"Proxy-Authorization: Basic bWU6cGFzc0B3b3Jk\r\n" in bench.outside.heard
    assert bench.outside.reached == ["10.0.0.1:3128"]
    assert b"not among" in await bench.ask(bench.proxy, connect("evil.example:443"))
    bench.outside.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    assert (await bench.ask(bench.proxy, get("http://pypi.org/simple/"))).endswith(b"hi")
    assert b"GET http://pypi.org/simple/ HTTP/1.1\r\n" in bench.outside.heard
    bench.outside.answer = b""
    await bench.ask(bench.proxy, connect("index.corp:4433"), client_hello("index.corp"), until=b"\r\n\r\n")
    assert bench.outside.reached[-1] == "10.9.9.9:4433"


async def test_too_many_connections_are_refused(bench: Bench):
    idle = [await asyncio.open_connection("127.0.0.1", bench.proxy) for _ in range(MOST_CONNECTIONS)]
    assert b"Too many connections" in await bench.ask(bench.proxy, connect("pypi.org:443"))
    for _, writer in idle:
        writer.close()


async def test_a_full_log_lets_nothing_through(bench: Bench):
    with bench.log.open("ab") as log:
        log.truncate(32 * 1024 * 1024)
    assert b"log of this session is full" in await bench.ask(bench.proxy, connect("pypi.org:443"))
    assert bench.outside.reached == []


def test_what_the_broker_is_told_survives_its_way():
    reach = replace(REACH, proxies={"https": "http://a"}, direct=("b",), offline=True)
    assert to_reach(to_text(reach)) == reach
    assert TOKEN not in repr(reach)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_public_addresses_are_let_through(address: str):
    assert why_refused(address) == ""


def test_a_rule_for_all_below_does_not_hold_for_what_only_ends_alike():
    rule = Rule("*.hf.co", (443,))
    assert rule.holds("a.b.hf.co", 443)
    assert not rule.holds("evilhf.co", 443)
    assert not rule.holds("hf.co", 443)


async def test_a_hello_that_hides_its_name_is_refused():
    first = client_hello("pypi.org")
    # The extensions end the message: one more, of the kind that encrypts the name.
    more = b"\xfe\x0d\x00\x01\x00"
    at = first.index(b"\x00\x00\x00\x0d\x00\x0b\x00\x00\x08pypi.org") - 2
    size = int.from_bytes(first[at : at + 2], "big") + len(more)
    body = first[9:at] + size.to_bytes(2, "big") + first[at + 2 :] + more
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    reader = asyncio.StreamReader()
    reader.feed_data(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
    with pytest.raises(Broken, match="hides"):
        await hello.read_hello(reader)
