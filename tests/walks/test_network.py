import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ml_intern.sandbox.broker.doors import PLACEHOLDER
from ml_intern.sandbox.levels import Level
from tests.doubles.index_server import index
from tests.walks.walk import MODEL, Done, Hearing, Walk, bash, everything_in, story

TOKEN = "hf_theRealTokenOfThePerson0123456789"


@pytest.fixture
async def walk(tmp_path: Path, walls: Level) -> AsyncGenerator[Walk]:
    if walls < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {walls.name}: there is no broker")
    walk = Walk(tmp_path, {"HF_TOKEN": TOKEN})
    yield walk
    await walk.close()


async def play(walk: Walk, *commands: str, flags: tuple[str, ...] = (), **env: str) -> tuple[Done, list[str]]:
    """One session whose model sends these commands; what each was answered."""
    async with Hearing(story(*([bash(command)] for command in commands))) as double:
        done = await walk.run("go", *flags, *MODEL, "--base-url", double.url, env=env)
        assert not any(TOKEN.encode() in body for body in double.bodies)
    assert done.code == 0, done.said
    return done, [answer.text for answer in await walk.answers()]


async def test_a_refused_host_is_named_to_the_model_and_shown_to_the_person(walk: Walk):
    said = await play(walk, "curl -sS https://evil.example/x", "echo $HF_TOKEN $HTTPS_PROXY", "curl -sS localhost:312")
    _, (refused, own, nonsense) = said
    assert "[A wall of the sandbox: evil.example is not among the hosts that commands may reach.]" in refused
    assert own == f"{PLACEHOLDER} http://127.0.0.1:312"
    assert "evil.example" not in nonsense
    shown = await walk.run("show", "last", "--egress")
    head, line, *_ = shown.out.splitlines()
    assert head.split() == ["TIME", "(UTC)", "HOST", "PORT", "ASKED", "SENT", "RECEIVED", "VERDICT"]
    assert line.split(maxsplit=7)[2:] == [
        "evil.example", "443", "CONNECT", "0", "0",
        "refused: evil.example is not among the hosts that commands may reach.",
    ]  # fmt: skip
    lines = (await walk.run("show", "last", "--egress", "--json")).out.splitlines()
    assert json.loads(lines[0])["host"] == "evil.example"
    assert TOKEN.encode() not in everything_in(walk.data)


async def test_packages_come_through_the_proxy_from_the_index_that_the_person_configured(walk: Walk):
    with index("127.0.0.2") as url:
        fetch = "curl -sS $PIP_INDEX_URL/broker-probe/"
        _, (page,) = await play(walk, fetch, PIP_INDEX_URL=url)
    assert "broker_probe-1.0-py3-none-any.whl" in page
    shown = await walk.run("show", "--egress")
    assert "127.0.0.2" in shown.out
    assert "allowed" in shown.out


@pytest.mark.parametrize(
    ("flags", "env"), [(("--offline",), {}), ((), {"ML_INTERN_OFFLINE": "1"})], ids=["flag", "var"]
)
async def test_offline_every_host_is_refused_with_that_word(walk: Walk, flags: tuple[str, ...], env: dict[str, str]):
    _, answers = await play(walk, "curl -sS https://pypi.org/", "curl -sS $HF_ENDPOINT/api/models", flags=flags, **env)
    assert all("offline" in answer for answer in answers)


async def test_a_session_that_asked_for_no_host_says_so(walk: Walk):
    await play(walk, "true")
    shown = await walk.run("show", "--egress")
    assert (shown.code, shown.out) == (0, "No command of this session asked for a host outside.\n")
