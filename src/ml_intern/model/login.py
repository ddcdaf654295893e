"""Keys that a person gave once: each in the system's keyring where there is one, else in a file that only they can
read. Knows no provider and no wire.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from msgspec import Struct

from ml_intern.base.errors import BadSettings

Place = Literal["keyring", "file"]

ANSWER_S = 30.0
"""How long a keyring may take: it may ask the person to unlock it."""

_RINGED = ".keyring"
_INSTALL = "`pip install 'ml-intern[keyring]'`"
_NO_KEYRING, _NO_KEY = 3, 4  # of keyring_process, which is not imported here: it imports what may not be there


class Stored(Struct, frozen=True):
    """A key that lies here: the variable it stands for, and where it lies."""

    name: str
    place: Place


def folder(environ: Mapping[str, str]) -> Path:
    """Where key files lie: beside the user's settings (https://specifications.freedesktop.org/basedir-spec)."""
    home = Path(environ.get("HOME") or "~").expanduser()
    if sys.platform == "darwin":
        return home / "Library/Application Support/ml-intern/keys"
    config = environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if os.path.isabs(config) else home / ".config") / "ml-intern" / "keys"


def stored(environ: Mapping[str, str]) -> list[Stored]:
    """Every key that lies here, by name. Reads no key, and no keyring."""
    try:
        there = {each.name for each in os.scandir(folder(environ)) if not each.name.startswith(".")}
    except OSError:
        return []
    names = sorted({each.removesuffix(_RINGED) for each in there})
    return [Stored(name, "file" if name in there else "keyring") for name in names]


def in_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The keys that lie in files, by name."""
    found = {each.name: _text_of(folder(environ) / each.name) for each in stored(environ) if each.place == "file"}
    return {name: value for name, value in found.items() if value}


def read(name: str, environ: Mapping[str, str]) -> tuple[str, Place] | None:
    """The key that stands for the variable `name`. Blocks, for long where it lies in a keyring that is locked.

    Raises:
        BadSettings: it lies in a keyring that does not give it.
    """
    place = folder(environ)
    if value := _text_of(place / name):
        return value, "file"
    if not (place / f"{name}{_RINGED}").exists():
        return None
    value, why = _asked("get", name, environ)
    if why:
        raise _locked(name, why)
    return value, "keyring"


def keep(name: str, value: str, environ: Mapping[str, str]) -> tuple[Place, str]:
    """Keep a key: where it lies now, and, for a file, why not in a keyring. Blocks.

    Raises:
        BadSettings: the folder cannot be written.
    """
    place = folder(environ)
    _, why = _asked("set", name, environ, value)
    kept, other = (place / f"{name}{_RINGED}", place / name) if not why else (place / name, place / f"{name}{_RINGED}")
    _write(kept, f"{value}\n" if why else "")
    _remove(other)
    return ("file" if why else "keyring"), why


def drop(name: str, environ: Mapping[str, str]) -> bool:
    """Forget a key; whether there was one. Blocks.

    Raises:
        BadSettings: it lies where it cannot be removed.
    """
    mark = folder(environ) / f"{name}{_RINGED}"
    if mark.exists():
        _, why = _asked("drop", name, environ)
        if why and why != _GONE:
            raise _locked(name, why)
    return any([_remove(mark), _remove(folder(environ) / name)])


def open_to_others(environ: Mapping[str, str]) -> list[Path]:
    """What of the folder and its files others may read or change."""
    place = folder(environ)
    paths = [place, *(place / each.name for each in stored(environ) if each.place == "file")]
    return [path for path in paths if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]


_GONE = "it holds it no longer"


def _asked(verb: str, name: str, environ: Mapping[str, str], value: str = "") -> tuple[str, str]:
    """What the keyring gives, and why it does not."""
    if find_spec("keyring") is None:
        return "", f"the package keyring is not installed ({_INSTALL})"
    # -P: what lies in the folder where we were started is not imported.
    command = [sys.executable, "-P", "-m", "ml_intern.model.keyring_process", verb, name]
    try:
        done = subprocess.run(
            command, env=dict(environ), input=value, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"it did not answer within {ANSWER_S:.0f} s"
    match done.returncode:
        case 0:
            return done.stdout, ""
        case code if code == _NO_KEYRING:
            return "", "this machine has no keyring"
        case code if code == _NO_KEY:
            return "", _GONE
        case _:
            last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
            return "", last.replace(value, "[key]") if value else last


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for its owner alone from the first byte."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        fresh.unlink(missing_ok=True)
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(number)
        fresh.replace(path)
    except OSError as error:
        raise _unwritten(path.parent, error) from error


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unwritten(path.parent, error) from error
    return True


def _unwritten(path: Path, error: OSError) -> BadSettings:
    return BadSettings(f"{path} cannot be written: {error.strerror}.", "Make it yours, or set the key as a variable.")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _locked(name: str, why: str) -> BadSettings:
    what = f"The key {name} lies in the system's keyring, which does not give it: {why.rstrip('.')}."
    return BadSettings(what, f"Unlock the keyring, set {name}, or store the key anew with `ml-intern login`.")
