"""A Hub with one gated repository and a CDN, as the huggingface_hub client sees them.

Routes and headers: huggingface_hub 2.4, file_download.py (`get_hf_file_metadata`, `_httpx_follow_relative_redirects`),
errors by `utils/_http.py` (`hf_raise_for_status`).
"""

import contextlib
import json
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40
SMALL, LARGE = b'{"model_type": "tiny"}', b"\x00weights\xff" * 4096


@dataclass
class Heard:
    """A request: who was asked for what, and how it was authorised."""

    method: str
    path: str
    authorization: str


@dataclass
class HubDouble:
    """`endpoint` and `cdn` are URLs; `heard` and `heard_by_cdn` what was asked of each."""

    token: str
    endpoint: str = ""
    cdn: str = ""
    heard: list[Heard] = field(default_factory=list)
    heard_by_cdn: list[Heard] = field(default_factory=list)


@contextlib.contextmanager
def hub(token: str, cdn_host: str) -> Generator[HubDouble]:
    """Both servers, for as long as the block lasts. Gated: only `token` may read."""
    double = HubDouble(token)

    class Api(_Answers):
        heard = double.heard

        def answer(self) -> None:
            if self.path == "/api/agent-harnesses":
                self.send(200, {}, b"{}")
            elif self.headers.get("Authorization") != f"Bearer {double.token}":
                self.send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            elif self.path == "/api/models/me/gated/revision/main":
                siblings = [{"rfilename": name} for name in ("config.json", "model.bin")]
                self.send(200, {}, json.dumps({"id": "me/gated", "sha": COMMIT, "siblings": siblings}).encode())
            elif self.path.startswith("/api/models/me/gated/tree/"):
                files = (("config.json", SMALL), ("model.bin", LARGE))
                tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files]
                self.send(200, {}, json.dumps(tree).encode())
            elif self.path.endswith("/config.json"):
                self.send(200, {"X-Repo-Commit": COMMIT, "ETag": '"small"'}, SMALL)
            elif self.path.endswith("/model.bin"):
                linked = {"X-Linked-ETag": '"large"', "X-Linked-Size": str(len(LARGE)), "ETag": '"l"'}
                self.send(302, {"X-Repo-Commit": COMMIT, "Location": f"{double.cdn}/large?signed=1", **linked})
            elif self.path == "/api/models/me/echo":
                self.send(200, {}, str(self.headers).encode())
            else:
                self.send(404, {"X-Error-Code": "EntryNotFound"})

    class Cdn(_Answers):
        heard = double.heard_by_cdn

        def answer(self) -> None:
            self.send(200, {"ETag": '"large"'}, LARGE)

    with _serving(Api, "127.0.0.1") as double.endpoint, _serving(Cdn, cdn_host) as double.cdn:
        yield double


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
        self.heard.append(Heard(self.command, self.path, self.headers.get("Authorization", "")))
        self.answer()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on stderr."""
