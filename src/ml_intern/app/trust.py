"""Which workspace settings a person trusts: a file's place and the hash of what it holds. Knows no setting."""

import hashlib
import json
import os
import time
from pathlib import Path

from msgspec import Struct

from ml_intern.base.errors import BadSettings


class Trusted(Struct, frozen=True):
    """A file that a person trusts while it holds exactly what they saw. `at`: milliseconds since 1970."""

    path: str
    sha: str
    at: int


class Trust(Struct, frozen=True):
    """What this user trusts, one small file each below `folder` (in the data folder, which no command can write)."""

    folder: Path

    def holds(self, path: Path, sha: str) -> bool:
        """Whether a person trusts this file as it is."""
        trusted = self._read(self._file(path))
        return trusted is not None and (trusted.path, trusted.sha) == (_place(path), sha)

    def give(self, path: Path, sha: str) -> None:
        """Trust the file as long as it holds what hashes to `sha`.

        Raises:
            BadSettings: the data folder cannot be written.
        """
        kept = {"path": _place(path), "sha": sha, "at": time.time_ns() // 1_000_000}
        file = self._file(path)
        fresh = file.with_suffix(f".{os.getpid()}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(kept))
            fresh.replace(file)
        except OSError as error:
            what = f"{self.folder} cannot be written: {error.strerror}."
            raise BadSettings(what, "Make room there, or choose another folder with ML_INTERN_DATA.") from error

    def revoke(self, path: Path) -> bool:
        """Trust the file no longer; whether it was trusted."""
        try:
            self._file(path).unlink()
        except FileNotFoundError:
            return False
        return True

    def all(self) -> list[Trusted]:
        """Everything that is trusted, by place."""
        found = (self._read(file) for file in self.folder.glob("*.json"))
        return sorted((each for each in found if each is not None), key=lambda each: each.path)

    def _file(self, path: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(_place(path))).hexdigest()[:32]}.json"

    def _read(self, file: Path) -> Trusted | None:
        """What cannot be read is not trusted."""
        try:
            row = json.loads(file.read_text())
            return Trusted(str(row["path"]), str(row["sha"]), int(row["at"]))
        except (OSError, ValueError, LookupError, TypeError):
            return None


def _place(path: Path) -> str:
    return os.path.realpath(path)
