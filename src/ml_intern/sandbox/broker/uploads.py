"""Writes to the Hub that a person allowed a command: the repository itself, its files, and nothing beside them.

What is passed on is written anew from what was understood, so that no second reading of it is possible. Large files go
to addresses that the Hub names in its answer; each becomes an address at this door. Source: the huggingface_hub client
2.4 (_commit_api.py, lfs.py, hf_api.py `create_repo`), git-lfs docs/api/batch.md.
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

from ml_intern.sandbox.broker import heads, hub, origin
from ml_intern.sandbox.broker.desk import TICKETS, Desk, Grant, Ticket
from ml_intern.sandbox.broker.egress import Account
from ml_intern.sandbox.broker.heads import CHUNK, IDLE_S, Broken, Headers, Request, Response
from ml_intern.sandbox.broker.outlet import Outlet, Stream
from ml_intern.sandbox.broker.pushes import Push
from ml_intern.sandbox.broker.reach import Reach, Refused

_MOST_COMMIT = 64 << 20
_MOST_JSON = 8 << 20
_MOST_ANSWER = 16 << 20
_KINDS = "models|datasets|spaces"
_REPO = r"[\w.-]+/[\w.-]+"
_WRITE = re.compile(rf"/api/({_KINDS})/({_REPO})/(preupload|commit)/(.+)")
_BATCH = re.compile(rf"/(?:(datasets|spaces)/)?({_REPO})\.git/info/lfs/objects/batch")
_CREATE, _CHECK = "/api/repos/create", "/api/validate-yaml"
_ADDED = {"header": None, "file": {"content", "path", "encoding"}, "lfsFile": {"path", "algo", "oid", "size"}}
_ABOUT = {"summary", "description", "parentCommit"}
_CREATED = {"name", "organization", "type", "private", "visibility", "sdk"}
_KIND_OF = {"model": "models", "dataset": "datasets", "space": "spaces"}
_TYPE_JSON: Headers = (("Content-Type", "application/json"),)
_NOT_MORE = "Send only what was allowed; for more a person must be asked, each time."

Json = dict[str, Any]


class _Write(NamedTuple):
    """A request as it is passed on; `push` None: it writes nothing.

    `must_be_private` is the repository's own path where that must be looked up first.
    """

    push: Push | None
    path: str
    body: bytes
    headers: Headers = _TYPE_JSON
    must_be_private: str = ""
    is_batch: bool = False
    token: bool = True


class _Way(NamedTuple):
    """What every step of one request needs."""

    client: Stream
    reach: Reach
    outlet: Outlet
    account: Account
    desk: Desk


async def serve(client: Stream, request: Request, reach: Reach, outlet: Outlet, account: Account, desk: Desk) -> bool:
    """Serve a write that was allowed, to its end; False where this is none: then it is judged as a read.

    Raises Refused, Unreachable, Broken, OSError, TimeoutError.
    """
    way = _Way(client, reach, outlet, account, desk)
    if request.target.startswith(TICKETS):
        account.asked = f"{request.method} an upload"
        reach.refuse_offline("An upload")
        await _upload(way, request, desk.ticket(request.target))
        return True
    if request.method != "POST" or (grant := desk.find(request.value("authorization"))) is None:
        return False
    account.asked = f"{request.method} {request.target.partition('?')[0][:200]}"
    account.host, account.port, _ = reach.door()
    reach.refuse_offline(account.asked)
    understand = _reader_of(request, grant)
    if understand is None:
        return False
    most = _MOST_COMMIT if "/commit/" in request.target else _MOST_JSON
    write = await asyncio.to_thread(understand, await _body(client.reader, request, most))
    if write.push:
        account.why = f"Allowed to call {grant.key}: {write.push.text}"
    await _pass_on(way, write, grant)
    return True


def _reader_of(request: Request, grant: Grant) -> Callable[[bytes], _Write] | None:
    """What understands the body of this request; None where it is no write of the kinds that can be allowed."""
    path, _, query = request.target.partition("?")
    plain = hub.decoded(path)
    if plain == _CREATE and not query:
        return lambda body: _create(grant, _json(body))
    if plain == _CHECK and not query:
        return lambda body: _check(_json(body))
    if found := _WRITE.fullmatch(plain):
        kind, repo, what, revision = found.groups()
        push = grant.find("push", kind, repo, revision)
        if query:
            raise Refused(
                f"A commit with {query[:80]!r} is not passed on.", "Push to the branch itself, without options."
            )
        into = f"/api/{kind}/{repo}/{what}/{quote(revision, safe='')}"
        return lambda body: _commit(push, into, body) if what == "commit" else _preupload(push, into, _json(body))
    if (found := _BATCH.fullmatch(plain)) and not query:
        kind, repo = found[1] or "models", found[2]
        return lambda body: _batch(grant, kind, repo, _json(body))
    return None


async def _body(reader: asyncio.StreamReader, request: Request, most: int) -> bytes:
    if request.length > most:
        raise Refused(f"The request is longer than {most >> 20} MB.", "Send less at once: large files by LFS.", 413)
    async with asyncio.timeout(IDLE_S):
        return await reader.readexactly(request.length)


def _json(body: bytes) -> Json:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("The request cannot be read.", "Send JSON.", 400) from error
    if not isinstance(value, dict):
        raise Refused("The request cannot be read.", "Send a JSON object.", 400)
    return cast("Json", value)


def _only(value: Json, known: set[str], what: str) -> None:
    if more := sorted(set(value) - known):
        raise Refused(f"{what} with {', '.join(more)[:200]} is not passed on.", _NOT_MORE)


def _private_path(push: Push) -> str:
    return "" if push.public else f"/api/{push.kind}/{push.repo}"


def _create(grant: Grant, wanted: Json) -> _Write:
    kind = _KIND_OF.get(str(wanted.get("type") or "model"), "")
    push = grant.find("create", kind, f"{wanted.get('organization')}/{wanted.get('name')}")
    given = {name: value for name, value in wanted.items() if value is not None}
    _only(given, _CREATED, "A new repository")
    is_open = given.get("private") is False or given.get("visibility", "private") != "private"
    if is_open and not push.public:
        raise Refused(f"{push.repo} would be public, and only a private repository was allowed.", "Create it private.")
    # What is not said is private: an organisation's own default may be another.
    seen = "public" if push.public and is_open else "private"
    made = {name: value for name, value in given.items() if name not in {"private", "visibility"}}
    return _Write(push, _CREATE, json.dumps({**made, "visibility": seen}).encode())


def _check(wanted: Json) -> _Write:
    """A look at a card's metadata, which the client sends before a commit: stores nothing, and needs no token."""
    _only(wanted, {"content", "repoType"}, "A card")
    return _Write(None, _CHECK, json.dumps(wanted).encode(), token=False)


def _preupload(push: Push, into: str, wanted: Json) -> _Write:
    _only(wanted, {"files", "gitIgnore", "gitAttributes"}, "An upload")
    return _Write(push, into, json.dumps(wanted).encode(), must_be_private=_private_path(push))


def _commit(push: Push, into: str, body: bytes) -> _Write:
    """Files that are added or changed; every line is read, known, and written anew."""
    lines: list[str] = []
    for line in body.splitlines():
        if not line.strip():
            continue
        one = _json(line)
        key, value = str(one.get("key")), one.get("value")
        _only(one, {"key", "value"}, "A commit")
        if key in {"deletedFile", "deletedFolder"}:
            raise Refused(f"The commit deletes files of {push.repo}.", "Only a person may delete there; leave it out.")
        if key not in _ADDED or not isinstance(value, dict):
            raise Refused(f"A commit with {key[:80]!r} is not passed on.", _NOT_MORE)
        _only(cast("Json", value), _ADDED[key] or _ABOUT, "A commit")
        lines.append(json.dumps({"key": key, "value": value}))
    kind: Headers = (("Content-Type", "application/x-ndjson"),)
    return _Write(push, into, "\n".join([*lines, ""]).encode(), kind, _private_path(push))


def _batch(grant: Grant, kind: str, repo: str, wanted: Json) -> _Write:
    headers: Headers = tuple((name, "application/vnd.git-lfs+json") for name in ("Accept", "Content-Type"))
    path = f"/{'' if kind == 'models' else f'{kind}/'}{quote(repo)}.git/info/lfs/objects/batch"
    if wanted.get("operation") != "upload":
        return _Write(None, path, hub.only_download(json.dumps(wanted).encode()), headers)
    push = grant.find("push", kind, repo)
    ref = wanted.get("ref")
    name = str(cast("Json", ref).get("name") if isinstance(ref, dict) else push.revision)
    push = grant.find("push", kind, repo, name.removeprefix("refs/heads/"))
    asked = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": wanted.get("objects")}
    asked |= {"ref": {"name": push.revision}, "hash_algo": "sha256"}
    return _Write(push, path, json.dumps(asked).encode(), headers, _private_path(push), is_batch=True)


async def _pass_on(way: _Way, write: _Write, grant: Grant) -> None:
    if write.push and write.must_be_private:
        await _require_private(way, write.push, write.must_be_private)
    url = way.reach.hub + write.path
    remote = await origin.connect(way.reach, way.outlet, url)
    try:
        way.account.verdict = "allowed"
        # What took long before may have outlived the command.
        if way.desk.find(f"Bearer {grant.token}") is None:
            raise Refused("The command that was allowed this has ended.", "Do it in a new call.")
        head = origin.head(way.reach, "POST", url, write.headers, len(write.body), token=write.token)
        await _send(way, remote, head + write.body)
        if not write.push or not write.is_batch:
            await hub.hand_back(way.client, remote, "POST", hub.Relay(way.reach, way.account))
            return
        answer, body = await origin.read_whole(remote, "POST", _MOST_ANSWER)
        way.account.received += len(body)
        await _answer(way, answer, _with_tickets(way.desk, grant, write.push, answer, body))
    finally:
        remote.writer.close()


async def _send(way: _Way, remote: Stream, data: bytes) -> None:
    way.account.sent += len(data)
    remote.writer.write(data)
    await remote.writer.drain()


async def _require_private(way: _Way, push: Push, path: str) -> None:
    """Raises Refused where the repository is not there, or anyone can see it."""
    url = f"{way.reach.hub}{path}?expand=private"
    remote = await origin.connect(way.reach, way.outlet, url)
    try:
        await _send(way, remote, origin.head(way.reach, "GET", url, (), None, token=True))
        answer, body = await origin.read_whole(remote, "GET", _MOST_JSON)
    finally:
        remote.writer.close()
    repo = push.repo
    if answer.status != 200:
        raise Refused(f"{repo} cannot be looked at ({answer.status}).", "Create it first, or correct its name.", 404)
    if _json(body).get("private") is not True:
        raise Refused(f"{repo} is public, and only a private repository was allowed.", _NOT_MORE)


def _with_tickets(desk: Desk, grant: Grant, push: Push, answer: Response, body: bytes) -> bytes:
    """The answer to a batch, in which every address leads through this door."""
    if answer.status != 200:
        return body
    batch = _json(body)
    if batch.get("transfer", "basic") not in {"basic", "multipart"}:
        raise Broken("the Hub answers with a kind of upload that was not asked for")

    try:
        for one in cast("list[Json]", batch.get("objects") or []):
            _through_here(desk, (grant, push), one)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Broken("the Hub's answer to an upload cannot be read") from error
    return json.dumps(batch).encode()


def _through_here(desk: Desk, whose: tuple[Grant, Push], one: Json) -> None:
    """Raises TypeError, ValueError, KeyError, AttributeError where it is not what such an answer is."""

    def issue(method: str, url: str, most: int) -> str:
        if not urlsplit(url).hostname or urlsplit(url).scheme not in {"http", "https"} or urlsplit(url).port == 0:
            raise ValueError(url)
        return desk.issue(Ticket(*whose, method, url, most))

    actions = cast("dict[str, Json]", one.get("actions") or {})
    for name in [name for name in actions if name not in {"upload", "verify"}]:
        del actions[name]
    if verify := actions.get("verify"):
        actions["verify"] = {"href": issue("POST", verify["href"], _MOST_JSON)}
    if upload := actions.get("upload"):
        header = cast("Json", upload.get("header") or {})
        if "chunk_size" not in header:
            actions["upload"] = {"href": issue("PUT", upload["href"], int(one["size"]))}
            return
        size = int(header["chunk_size"])
        parts = {name: issue("PUT", url, size) for name, url in header.items() if name.isdigit()}
        href = issue("POST", upload["href"], _MOST_JSON)
        actions["upload"] = {"href": href, "header": {"chunk_size": header["chunk_size"], **parts}}


async def _upload(way: _Way, request: Request, ticket: Ticket) -> None:
    """One file, or a part of one, to the address that the Hub named for it."""
    facts = urlsplit(ticket.url)
    way.account.host, way.account.port = facts.hostname or "", facts.port or (443 if facts.scheme == "https" else 80)
    way.account.why = f"Allowed to call {ticket.grant.key}: {ticket.push.text}"
    if request.method != ticket.method or request.length > ticket.most:
        raise Refused("This address takes one upload of the size that was said.", "Begin the upload again.")
    remote = await origin.connect(way.reach, way.outlet, ticket.url)
    try:
        way.account.verdict = "allowed"
        at_hub = ticket.url.startswith(f"{way.reach.hub}/")
        kept = tuple((key, value) for key, value in request.headers if key.lower() in {"content-type", "accept"})
        head = origin.head(way.reach, request.method, ticket.url, kept, request.length, token=at_hub)
        await _send(way, remote, head)
        left = request.length
        while left:
            async with asyncio.timeout(IDLE_S):
                piece = await way.client.reader.read(min(CHUNK, left))
            if not piece:
                raise Broken("the upload is cut off")
            left -= len(piece)
            await _send(way, remote, piece)
        await hub.hand_back(way.client, remote, request.method, hub.Relay(way.reach, way.account))
    finally:
        remote.writer.close()


async def _answer(way: _Way, answer: Response, body: bytes) -> None:
    relay = hub.Relay(way.reach, way.account)
    kept = tuple((key, value) for key, value in answer.headers if key.lower() in {"content-type", "x-request-id"})
    kind = heads.to_bytes(
        f"HTTP/1.1 {answer.status} {answer.phrase}",
        (*kept, ("Connection", "close"), ("Content-Length", str(len(body)))),
    )
    way.client.writer.write(relay.plain(kind + body))
    await way.client.writer.drain()
