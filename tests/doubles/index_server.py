"""A package index with one wheel, as pip and uv see it. Source: the simple repository API (PEP 503)."""

import base64
import contextlib
import hashlib
import io
import threading
import zipfile
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, VERSION = "broker_probe", "1.0"
FILE = f"{NAME}-{VERSION}-py3-none-any.whl"


def wheel() -> bytes:
    """The smallest wheel that installers take."""
    info = f"{NAME}-{VERSION}.dist-info"
    files = {
        f"{NAME}.py": b"ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


@contextlib.contextmanager
def index(host: str) -> Generator[str]:
    """The index's URL, for as long as the block lasts."""
    packed = wheel()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<a href="/files/{FILE}">{FILE}</a>'.encode()
            body = packed if self.path == f"/files/{FILE}" else page if "broker-probe" in self.path else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "application/zip" if body is packed else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer((host, 0), Answers)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
