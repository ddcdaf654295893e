"""The reverse proxy of the Hub: reads get the person's token, nothing else does, and writes are refused.

What a person allowed a command to write is not served here but in `uploads.py`.

Follows no redirect: a client takes it to the CDN itself, without the token. Source of the routes:
https://huggingface.co/docs/hub/api and the huggingface_hub client (hf_api.py, file_download.py, lfs.py).
"""

import asyncio
import base64
import json
import re
from urllib.parse import unquote

from ml_intern.sandbox.broker import bodies, heads, origin
from ml_intern.sandbox.broker.doors import ENDPOINT
from ml_intern.sandbox.broker.egress import Account
from ml_intern.sandbox.broker.heads import IDLE_S, Broken, Headers, Request
from ml_intern.sandbox.broker.outlet import Outlet, Stream
from ml_intern.sandbox.broker.reach import Reach, Refused

_MOST_BODY = 1 << 20
_KINDS = "(models|datasets|spaces)"
_REPO = r"(?!(?:api|settings|oauth|login|join|new)(?:/|$))[\w.-]+(?:/[\w.-]+)?"
_WORDS = "revision|tree|refs|commits|compare|treesize|parquet|croissant|xet-read-token|paths-info|notebook"
# Reads of repositories: these get the token. Any other GET goes without, as a stranger's would.
_READS = tuple(map(re.compile, (
    rf"/((datasets|spaces)/)?{_REPO}/(resolve|raw)/.+",
    rf"/((datasets|spaces)/)?{_REPO}(\.git)?/(info/refs|HEAD|info/lfs/objects/batch|git-upload-pack)",
    rf"/api/{_KINDS}",
    rf"/api/{_KINDS}/{_REPO}(/({_WORDS})(/.*)?)?",
    rf"/api/resolve-cache/{_KINDS}/.+",
)))  # fmt: skip
_POSTS = tuple(map(re.compile, (
    rf"/api/{_KINDS}/{_REPO}/paths-info/.+",
    rf"/((datasets|spaces)/)?{_REPO}(\.git)?/(git-upload-pack|info/lfs/objects/batch)",
)))  # fmt: skip
# Answers to these are credentials, whatever the method.
_NEVER = frozenset({"xet-write-token", "jwt", "secrets", "variables"})
# What a client may say about its read; a header that changes the method or the account never gets through.
_PASSED = frozenset({
    "accept", "accept-language", "content-encoding", "content-type",
    "git-protocol", "if-match", "if-modified-since", "if-none-match",
    "if-range", "range", "user-agent", "x-amzn-trace-id", "x-request-id",
})  # fmt: skip
_ASK = (
    "Publishing needs a permission: a call that names the repository it writes to is put to the person, or to their "
    "rules. Where that is refused, leave the artefact in the workspace and tell the person."
)


async def serve(client: Stream, request: Request, reach: Reach, outlet: Outlet, account: Account) -> None:
    """Serve one request to its end. Raises Refused, Unreachable, Broken, OSError, TimeoutError."""
    account.asked = f"{request.method} {request.target.partition('?')[0][:200]}"
    account.host, account.port, _ = reach.door()
    reach.refuse_offline(request.target.partition("?")[0][:80])
    body = await _body(client.reader, request)
    remote = await origin.connect(reach, outlet, reach.hub)
    try:
        sent = _head(request, reach, len(body)) + body
        account.verdict = "allowed"
        account.sent = len(sent)
        remote.writer.write(sent)
        await remote.writer.drain()
        await hand_back(client, remote, request.method, Relay(reach, account))
    finally:
        remote.writer.close()


def needs_token(path: str) -> bool:
    """Whether this path is a read of a repository. Raises Refused where it is never to be read, or is ambiguous."""
    plain = decoded(path)
    inside_api = plain.lower().startswith("/api/") and _NEVER & set(plain.lower().split("/"))
    if inside_api or plain.lower().endswith("/git-receive-pack"):
        raise Refused(f"{path[:80]} would hand out a permission to write.", _ASK)
    return any(read.fullmatch(plain) for read in _READS)


def decoded(path: str) -> str:
    """The path as the last decoder would see it. Raises Refused for one that could mean two places."""
    plain, before = unquote(path), path
    while plain != before:
        before, plain = plain, unquote(plain)
    parts = plain.split("/")[1:]
    dotted = any(part in {"", ".", ".."} for part in parts[:-1]) or parts[-1:] in (["."], [".."])
    if not plain.startswith("/") or dotted or re.search(r"[\x00-\x1f\x7f\\#?;]", plain):
        raise Refused("The path could mean two places.", "Write it plainly.", 400)
    return plain


async def _body(reader: asyncio.StreamReader, request: Request) -> bytes:
    """The body of the few reads that have one. Raises Refused for whatever may write."""
    path, _, query = request.target.partition("?")
    if "git-receive-pack" in unquote(query):
        raise Refused("A push is not passed on.", _ASK)
    needs_token(path)
    if request.method in {"GET", "HEAD"}:
        if request.length:
            raise Refused("A read has no body.", "Send it without.", 400)
        return b""
    plain = decoded(path)
    if request.method != "POST" or not any(post.fullmatch(plain) for post in _POSTS):
        raise Refused(f"{request.method} {path[:80]} may change something on the Hub.", _ASK)
    if request.length > _MOST_BODY:
        raise Refused("The request is too long for a read.", "Ask for less at once.", 413)
    async with asyncio.timeout(heads.HEAD_WITHIN_S):
        body = await reader.readexactly(request.length)
    return only_download(body) if plain.endswith("/objects/batch") else body


def only_download(body: bytes) -> bytes:
    """A batch request that asks for downloads, written anew: no second reading of it is possible. Raises Refused."""
    try:
        batch: object = json.loads(body)
    except ValueError as error:
        raise Refused("This is no LFS request.", "Send JSON.", 400) from error
    match batch:
        case {"operation": "download"}:
            return json.dumps(batch).encode()
        case _:
            raise Refused("An LFS upload is not passed on.", _ASK)


def _head(request: Request, reach: Reach, length: int) -> bytes:
    with_token = needs_token(request.target.partition("?")[0])
    kept = tuple((key, value) for key, value in heads.end_to_end(request.headers) if key.lower() in _PASSED)
    url = f"{reach.hub}{request.target}"
    return origin.head(reach, request.method, url, kept, length or None, token=with_token)


class Relay:
    """Bytes on their way to the client, in which the token, should the other side echo it, is written over."""

    def __init__(self, reach: Reach, account: Account) -> None:
        self.hub = reach.hub
        self._account = account
        token = reach.token.encode()
        self._hidden = [form for form in (token, base64.b64encode(token).rstrip(b"=")) if form]
        self._held = max(map(len, self._hidden), default=1) - 1
        self._tail = b""

    def feed(self, piece: bytes) -> bytes:
        """What may go out now: everything but what could be the beginning of the token."""
        self._account.received += len(piece)
        whole = self.plain(self._tail + piece)
        cut = max(0, len(whole) - self._held)
        self._tail = whole[cut:]
        return whole[:cut]

    def rest(self) -> bytes:
        """What was held back."""
        found, self._tail = self._tail, b""
        return found

    def head(self, head: bytes) -> bytes:
        """The head as it may go out."""
        self._account.received += len(head)
        return self.plain(head)

    def plain(self, data: bytes) -> bytes:
        """The bytes with stars for the token, as long as it was."""
        for form in self._hidden:
            data = data.replace(form, b"*" * len(form))
        return data


async def hand_back(client: Stream, remote: Stream, method: str, relay: Relay) -> None:
    """Read the answer and give it to the client. Raises Broken, OSError, TimeoutError."""
    answer = await heads.read_response(remote.reader, IDLE_S)
    coding = heads.value_of(answer.headers, "content-encoding").lower()
    if coding not in {"", "identity"}:
        raise Broken("the Hub answers in a coding that was not asked for")
    headers = _own_links(heads.end_to_end(answer.headers), relay.hub)
    client.writer.write(relay.head(bodies.head(method, answer, headers)))
    if bodies.has_one(method, answer):
        async for piece in bodies.pieces(remote.reader, answer):
            await bodies.send(client.writer, answer, relay.feed(piece))
        await bodies.send(client.writer, answer, relay.rest())
        await bodies.finish(client.writer, answer)
    await client.writer.drain()


def _own_links(headers: Headers, hub: str) -> Headers:
    """Redirects and next pages on the Hub itself lead through here again; those to the CDN stay as they are."""
    found: list[tuple[str, str]] = []
    for key, value in headers:
        if key.lower() == "location" and (value == hub or value.startswith(f"{hub}/")):
            found.append((key, ENDPOINT + value.removeprefix(hub)))
        elif key.lower() == "link":
            found.append((key, value.replace(f"<{hub}/", f"<{ENDPOINT}/")))
        elif key.lower() != "set-cookie":
            found.append((key, value))
    return tuple(found)
