"""How a command ended, as it stands in its folder. Knows no process. Imports only the standard library."""

import contextlib
import json
import os
from typing import Literal, NamedTuple, cast, get_args

Reason = Literal["exited", "deadline", "stopped", "closed", "memory", "lost", "failed_to_start"]

RESULT = "exit.json"
SPEC = "spec.json"
OUTPUT = "output"


class Outcome(NamedTuple):
    """What `exit.json` holds."""

    reason: Reason
    exit_code: int | None = None
    output_bytes: int = 0
    dropped_bytes: int = 0
    duration_s: float = 0.0
    note: str = ""


def with_note(outcome: Outcome, note: str) -> Outcome:
    """The same end with one more thing said about it."""
    return outcome._replace(note="; ".join(part for part in (outcome.note, note) if part))


def save_outcome(folder: str, outcome: Outcome) -> None:
    """Write `exit.json`, whole or not at all for who reads it. Raises OSError.

    Not flushed to disk: after a loss of power it may be empty or missing, and then the command counts as lost.
    """
    save_json(f"{folder}/{RESULT}", outcome._asdict())


def load_outcome(folder: str) -> Outcome | None:
    """What `exit.json` says, or None while there is none. Raises OSError, ValueError (not ours)."""
    try:
        with open(f"{folder}/{RESULT}", "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    # Its name may have reached the disk before a loss of power, and its contents not.
    return to_outcome(json.loads(text)) if text.strip(b"\0") else None


class Ends:
    """How the commands of a folder ended: in their own folders, or here where a full disk refused that."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._unwritten: dict[str, Outcome] = {}

    def keep(self, key: str, outcome: Outcome) -> str:
        """Why it could not be written; empty if it was."""
        try:
            save_outcome(f"{self._folder}/{key}", outcome)
        except OSError as error:
            self._unwritten[key] = outcome
            return str(error)
        return ""

    def find(self, key: str) -> Outcome | None:
        """How `key` ended, if it did. Raises OSError, ValueError as `load_outcome`."""
        return self._unwritten.get(key) or (load_outcome(f"{self._folder}/{key}") if key else None)

    def write_again(self) -> None:
        """Try once more what could not be written."""
        for key, outcome in self._unwritten.items():
            with contextlib.suppress(OSError):
                save_outcome(f"{self._folder}/{key}", outcome)


def to_outcome(data: object) -> Outcome:
    """Check what was read. Raises ValueError."""
    values = cast("dict[str, object]", data) if isinstance(data, dict) else {}
    reason, code = str(values.get("reason")), values.get("exit_code")
    if reason not in get_args(Reason):
        raise ValueError(f"unknown reason {reason!r}")
    return Outcome(
        cast("Reason", reason),
        code if isinstance(code, int) else None,
        int(str(values.get("output_bytes", 0))),
        int(str(values.get("dropped_bytes", 0))),
        float(str(values.get("duration_s", 0))),
        str(values.get("note", "")),
    )


def save_json(path: str, data: object) -> None:
    """Write a file under another name, then rename it into place. Raises OSError."""
    fresh = f"{path}.new"
    # Not `open`, whose layers take as long as the writing; not `json.dump`, which writes each value by itself.
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        text = json.dumps(data).encode()
        while text:
            text = text[os.write(number, text) :]
    finally:
        os.close(number)
    os.rename(fresh, path)


def load_spec(folder: str) -> dict[str, object]:
    """What `spec.json` holds; nothing if it is not ours. Raises OSError, ValueError."""
    with open(f"{folder}/{SPEC}", "rb") as file:
        data = json.load(file)
    return cast("dict[str, object]", data) if isinstance(data, dict) else {}
