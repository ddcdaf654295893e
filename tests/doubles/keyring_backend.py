"""A keyring that keeps its passwords in the file that $DOUBLE_KEYRING names; for PYTHON_KEYRING_BACKEND.

$DOUBLE_KEYRING_FAULT: `locked` refuses everything, `hang` never answers.
"""

import json
import os
import time
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class Ring(KeyringBackend):
    """Implements `keyring.backend.KeyringBackend`."""

    priority = 9  # pyright: ignore[reportAssignmentType] - as keyring's own backends do it

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._file().write_text(json.dumps({**self._all(), f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        kept = self._all()
        del kept[f"{service} {username}"]
        self._file().write_text(json.dumps(kept))

    def _all(self) -> dict[str, str]:
        match os.environ.get("DOUBLE_KEYRING_FAULT"):
            case "locked":
                raise KeyringLocked("Failed to unlock the collection!")
            case "hang":
                time.sleep(60)
            case _:
                pass
        return json.loads(self._file().read_text()) if self._file().exists() else {}

    def _file(self) -> Path:
        return Path(os.environ["DOUBLE_KEYRING"])


class Plaintext(Ring):
    """One that calls itself what we do not take."""


# What keyrings.alt ships keeps passwords as plain text.
Plaintext.__module__ = "keyrings.alt.file"
