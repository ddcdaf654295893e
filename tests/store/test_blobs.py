import asyncio
import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest

from ml_intern.base.errors import StoreFailed
from ml_intern.record.secrets import Secrets
from ml_intern.store.blobs import Blobs

TOKEN = "hf_abcdefghijklmnop"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "session" / "blobs"


@pytest.fixture
def blobs(folder):
    return Blobs(folder, Secrets({"HF_TOKEN": TOKEN}))


async def test_what_is_put_comes_back_whole_and_in_parts(blobs):
    data = bytes(range(256)) * 300
    sha = await blobs.put(data)
    assert sha == hashlib.sha256(data).hexdigest()
    assert await blobs.get(sha) == data
    assert await blobs.get(sha, 10, 20) == data[10:30]
    assert await blobs.get(sha, len(data) - 3, 20) == data[-3:]
    assert await blobs.get(sha, len(data) + 5) == b""
    assert await blobs.size(sha) == len(data)


async def test_the_same_content_is_kept_once_in_private_files(blobs, folder):
    before = os.umask(0)
    try:
        shas = await asyncio.gather(*(blobs.put(b"same") for _ in range(20)))
    finally:
        os.umask(before)
    (sha,) = set(shas)
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / sha[:2] / sha[2:]]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [folder, folder / sha[:2]]}
    assert modes == {0o700}
    assert stat.S_IMODE((folder / sha[:2] / sha[2:]).stat().st_mode) == 0o600


async def test_an_empty_output_is_kept_too(blobs):
    assert await blobs.get(await blobs.put(b"")) == b""


async def test_known_secrets_never_reach_the_disk(blobs, folder):
    data = f"key {TOKEN} and {base64.b64encode(TOKEN.encode()).decode()}".encode()
    sha = await blobs.put(data)
    kept = await blobs.get(sha)
    assert kept.count(b"[secret:HF_TOKEN]") == 2
    assert TOKEN.encode() not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_damaged_blob_is_told_when_it_is_read_whole(blobs, folder):
    sha = await blobs.put(b"some output")
    (folder / sha[:2] / sha[2:]).write_bytes(b"sOme output")
    with pytest.raises(StoreFailed, match="is damaged"):
        await blobs.get(sha)
    with pytest.raises(StoreFailed, match="is damaged"):
        await blobs.get(sha, 0, 100)
    assert await blobs.get(sha, 5, 6) == b"output"


async def test_a_blob_that_was_cut_short_is_written_again(blobs, folder):
    sha = await blobs.put(b"some output")
    (folder / sha[:2] / sha[2:]).write_bytes(b"some")
    assert await blobs.put(b"some output") == sha
    assert await blobs.get(sha) == b"some output"


@pytest.mark.parametrize(
    "name", ["", "../../../etc/passwd", "ab" * 31, "AB" * 32, "g" * 64, "ab" * 32, "ab" * 32 + "\n"]
)
async def test_a_name_without_a_blob_is_told(blobs, name):
    with pytest.raises(StoreFailed, match="No output is kept under"):
        await blobs.get(name)
    with pytest.raises(StoreFailed, match="No output is kept under"):
        await blobs.size(name)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (apt-get install strace)")
def test_a_blob_is_on_disk_under_its_name_when_put_returns(folder):
    code = (
        "import asyncio, os, sys; from pathlib import Path; from ml_intern.record.secrets import Secrets\n"
        "from ml_intern.store.blobs import Blobs\n"
        "asyncio.run(Blobs(Path(sys.argv[1]), Secrets({})).put(b'x' * 5000)); os.write(1, b'returned')"
    )
    calls = "trace=fsync,rename,renameat,renameat2,write"
    command = ["strace", "-f", "-y", "-e", calls, sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if "not permitted" in done.stderr:
        pytest.skip("needs the right to trace processes")
    steps = re.findall(r"(fsync|rename|write)\w*\((?:\d+<([^>]*)>)?", done.stderr)
    kinds = ["write" if "/.new-" in path else kind for kind, path in steps if path == "" or str(folder) in path]
    order = [kind for kind in kinds if kind in {"write", "rename", "fsync"}]
    assert order == ["write", "write", "rename", "fsync", "fsync"]
    assert done.stdout == "returned"
    assert done.stderr.rindex("fsync(") < done.stderr.rindex('"returned"')


@pytest.mark.watch_loop
async def test_a_large_blob_does_not_hold_up_the_loop(blobs):
    data = os.urandom(1 << 20) * 64
    sha = await blobs.put(data)
    assert len(await blobs.get(sha)) == len(data)
