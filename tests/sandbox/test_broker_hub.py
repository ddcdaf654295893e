"""The Hub's door: reads get the token, writes are refused, and the token never comes back."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ml_intern.sandbox.broker.hub import needs_token
from ml_intern.sandbox.broker.reach import Refused
from ml_intern.sandbox.network import make_reach
from tests.sandbox.broker_bench import NAMES, REACH, TOKEN, Bench, Outside, get, running


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with running(tmp_path, Outside(NAMES), REACH) as bench:
        yield bench


WRITES = {
    "a new repository": ("POST", "/api/repos/create", "may change"),
    "a deletion": ("DELETE", "/api/repos/delete", "may change"),
    "a commit": ("POST", "/api/models/me/mine/commit/main", "may change"),
    "an upload": ("PUT", "/me/mine/resolve/main/weights.bin", "may change"),
    "settings": ("PUT", "/api/models/me/mine/settings", "may change"),
    "a job": ("POST", "/api/jobs/me", "may change"),
    "a secret of a Space": ("POST", "/api/spaces/me/mine/secrets", "permission to write"),
    "the names of a Space's secrets": ("GET", "/api/spaces/me/mine/secrets", "permission to write"),
    "a permission to upload": ("GET", "/api/models/me/mine/xet-write-token/main", "permission to write"),
    "the same, encoded": ("GET", "/api/models/me/mine/xet%2Dwrite-token/main", "permission to write"),
    "the same, encoded twice": ("GET", "/api/models/me/mine%252fxet-write-token/main", "permission to write"),
    "the same in capitals": ("GET", "/api/models/me/mine/XET-write-token/main", "permission to write"),
    "a token of a Space": ("GET", "/api/spaces/me/mine/jwt", "permission to write"),
    "a push": ("POST", "/me/mine.git/git-receive-pack", "permission to write"),
    "the beginning of a push without .git": ("GET", "/me/mine/info/refs?service=git-receive-pack", "push"),
    "the beginning of a push": ("GET", "/me/mine.git/info/refs?service=git-receive-pack", "push"),
    "a way up": ("GET", "/me/mine/resolve/main/../../../../api/models/me/mine", "two places"),
    "a way up, encoded": ("GET", "/me/mine/resolve/main/%2e%2e/x", "two places"),
    "a path with a backslash": ("GET", "/me/mine/resolve/main/..%5cx", "two places"),
    "a path with two slashes": ("GET", "//evil.example/x", "two places"),
    "a whole URL": ("GET", "http://evil.example/x", "two places"),
    "another method": ("PATCH", "/api/models/me/mine", "may change"),
    "a method in a query": ("POST", "/api/models/me/mine/tree/main?_method=GET", "may change"),
}


@pytest.mark.parametrize(("method", "path", "why"), WRITES.values(), ids=WRITES)
async def test_whatever_may_write_to_the_hub_is_refused_and_logged(bench: Bench, method: str, path: str, why: str):
    got = await bench.ask(bench.hub, get(path, "X-HTTP-Method-Override: GET", method=method))
    assert got.startswith((b"HTTP/1.1 403 ml-intern: ", b"HTTP/1.1 400 ml-intern: "))
    (line,) = bench.lines()
    assert line["verdict"] == "refused"
    assert why in str(line["why"])
    assert bench.outside.reached == []


@pytest.mark.parametrize("body", [b'{"operation": "upload"}', b"no JSON", b'{"operation": "download", "operation": 1}'])
async def test_an_lfs_batch_that_is_no_download_is_refused(bench: Bench, body: bytes):
    path = "/me/mine.git/info/lfs/objects/batch"
    got = await bench.ask(bench.hub, get(path, f"Content-Length: {len(body)}", method="POST") + body)
    assert got.startswith(b"HTTP/1.1 4")
    assert bench.outside.reached == []


@pytest.fixture
async def plain_hub(tmp_path: Path) -> AsyncGenerator[Bench]:
    """A Hub of the person's own, without TLS, so that what it hears can be read."""
    reach = make_reach({"HF_ENDPOINT": "http://hub.corp:8000"}, token=TOKEN)
    async with running(tmp_path, Outside({"hub.corp": [["10.0.0.5"]]}), reach) as bench:
        bench.outside.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        yield bench


READS = {
    "/gpt2/resolve/main/config.json": True,
    "/me/mine/resolve/refs%2Fpr%2F1/a/b.bin": True,
    "/me/mine/resolve/main/secrets/jwt": True,
    "/datasets/me/mine/resolve/main/data.parquet": True,
    "/api/models": True,
    "/api/models/gpt2": True,
    "/api/models/me/mine/revision/main": True,
    "/api/datasets/me/mine/tree/main/data?recursive=true": True,
    "/api/resolve-cache/models/me/mine/abc/config.json": True,
    "/me/mine.git/info/refs?service=git-upload-pack": True,
    "/me/mine/info/refs?service=git-upload-pack": True,
    "/api/whoami-v2": False,
    "/api/settings/webhooks": False,
    "/api/settings/tokens": False,
    "/api/jobs/me": False,
    "/api/models/me/mine/settings": False,
    "/settings/tokens": False,
    "/": False,
}


@pytest.mark.parametrize(("path", "given"), READS.items())
async def test_reads_of_repositories_get_the_token_and_nothing_else_does(plain_hub: Bench, path: str, given: bool):
    asked = get(path, "Authorization: Bearer mine", "Cookie: token=x", "Range: bytes=0-1", "X-HTTP-Method: PUT")
    got = await plain_hub.ask(plain_hub.hub, asked)
    assert got.endswith(b"{}")
    heard = plain_hub.outside.heard.decode()
    assert (f"Authorization: Bearer {TOKEN}\r\n" in heard) == given
    assert ("Authorization" in heard) == given
    assert "Cookie" not in heard
    assert "X-HTTP-Method" not in heard
    assert "Range: bytes=0-1" in heard
    assert heard.startswith(f"GET {path} HTTP/1.1\r\nHost: hub.corp:8000\r\n")


async def test_a_read_by_post_carries_its_body(plain_hub: Bench):
    body = b'{"paths": ["a"]}'
    asked = get("/api/models/me/mine/paths-info/main", f"Content-Length: {len(body)}", method="POST")
    await plain_hub.ask(plain_hub.hub, asked + body)
    assert plain_hub.outside.heard.endswith(body)
    assert TOKEN.encode() in plain_hub.outside.heard


def chunked(*pieces: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


ECHOES = {
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN.encode()),
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nit is " + TOKEN.encode(),
    "in a header": b"HTTP/1.1 200 OK\r\nX-Echo: %b\r\nContent-Length: 0\r\n\r\n" % TOKEN.encode(),
    "in the phrase": b"HTTP/1.1 200 %b\r\nContent-Length: 0\r\n\r\n" % TOKEN.encode(),
    "in a redirect": b"HTTP/1.1 302 F\r\nLocation: https://x/%b\r\nContent-Length: 0\r\n\r\n" % TOKEN.encode(),
    "in pieces": chunked(TOKEN[:9].encode(), TOKEN[9:].encode()),
    "byte by byte": chunked(*(bytes([one]) for one in TOKEN.encode())),
    "in a coding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345",
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
async def test_a_hub_that_echoes_the_token_does_not_give_it_away(plain_hub: Bench, answer: bytes):
    plain_hub.outside.answer = answer
    got = await plain_hub.ask(plain_hub.hub, get("/api/models/gpt2"))
    assert TOKEN.encode() in plain_hub.outside.heard
    unchunked = got.replace(b"\r\n", b"").replace(b"1", b"")
    assert TOKEN.encode() not in got
    assert TOKEN.replace("1", "").encode() not in unchunked
    assert TOKEN not in plain_hub.log.read_text()


async def test_a_redirect_within_the_hub_comes_back_here_and_one_to_the_cdn_does_not(plain_hub: Bench):
    for location, seen in (
        ("http://hub.corp:8000/me/new/resolve/main/a", b"Location: http://127.0.0.1:313/me/new/resolve/main/a\r\n"),
        ("http://hub.corp:8000.evil/x", b"Location: http://hub.corp:8000.evil/x\r\n"),
        ("https://cdn-lfs.hf.co/abc?sig=1", b"Location: https://cdn-lfs.hf.co/abc?sig=1\r\n"),
        ("/me/new", b"Location: /me/new\r\n"),
    ):
        plain_hub.outside.answer = f"HTTP/1.1 302 F\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        assert seen in await plain_hub.ask(plain_hub.hub, get("/me/mine/resolve/main/a"))
    assert plain_hub.outside.reached == ["10.0.0.5:8000"] * 4


async def test_the_hub_is_spoken_to_in_tls_and_an_unknown_certificate_is_an_end(bench: Bench):
    bench.outside.answer = b"no TLS at all"
    got = await bench.ask(bench.hub, get("/api/models/gpt2"))
    assert got.startswith(b"HTTP/1.1 502 ")
    assert TOKEN.encode() not in bench.outside.heard
    assert bench.outside.heard[:2] == b"\x16\x03"


def test_a_path_that_is_ambiguous_gets_no_token():
    with pytest.raises(Refused):
        needs_token("/a/b/resolve/../../x")
