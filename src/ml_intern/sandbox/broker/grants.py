"""What one running command may write to the Hub: a file in its folder, there exactly as long as the command runs.

The supervisor makes and removes it, the broker reads it. Imports only the standard library.
"""

import contextlib
import json
import os
from collections.abc import Iterable

_FILE = "grant.json"


def give(folder: str, token: str, pushes: Iterable[str]) -> None:
    """Let the command of `folder`, which shows `token`, write what the lines of `pushes` say. Raises OSError."""
    number = os.open(f"{folder}/{_FILE}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w") as file:
        json.dump({"token": token, "pushes": list(pushes)}, file)


def end(folder: str) -> None:
    """Nothing of it is allowed any more. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/{_FILE}")


def read(folder: str) -> tuple[str, tuple[str, ...]]:
    """Token and lines of the command in `folder`; empty where it may write nothing, or has ended."""
    try:
        with open(f"{folder}/{_FILE}", "rb") as file:
            kept = json.load(file)
        return str(kept["token"]), tuple(map(str, kept["pushes"]))
    except (OSError, ValueError, LookupError, TypeError):
        return "", ()
