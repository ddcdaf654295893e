"""A Hub with a gated repository, a CDN, and repositories that can be written, as the huggingface_hub client sees them.

Routes and headers: huggingface_hub 2.4, file_download.py (`get_hf_file_metadata`, `_httpx_follow_relative_redirects`),
errors by `utils/_http.py` (`hf_raise_for_status`); writes: `_commit_api.py` (`_send_commit`,
`_validate_preupload_info`), `lfs.py` (`post_lfs_batch_info`, `lfs_upload`), hf_api.py (`create_repo`).
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40
_FOR_ALL = {"/api/agent-harnesses": b"{}", "/api/validate-yaml": b'{"errors": [], "warnings": []}'}
SMALL, LARGE = b'{"model_type": "tiny"}', b"\x00weights\xff" * 4096


@dataclass
class Heard:
    """A request: who was asked for what, and how it was authorised."""

    method: str
    path: str
    authorization: str
    body: bytes = b""


@dataclass
class Repo:
    """A repository that can be written: `files` by branch and path."""

    private: bool
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)


@dataclass
class HubDouble:
    """`endpoint` and `cdn` are URLs; `heard` and `heard_by_cdn` what was asked of each.

    `repos` are those that can be written, by `models/me/name`; `stored` the large files by SHA-256. Files beyond
    `part_bytes` are uploaded in parts.
    """

    token: str
    endpoint: str = ""
    cdn: str = ""
    heard: list[Heard] = field(default_factory=list)
    heard_by_cdn: list[Heard] = field(default_factory=list)
    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    part_bytes: int = 1 << 20


@contextlib.contextmanager
def hub(token: str, cdn_host: str) -> Generator[HubDouble]:
    """Both servers, for as long as the block lasts. Gated: only `token` may read."""
    double = HubDouble(token)

    class Api(_Answers):
        heard = double.heard

        def answer(self) -> None:
            _api(double, self)

    class Cdn(_Answers):
        heard = double.heard_by_cdn

        def answer(self) -> None:
            if self.command == "PUT":
                oid, _, signed = self.path.removeprefix("/store/").partition("?")
                double.stored[oid] = double.stored.get(oid, b"") + self.body if "part=" in signed else self.body
            self.send(200, {"ETag": '"large"'}, b"" if self.command == "PUT" else LARGE)

    with _serving(Api, "127.0.0.1") as double.endpoint, _serving(Cdn, cdn_host) as double.cdn:
        yield double


def _api(double: HubDouble, one: "_Answers") -> None:
    if one.path in _FOR_ALL:
        one.send(200, {"Content-Type": "application/json"}, _FOR_ALL[one.path])
    elif one.headers.get("Authorization") != f"Bearer {double.token}":
        one.send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
    elif found := _written(double, one.command, one.path, one.body):
        status, answer = found
        one.send(status, {"Content-Type": "application/json"}, json.dumps(answer).encode())
    else:
        _listing(double, one)


def _listing(double: HubDouble, one: "_Answers") -> None:
    if one.path == "/api/models/me/gated/revision/main":
        siblings = [{"rfilename": name} for name in ("config.json", "model.bin")]
        one.send(200, {}, json.dumps({"id": "me/gated", "sha": COMMIT, "siblings": siblings}).encode())
    elif one.path.startswith("/api/models/me/gated/tree/"):
        files = (("config.json", SMALL), ("model.bin", LARGE))
        tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files]
        one.send(200, {}, json.dumps(tree).encode())
    else:
        _read(double, one)


def _read(double: HubDouble, one: "_Answers") -> None:
    if one.path.endswith("/config.json"):
        one.send(200, {"X-Repo-Commit": COMMIT, "ETag": '"small"'}, SMALL)
    elif one.path.endswith("/model.bin"):
        linked = {"X-Linked-ETag": '"large"', "X-Linked-Size": str(len(LARGE)), "ETag": '"l"'}
        one.send(302, {"X-Repo-Commit": COMMIT, "Location": f"{double.cdn}/large?signed=1", **linked})
    elif one.path == "/api/models/me/echo":
        one.send(200, {}, str(one.headers).encode())
    else:
        one.send(404, {"X-Error-Code": "EntryNotFound"})


def _written(double: HubDouble, method: str, path: str, body: bytes) -> tuple[int, object] | None:
    """The answer to a write, or to a look at what was written; None where it is about something else."""
    if (method, path) == ("POST", "/api/repos/create"):
        return _created(double, json.loads(body))
    if method == "POST" and (found := re.fullmatch(r"/((?:datasets/|spaces/)?)(.+)\.git/info/lfs/objects/(.+)", path)):
        name = f"{found[1] or 'models/'}{found[2]}"
        return _batch(double, name, json.loads(body), found[3]) if name in double.repos else (404, {})
    found = re.fullmatch(r"/api/((?:models|datasets|spaces)/[^/]+/[^/?]+)(?:/(preupload|commit)/([^?]+))?(\?.*)?", path)
    repo = double.repos.get(found[1]) if found else None
    if repo is None or found is None:
        return (404, {}) if method == "POST" else None
    if method == "GET":
        return (200, {"id": found[1].partition("/")[2], "private": repo.private, "sha": COMMIT, "siblings": []})
    if found[2] == "preupload":
        files = [one["path"] for one in json.loads(body)["files"]]
        modes = [(name, "lfs" if name.endswith(".bin") else "regular") for name in files]
        return 200, {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]}
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            repo.files[found[3], value["path"]] = base64.b64decode(value["content"])
        if line["key"] == "lfsFile":
            repo.files[found[3], value["path"]] = double.stored[value["oid"]]
    return 200, {"commitUrl": f"{double.endpoint}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT}


def _created(double: HubDouble, wanted: dict[str, str]) -> tuple[int, object]:
    name = f"{wanted.get('type') or 'model'}s/{wanted['organization']}/{wanted['name']}"
    if name in double.repos:
        return 409, {"error": "You already created this repo", "url": f"{double.endpoint}/{name}"}
    double.repos[name] = Repo(wanted.get("visibility") == "private")
    return 200, {"url": f"{double.endpoint}/{name.removeprefix('models/')}"}


def _batch(double: HubDouble, name: str, wanted: dict, what: str) -> tuple[int, object]:
    if what == "verify":
        oid = wanted["oid"]
        return (200, {}) if hashlib.sha256(double.stored.get(oid, b"")).hexdigest() == oid else (404, {})
    if what == "done":
        return 200, {}
    below = f"{double.endpoint}/{name.removeprefix('models/')}.git/info/lfs/objects"
    objects = []
    for one in wanted["objects"]:
        store = f"{double.cdn}/store/{one['oid']}?signed=1"
        actions: dict[str, dict[str, object]] = {"upload": {"href": store}, "verify": {"href": f"{below}/verify"}}
        if one["size"] > double.part_bytes:
            parts = range(1, -(-one["size"] // double.part_bytes) + 1)
            header = {str(part): f"{store}&part={part}" for part in parts}
            header["chunk_size"] = str(double.part_bytes)
            actions["upload"] = {"href": f"{below}/done", "header": header}
        objects.append({"oid": one["oid"], "size": one["size"], "actions": actions})
    return 200, {"transfer": "basic", "objects": objects}


@contextlib.contextmanager
def _serving(kind: type[BaseHTTPRequestHandler], host: str) -> Generator[str]:
    server = ThreadingHTTPServer((host, 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answers(BaseHTTPRequestHandler):
    """Answers every method alike; keeps what it heard."""

    protocol_version = "HTTP/1.1"
    heard: list[Heard]
    body: bytes = b""

    def answer(self) -> None:
        """Send one answer."""
        raise NotImplementedError

    def send(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """One answer; without its body where it was a HEAD."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.heard.append(Heard(self.command, self.path, self.headers.get("Authorization", ""), self.body))
        self.answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on stderr."""
