"""One request to the Hub itself, or to where it keeps large files. Knows no permission.

Source: RFC 9112 (3.2).
"""

from urllib.parse import urlsplit

from ml_intern.sandbox.broker import bodies, heads
from ml_intern.sandbox.broker.heads import IDLE_S, Broken, Headers, Response
from ml_intern.sandbox.broker.outlet import Outlet, Stream, authorisation, start_tls
from ml_intern.sandbox.broker.reach import Reach, Refused, Rule, to_host


async def connect(reach: Reach, outlet: Outlet, url: str) -> Stream:
    """A connection to the host of `url`, a URL of the Hub's or one that the Hub gave.

    A private address will do where the Hub itself is the person's own. Raises Refused, Unreachable.
    """
    facts = urlsplit(url)
    port = facts.port or (443 if facts.scheme == "https" else 80)
    hub_host, hub_port, hub_rule = reach.door()
    host = to_host(facts.hostname or "")
    if facts.scheme != "https" and not (facts.scheme == "http" and reach.hub.startswith("http:")):
        raise Refused(f"{host} is not spoken to without TLS.", status=502)
    rule = hub_rule if (host, port) == (hub_host, hub_port) else Rule(host, (port,), private=hub_rule.private)
    remote = await outlet.open(reach, rule, host, port, scheme=facts.scheme)
    if facts.scheme == "https":
        await start_tls(remote, host, reach.ca_file)
    return remote


def head(reach: Reach, method: str, url: str, headers: Headers, length: int | None, *, token: bool) -> bytes:
    """The head of a request for `url`; `length` None: without a body. `token`: with the person's token."""
    facts = urlsplit(url)
    shown = facts.netloc.rpartition("@")[2]
    own = [("Host", shown), ("Connection", "close"), ("Accept-Encoding", "identity")]
    if token and reach.token:
        own.append(("Authorization", f"Bearer {reach.token}"))
    if length is not None:
        own.append(("Content-Length", str(length)))
    target = f"{facts.path or '/'}{f'?{facts.query}' if facts.query else ''}"
    proxy = reach.proxy("http", facts.hostname or "") if facts.scheme == "http" else ""
    if proxy:
        target = f"http://{shown}{target}"
        own += [("Proxy-Authorization", credentials)] if (credentials := authorisation(proxy)) else []
    return heads.to_bytes(f"{method} {target} HTTP/1.1", (*own, *headers))


async def read_whole(remote: Stream, method: str, most: int) -> tuple[Response, bytes]:
    """The answer with its body. Raises Broken where that is longer than `most`, TimeoutError."""
    answer = await heads.read_response(remote.reader, IDLE_S)
    body = b""
    if bodies.has_one(method, answer):
        async for piece in bodies.pieces(remote.reader, answer):
            body += piece
            if len(body) > most:
                raise Broken("the answer is too long")
    return answer, body
