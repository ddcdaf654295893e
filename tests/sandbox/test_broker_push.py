"""Writes to the Hub that one command was allowed: by the real client, from inside a real pod."""

import asyncio
import importlib.util
import os
import signal
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from ml_intern.sandbox import lock, network
from ml_intern.sandbox.broker.doors import PLACEHOLDER
from ml_intern.sandbox.broker.reach import Reach
from ml_intern.sandbox.commands import Commands, Ended
from ml_intern.sandbox.egress import Crossing, crossings
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.paths import Root
from tests.doubles.hub_server import HubDouble, Repo, hub
from tests.sandbox.test_broker_pod import SITE, VENV
from tests.sandbox.yard import PYTHON, QUICK, Yard, make_yard

TOKEN = "hf_theRealTokenOfThePerson0123456789"
MINE, COMMIT = "models/me/model-x", "/api/models/me/model-x/commit/main"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="huggingface-hub is not installed"
)


@dataclass
class Pod:
    """A yard whose commands have a broker, and may be allowed to write."""

    yard: Yard
    commands: Commands
    reach: Reach

    def spec(self, command: str, *pushes: str):
        spec = self.yard.spec(command)
        env = {**spec.env, "HF_HOME": "/tmp/hf", "PYTHONPATH": SITE, **network.inside(self.reach)}
        return msgspec.structs.replace(spec, env=env, pushes=pushes)

    async def run(self, command: str, *pushes: str) -> tuple[Ended, str]:
        seen: list[bytes] = []
        ended = await self.commands.run(self.spec(command, *pushes), seen.append)
        return ended, b"".join(seen).decode()

    async def python(self, code: str, *pushes: str) -> tuple[Ended, str]:
        (self.yard.workspace / "up.py").write_text(f"from huggingface_hub import HfApi\napi = HfApi()\n{code}\n")
        return await self.run(f"{PYTHON} up.py 2>&1", *pushes)

    async def curl(self, what: str, *pushes: str) -> str:
        """What the door says to a request written by hand, its body in between."""
        auth = '-H "Authorization: Bearer $HF_TOKEN"'
        _, said = await self.run(f"curl -sS --path-as-is -m 10 {auth} {what}", *pushes)
        return said

    def crossings(self) -> list[Crossing]:
        return list(crossings(self.yard.session))


@pytest.fixture
def double() -> Generator[HubDouble]:
    with hub(TOKEN, "127.0.0.3") as double:
        double.repos = {MINE: Repo(private=True), "models/me/open": Repo(private=False), "models/me/other": Repo(True)}
        yield double


@pytest.fixture
async def pod(tmp_path: Path, machine_level: Level, double: HubDouble) -> AsyncGenerator[Pod]:
    if machine_level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {machine_level.name}: there is no pod")
    yard = make_yard(tmp_path, Level.FULL)
    roots = msgspec.structs.replace(yard.roots, roots=(*yard.roots.roots, Root(VENV, VENV, "read")))
    yard = Yard(yard.session, yard.workspace, yard.level, roots)
    reach = network.make_reach({"HF_ENDPOINT": double.endpoint, "PIP_CONFIG_FILE": "/dev/null"}, token=TOKEN)
    commands = Commands(yard.session, Level.FULL, limits=QUICK, reach=reach)
    yield Pod(yard, commands, reach)
    await commands.close()


def changed(double: HubDouble) -> list[str]:
    """What the Hub and its store were asked to change."""
    heard = [*double.heard, *double.heard_by_cdn]
    return [f"{one.method} {one.path}" for one in heard if one.method not in {"GET", "HEAD"}]


async def test_the_real_client_creates_a_repository_and_uploads_to_it_with_a_token_that_is_never_inside(
    pod: Pod, double: HubDouble
):
    ended, said = await pod.python(
        """
import os, pathlib
api.create_repo("me/new", exist_ok=True)
api.create_repo("me/new", exist_ok=True)
pathlib.Path("out").mkdir()
pathlib.Path("out/README.md").write_text("---\\nlicense: mit\\n---\\n# hello")
pathlib.Path("out/large.bin").write_bytes(b"x" * 2_500_000)
pathlib.Path("small.bin").write_bytes(b"small")
api.upload_file(path_or_fileobj="small.bin", path_in_repo="a/small.bin", repo_id="me/new")
print(api.upload_folder(folder_path="out", repo_id="me/new").oid)
print(os.environ["HF_TOKEN"])
""",
        "create me/new",
        "push me/new",
    )
    assert ended.exit_code == 0, said
    repo = double.repos["models/me/new"]
    assert repo.private
    assert repo.files["main", "a/small.bin"] == b"small"
    assert repo.files["main", "large.bin"] == b"x" * 2_500_000
    assert repo.files["main", "README.md"].endswith(b"# hello")
    assert TOKEN not in said
    assert f"{PLACEHOLDER}." in said
    writes = {one.authorization for one in double.heard if "/me/new" in one.path}
    assert writes == {f"Bearer {TOKEN}"}
    assert {one.authorization for one in double.heard_by_cdn} == {""}
    assert len(double.heard_by_cdn) == 4
    told = {one.why for one in pod.crossings() if one.asked.startswith(("POST", "PUT")) and "yaml" not in one.asked}
    assert told == {f"Allowed to call {ended.output_path.parent.name}: {what} me/new" for what in ("create", "push")}
    kept = b"".join(path.read_bytes() for path in pod.yard.session.rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept


async def test_a_branch_is_written_where_it_is_named_and_a_data_set_is_another_kind(pod: Pod, double: HubDouble):
    double.repos["datasets/me/model-x"] = Repo(private=True)
    up = "api.upload_file(path_or_fileobj=b'1', path_in_repo='one.txt', repo_id='me/model-x'"
    ended, said = await pod.python(f"{up}, revision='dev')", "push me/model-x@dev")
    assert ended.exit_code == 0, said
    ended, said = await pod.python(f"{up}, repo_type='dataset')", "push datasets/me/model-x")
    assert ended.exit_code == 0, said
    assert double.repos[MINE].files == {("dev", "one.txt"): b"1"}
    assert double.repos["datasets/me/model-x"].files == {("main", "one.txt"): b"1"}


UP = "api.upload_file(path_or_fileobj=b'1', path_in_repo='one.txt', repo_id="
BY_CLIENT = {
    "without a permission": (f"{UP}'me/model-x')", (), "Publishing needs a permission"),
    "to another repository": (f"{UP}'me/other')", ("push me/model-x",), "'push me/other' is not what this command may"),
    "to another kind": (f"{UP}'me/model-x', repo_type='dataset')", ("push me/model-x",), "is not what this command"),
    "to the same name in capitals": (f"{UP}'me/Model-X')", ("push me/model-x",), "is not what this command may do"),
    "to another branch": (f"{UP}'me/model-x', revision='prod')", ("push me/model-x",), "'push me/model-x@prod' is not"),
    "to main where a branch was meant": (f"{UP}'me/model-x')", ("push me/model-x@dev",), "is not what this command"),
    "as a pull request": (f"{UP}'me/model-x', create_pr=True)", ("push me/model-x",), "create_pr=1"),
    "to a repository that anyone sees": (f"{UP}'me/open')", ("push me/open",), "me/open is public"),
    "to what is not there": (f"{UP}'me/gone')", ("push me/gone",), "Create it first"),
    "a large file to another": (
        "api.upload_file(path_or_fileobj=b'1', path_in_repo='a.bin', repo_id='me/other')", ("push me/model-x",),
        "is not",
    ),
    "a deletion of a file": ("api.delete_file('a', 'me/model-x')", ("push me/model-x",), "deletes files"),
    "a deletion of the repository": (
        "api.delete_repo('me/model-x')", ("push me/model-x", "create me/model-x"),
        "DELETE",
    ),
    "a change of who sees it": (
        "api.update_repo_settings('me/model-x', visibility='public')", ("push me/model-x",), "may change something",
    ),
    "a public repository": ("api.create_repo('me/n', private=False)", ("create me/n",), "only a private repository"),
    "a public repository, otherwise": (
        "api.create_repo('me/n', visibility='public')", ("create me/n",), "only a private",
    ),
    "a new repository": ("api.create_repo('me/n')", ("push me/n",), "'create me/n' is not what this command may do"),
    "another new repository": ("api.create_repo('you/n')", ("create me/n",), "'create you/n' is not what this command"),
    "a repository without an owner": ("api.create_repo('n')", ("create me/n",), "is not what this command may do"),
    "a space that costs": (
        "api.create_repo('me/n', repo_type='space', space_sdk='docker', space_hardware='a100-large')",
        ("create spaces/me/n",), "with hardware is not passed on",
    ),
    "a branch": ("api.create_branch('me/model-x', branch='b')", ("push me/model-x",), "may change something"),
    "a tag": ("api.create_tag('me/model-x', tag='t')", ("push me/model-x",), "may change something"),
    "another name": ("api.move_repo('me/model-x', 'you/model-x')", ("push me/model-x",), "may change something"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "pushes", "why"), BY_CLIENT.values(), ids=BY_CLIENT)
async def test_what_was_not_allowed_is_refused_to_the_client_with_its_sentence(
    pod: Pod, double: HubDouble, code: str, pushes: tuple[str, ...], why: str
):
    ended, said = await pod.python(code, *pushes)
    assert ended.exit_code, said
    assert why in said
    assert changed(double) == []
    assert any(one.verdict == "refused" and one.sent <= 1000 for one in pod.crossings())


LINE = '{"key": "header", "value": {"summary": "s", "description": ""}}'
GONE = '{"key": "deletedFolder", "value": {"path": "a"}}'
BY_HAND = {
    "a way up": f"-d '{LINE}' $HF_ENDPOINT/api/models/me/other/../model-x/commit/main",
    "a way up, encoded": f"-d '{LINE}' $HF_ENDPOINT/api/models/me/model-x/%2e%2e/other/commit/main",
    "an encoded slash": f"-d '{LINE}' $HF_ENDPOINT/api/models/me/model-x%2fcommit/commit/main",
    "a kind in capitals": f"-d '{LINE}' $HF_ENDPOINT/api/MODELS/me/model-x/commit/main",
    "a method in a header": f"-H 'X-HTTP-Method: DELETE' -d '{LINE}' $HF_ENDPOINT/api/models/me/model-x",
    "a method of its own": f"-X PUT -d '{LINE}' $HF_ENDPOINT{COMMIT}",
    "a deletion among additions": f"-d '{LINE}\n{GONE}' $HF_ENDPOINT{COMMIT}",
    "a key twice": (
        '-d \'{"key": "deletedFile", "key": "header", "value": {"summary": "s", "path": "a"}}\' $HF_ENDPOINT' + COMMIT
    ),
    "no JSON": f"-d 'x' $HF_ENDPOINT{COMMIT}",
    "options of a commit": f"-d '{LINE}' \"$HF_ENDPOINT{COMMIT}?create_pr=1\"",
    "a permission of the store": "$HF_ENDPOINT/api/models/me/model-x/xet-write-token/main",
    "a push by git": "-d x $HF_ENDPOINT/me/model-x.git/git-receive-pack",
    "an upload that nobody named": "-X PUT -d x $HF_ENDPOINT/.push/made-up",
    "an upload of another branch": (
        '-d \'{"operation": "upload", "objects": [], "ref": {"name": "refs/heads/prod"}}\''
        " $HF_ENDPOINT/me/model-x.git/info/lfs/objects/batch"
    ),
    "settings beside the name": (
        '-d \'{"organization": "me", "name": "n", "secrets": [{"key": "a"}]}\' $HF_ENDPOINT/api/repos/create'
    ),
}


@pytest.mark.parametrize("what", BY_HAND.values(), ids=BY_HAND)
async def test_no_trick_of_a_request_written_by_hand_changes_anything(pod: Pod, double: HubDouble, what: str):
    said = await pod.curl(what, "push me/model-x", "create me/n")
    assert said.startswith("ml-intern: "), said
    assert changed(double) == []


async def test_a_permission_ends_with_its_command_and_no_other_command_has_it(pod: Pod, double: HubDouble):
    one_file = '{"key": "file", "value": {"path": "a", "content": "YQ==", "encoding": "base64"}}'
    post = f"curl -sS -m 10 -H \"Authorization: Bearer $(cat token)\" -d '{LINE}\n{one_file}' $HF_ENDPOINT{COMMIT}"
    waits = "echo $HF_TOKEN > token; until test -e go; do sleep 0.05; done"
    first = asyncio.ensure_future(pod.run(f"{waits}; {post}; rm go", "push me/model-x"))
    while not (pod.yard.workspace / "token").exists():
        await asyncio.sleep(0.02)
    # Beside it runs another, which is known by the token of all.
    said = await pod.curl(f"-d '{LINE}' $HF_ENDPOINT{COMMIT}")
    assert "Publishing needs a permission" in said
    said = await pod.curl(f"-d '{LINE}' $HF_ENDPOINT{COMMIT}", "push me/other")
    assert "it may push me/other" in said
    assert changed(double) == []
    (pod.yard.workspace / "go").touch()
    ended, said = await first
    assert "commitUrl" in said
    assert double.repos[MINE].files == {("main", "a"): b"a"}
    _, said = await pod.run(post)
    assert "Publishing needs a permission" in said
    assert len(changed(double)) == 1
    assert not list(pod.yard.session.glob("commands/*/grant.json"))
    assert ended.reason == "exited"


async def test_a_token_that_is_made_up_is_no_permission(pod: Pod, double: HubDouble):
    spec = pod.spec("touch began; sleep 30", "push me/model-x")
    running = asyncio.ensure_future(pod.commands.run(spec, lambda _: None))
    while not (pod.yard.workspace / "began").exists():
        await asyncio.sleep(0.02)
    for token in (
        f"{PLACEHOLDER}.{spec.key}.{'0' * 32}",
        f"{PLACEHOLDER}.{spec.key}.",
        f"{PLACEHOLDER}.../commands/x.1",
    ):
        _, said = await pod.run(f"curl -sS -H 'Authorization: Bearer {token}' -d '{LINE}' $HF_ENDPOINT{COMMIT}")
        assert "Publishing needs a permission" in said
    await pod.commands.stop(spec.key)
    await running
    assert changed(double) == []


async def test_a_permission_ends_with_the_supervisor_of_its_command(pod: Pod):
    spec = pod.spec("echo $HF_TOKEN > token; sleep 60", "push me/model-x")
    running = asyncio.ensure_future(pod.commands.run(spec, lambda _: None))
    while not (pod.yard.workspace / "token").exists():
        await asyncio.sleep(0.02)
    supervisor = lock.holder(str(pod.yard.session))
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    assert (await running).reason == "lost"
    _, said = await pod.run(
        f"curl -sS -m 10 -H \"Authorization: Bearer $(cat token)\" -d '{LINE}' $HF_ENDPOINT{COMMIT}"
    )
    assert "Publishing needs a permission" in said
    assert not list(pod.yard.session.glob("commands/*/grant.json"))


async def test_an_upload_takes_no_more_than_was_said_and_only_what_was_asked_for(pod: Pod, double: HubDouble):
    ended, said = await pod.run(
        f"""cat > up.py <<'E'
import json, os, urllib.request
door, auth = os.environ["HF_ENDPOINT"], {{"Authorization": "Bearer " + os.environ["HF_TOKEN"]}}
def ask(method, url, body):
    request = urllib.request.Request(url, body, auth, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
wanted = {{"operation": "upload", "objects": [{{"oid": "a" * 64, "size": 3}}]}}
status, body = ask("POST", door + "/me/model-x.git/info/lfs/objects/batch", json.dumps(wanted).encode())
href = json.loads(body)["objects"][0]["actions"]["upload"]["href"]
assert href.startswith(door + "/.push/"), href
tries = (("PUT", b"four"), ("GET", None), ("POST", b"abc"), ("PUT", b"abc"))
print(*[ask(method, href, body)[0] for method, body in tries])
open("href", "w").write(href)
E
{PYTHON} up.py 2>&1""",
        "push me/model-x",
    )
    assert (ended.exit_code, said.split()) == (0, ["403", "403", "403", "200"]), said
    assert double.stored == {"a" * 64: b"abc"}
    _, said = await pod.run("curl -sS -X PUT -d abc $(cat href)")
    assert "no longer, open" in said
