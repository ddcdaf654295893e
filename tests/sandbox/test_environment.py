import asyncio
import base64
import contextlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.sandbox.environment import build

SECRET = "hunter2hunter2"


def wheel(folder: Path, name: str, files: dict[str, str], requires=(), tag="py3-none-any") -> None:
    """A wheel by hand (https://packaging.python.org/specifications/binary-distribution-format/): no index is needed."""
    info = f"{name}-1.0.dist-info"
    needs = "".join(f"Requires-Dist: {item}\n" for item in requires)
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)


def script(*dependencies: str, more: str = "") -> str:
    return f"# /// script\n# dependencies = {json.dumps(dependencies)}\n{more}# ///\n"


@pytest.fixture
def links(tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    wheel(folder, "tiny", {"tiny.py": "value = 41\n"})
    wheel(folder, "small", {"small.py": "from tiny import value\nvalue += 1\n"}, ("tiny",))
    return folder


@pytest.fixture
def environ(tmp_path, links):
    """A person who told pip, and only pip, where packages are."""
    return {
        "HOME": str(tmp_path / "person"),
        "PATH": os.environ["PATH"],
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_HTTP_RETRIES": "0",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{links} /nowhere/at/all",
    }


@pytest.fixture
def lines() -> list[str]:
    """What builders said of their progress."""
    return []


@pytest.fixture
def make(tmp_path, environ, lines):
    async def run(text: str, *, store: str = "store", **more):
        return await build(
            text, store=tmp_path / store, on_line=lines.append, **{"environ": environ, "timeout_s": 50.0, **more}
        )

    return run


def said(environment, code: str) -> str:
    done = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.strip()


async def test_a_script_gets_its_packages_from_wheels(make, lines):
    environment = await make(script("small"))
    assert environment.packages == ("small==1.0", "tiny==1.0")
    assert said(environment, "import small; print(small.value)") == "42"
    assert any("small" in line for line in lines)
    folder = environment.python.parents[1]
    assert list(folder.glob("lib/python*/site-packages/__pycache__/tiny.*.pyc"))


async def test_a_script_without_packages_gets_an_empty_environment(make):
    first, second = await make("print(1)"), await make(script())
    assert first == second
    assert first.packages == ()
    assert said(first, "print(1)") == "1"


async def test_the_same_needs_are_built_once_however_they_are_written(make, lines):
    first = await make(script("tiny>=1", "Small"))
    lines.clear()
    second = await make(script("small", "TINY >= 1"))
    assert first == second
    assert lines == []
    assert (await make(script("tiny"))).key != first.key


async def test_several_builders_at_once_make_one_build(make, lines):
    found = await asyncio.gather(*(make(script("small")) for _ in range(4)))
    assert len(set(found)) == 1
    assert sum(line.startswith("Building") for line in lines) == 1
    assert sum(line.startswith("Waiting") for line in lines) == 3


async def test_no_code_of_a_package_runs_outside(make, links, tmp_path):
    witness = tmp_path / "witness"
    evil = f"import pathlib; pathlib.Path({str(witness)!r}).touch()\n"
    files = {"evil.py": evil, "evil.pth": evil, "sitecustomize.py": evil, "usercustomize.py": evil}
    wheel(links, "evil", files)
    environment = await make(script("evil"))
    again = await make(script("evil", "tiny"))
    assert again.packages == ("evil==1.0", "tiny==1.0")
    assert not witness.exists()
    said(environment, "0")
    assert witness.exists(), "the witness must be able to tell"


async def test_a_package_without_wheels_is_refused_and_its_setup_never_runs(make, links, tmp_path):
    witness = tmp_path / "witness"
    touch = f"import pathlib; pathlib.Path({str(witness)!r}).touch()"
    setup = f"{touch}\nfrom setuptools import setup\nsetup(name='raw')\n"
    with tarfile.open(links / "raw-1.0.tar.gz", "w:gz") as archive:
        for name, text in (("setup.py", setup), ("PKG-INFO", "Metadata-Version: 2.1\nName: raw\nVersion: 1.0\n")):
            entry = tarfile.TarInfo(f"raw-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(EnvironmentFailed, match=r"There is no wheel of raw for Python 3\.") as failed:
        await make(script("raw"))
    assert "only wheels" in failed.value.remedy
    assert failed.value.remedy.endswith("uv said:")
    assert "raw" in failed.value.quoted
    assert not witness.exists()


async def test_failures_name_the_package_and_a_remedy(make, links):
    wheel(links, "foreign", {"foreign.py": ""}, tag="cp27-none-win32")
    wheel(links, "torn", {"torn.py": ""}, ("tiny<1",))
    for text, words in (
        (script("nothing-of-the-kind"), "No index has a package nothing-of-the-kind."),
        (script("tiny>7"), "No version of tiny is what the script asks for."),
        (script("tiny==7"), "No version of tiny is what the script asks for."),
        (script("foreign"), "There is no wheel of foreign for Python"),
        (script("torn"), "No version of tiny"),
    ):
        with pytest.raises(EnvironmentFailed) as failed:
            await make(text)
        assert words in failed.value.what
        assert failed.value.remedy


async def test_a_python_that_is_not_there_is_refused_with_those_that_are(make):
    with pytest.raises(EnvironmentFailed) as failed:
        await make(script("tiny", more='# requires-python = ">=4"\n'))
    assert ">=4" in failed.value.what
    assert re.search(r"this machine has 3\.\d+\.\d+", failed.value.what)
    ours = f">={sys.version_info.major}.{sys.version_info.minor}"
    assert (await make(script("tiny", more=f'# requires-python = "{ours}"\n'))).packages == ("tiny==1.0",)


async def test_an_environment_that_is_used_is_marked_so_that_who_clears_up_keeps_it(make, tmp_path):
    environment = await make(script("tiny"))
    ready = tmp_path / "store" / f"{environment.key}.ready"
    # As old as on a disk that never notes when a file was read.
    os.utime(ready, (1_000_000_000, 1_000_000_000))
    assert await make(script("tiny")) == environment
    assert time.time() - ready.stat().st_mtime < 60


async def test_a_damaged_environment_is_built_anew(make, tmp_path):
    environment = await make(script("tiny"))
    (tmp_path / "store" / f"{environment.key}.ready").unlink()
    (environment.python.parents[1] / "left over").write_text("x")
    assert await make(script("tiny")) == environment
    assert not (environment.python.parents[1] / "left over").exists()
    environment.python.unlink()
    assert said(await make(script("tiny")), "import tiny; print(tiny.value)") == "41"


class Index(http.server.ThreadingHTTPServer):
    """A package index (https://peps.python.org/pep-0503/) that asks for a password and can be slow."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.released = threading.Event()
        self.released.set()
        self.gone = False
        super().__init__(("127.0.0.1", 0), _Page)

    @property
    def url(self) -> str:
        return f"http://person:{SECRET}@127.0.0.1:{self.server_port}/simple"


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def index(self) -> Index:
        assert isinstance(self.server, Index)
        return self.server

    def do_GET(self):
        if self.command == "GET":
            self.index.asked.append(self.path)
        expected = "Basic " + base64.b64encode(f"person:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            return self._answer(401, b"")
        name = self.path.rstrip("/").rpartition("/")[2]
        if self.path.startswith("/files/"):
            if self.command == "GET":
                self.index.released.wait(30)
            return self._answer(410 if self.index.gone else 200, (self.index.folder / name).read_bytes())
        wheels = [path.name for path in self.index.folder.glob(f"{name}-*.whl")]
        page = "".join(f'<a href="/files/{found}">{found}</a>' for found in wheels)
        return self._answer(200 if wheels else 404, f"<!DOCTYPE html><html><body>{page}</body></html>".encode())

    def _answer(self, status, body):
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the base class looks for it

    def log_message(self, format, *args):  # noqa: A002  the base class calls it so
        pass


@pytest.fixture
def index(links, environ):
    server = Index(links)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    del environ["PIP_NO_INDEX"], environ["PIP_FIND_LINKS"]
    environ["PIP_INDEX_URL"] = server.url
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_private_index_told_to_pip_serves_and_its_password_stays_private(make, lines, index):
    environment = await make(script("small"))
    assert environment.packages == ("small==1.0", "tiny==1.0")
    with pytest.raises(EnvironmentFailed, match="No index has a package") as failed:
        await make(script("nothing-of-the-kind"))
    index.gone = True
    with pytest.raises(EnvironmentFailed) as broken:
        await make(script("small"), store="other", environ={**make_environ(index), "UV_NO_CACHE": "1"})
    told = "\n".join([*lines, str(failed.value), str(broken.value)])
    assert "127.0.0.1" in told
    assert SECRET not in told


def make_environ(index) -> dict[str, str]:
    return {
        "HOME": "/nonexistent",
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": index.url,
    }


async def test_wrong_credentials_are_said_without_showing_them(make, lines, index, environ):
    environ["PIP_INDEX_URL"] = index.url.replace(SECRET, "wrongwrong")
    with pytest.raises(EnvironmentFailed, match="refused our credentials") as failed:
        await make(script("tiny"))
    assert "wrongwrong" not in str(failed.value) + "".join(lines)


async def test_without_a_network_the_store_and_then_the_cache_serve(make, lines, index):
    first = await make(script("small"))
    index.shutdown()
    index.server_close()
    lines.clear()
    assert await make(script("small")) == first
    assert lines == []
    other = await make(script("small"), store="elsewhere")
    assert other.packages == first.packages
    assert "The package index cannot be reached: trying the cache." in lines
    with pytest.raises(EnvironmentFailed, match="cannot be reached, and the cache lacks"):
        await make(script("unheard-of"))


async def test_a_build_that_takes_too_long_ends_with_its_uv(make, index, tmp_path):
    index.released.clear()
    with pytest.raises(EnvironmentFailed, match="not installed within 2 s"):
        await make(script("tiny"), timeout_s=2.0)
    assert not processes_in(tmp_path)
    index.released.set()
    assert (await make(script("tiny"))).packages == ("tiny==1.0",)


async def test_a_cancelled_build_ends_its_uv(make, index, tmp_path):
    index.released.clear()
    task = asyncio.create_task(make(script("tiny")))
    await until(lambda: any(path.startswith("/files/") for path in index.asked))
    assert processes_in(tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_in(tmp_path)


async def test_a_builder_killed_in_mid_build_leaves_nothing_that_counts(make, lines, index, environ, tmp_path):
    index.released.clear()
    code = (
        "import asyncio, sys; from pathlib import Path; from ml_intern.sandbox.environment import build;"
        "asyncio.run(build(sys.argv[1], store=Path(sys.argv[2]), on_line=print))"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", code, script("small"), str(tmp_path / "store")],
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        await until(lambda: any(path.startswith("/files/") for path in index.asked))
    finally:
        os.kill(builder.pid, signal.SIGKILL)
        builder.wait()
    assert not list((tmp_path / "store").glob("*.ready"))
    # The orphaned uv still writes into the folder: the next builder waits for it, then starts from nothing.
    second = asyncio.create_task(make(script("small")))
    await until(lambda: any(line.startswith("Waiting") for line in lines))
    index.released.set()
    environment = await second
    assert said(environment, "import small; print(small.value)") == "42"
    assert sum(line.startswith("Building") for line in lines) == 1


async def until(true, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.02)


def processes_in(folder: Path) -> list[int]:
    """Processes with `folder` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
