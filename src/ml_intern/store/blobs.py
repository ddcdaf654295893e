"""Large outputs beside the record, named by their SHA-256. Knows no event and no tool."""

import asyncio
import hashlib
import os
import re
import tempfile
from pathlib import Path

from ml_intern.base.errors import StoreFailed
from ml_intern.record.secrets import Secrets
from ml_intern.store.failures import of_system
from ml_intern.store.folder import make_private_folder
from ml_intern.store.space import require_space

_NAME = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The blobs of one session under `folder`. What is put is cleaned of `secrets` before it is hashed."""

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        self._folder = folder
        self._secrets = secrets

    async def put(self, data: bytes) -> str:
        """Keep `data` and return its name (hex SHA-256). It is on disk on return.

        Raises:
            StoreFailed: the disk refused.
        """
        return await asyncio.to_thread(self.keep, data)

    async def get(self, sha: str, offset: int = 0, limit: int | None = None) -> bytes:
        """`limit` bytes from `offset` on, fewer at the end, all without a limit. A whole read is checked by its hash.

        Raises:
            StoreFailed: there is no such blob, it cannot be read, or it is damaged.
        """
        return await asyncio.to_thread(self._get, sha, offset, limit)

    async def size(self, sha: str) -> int:
        """How many bytes the blob holds.

        Raises:
            StoreFailed: there is no such blob.
        """
        return await asyncio.to_thread(self._size, sha)

    def keep(self, data: bytes) -> str:
        """What `put` does. Blocks: for a thread that puts many."""
        data = self._secrets.clean_bytes(data)
        sha = hashlib.sha256(data).hexdigest()
        path = self._path(sha)
        try:
            if not path.is_file() or path.stat().st_size != len(data):
                make_private_folder(path.parent)
                require_space(path.parent, len(data))
                _write_whole(path, data)
        except OSError as error:
            raise of_system(error, path) from error
        return sha

    def find(self, sha: str) -> bytes | None:
        """All of the blob, None where there is no such. Blocks.

        Raises:
            StoreFailed: it cannot be read, or it is damaged.
        """
        return self._get(sha, 0, None) if self._path(sha).is_file() else None

    def _get(self, sha: str, offset: int, limit: int | None) -> bytes:
        size = self._size(sha)
        path = self._path(sha)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read() if limit is None else file.read(limit)
        except OSError as error:
            raise of_system(error, path) from error
        if offset == 0 and len(data) == size and hashlib.sha256(data).hexdigest() != sha:
            what = f"The output kept under {sha} is damaged: its content does not match its name."
            raise StoreFailed(what, f"Look at the disk under {path}; run the call again for its output.")
        return data

    def _size(self, sha: str) -> int:
        path = self._path(sha)
        try:
            return path.stat().st_size
        except FileNotFoundError as error:
            raise _unknown(sha) from error
        except OSError as error:
            raise of_system(error, path) from error

    def _path(self, sha: str) -> Path:
        if not _NAME.fullmatch(sha):
            raise _unknown(sha)
        return self._folder / sha[:2] / sha[2:]


def _unknown(sha: str) -> StoreFailed:
    return StoreFailed(f"No output is kept under {sha!r}.", "Use the name (64 hex digits) that the call's answer gave.")


def _write_whole(path: Path, data: bytes) -> None:
    """All or nothing: written beside its place, flushed, renamed; then both folders that name it are flushed."""
    file, beside = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o600)
            os.fsync(stream.fileno())
        Path(beside).rename(path)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):
        _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
