"""`ml-intern trust`: show a workspace's settings file and remember that a person lets it count. Knows no session."""

import hashlib
import os
import sys
from pathlib import Path

from ml_intern.app.places import settings_file
from ml_intern.app.sources import WORKSPACE_FILE, read_bytes, read_source
from ml_intern.app.standing import loosening, trust_of
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible, visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain


def give(file: str | None, yes: bool) -> Exit:
    """Show the file and its hash, ask, and trust exactly what was shown."""
    path = Path(file or WORKSPACE_FILE).absolute()
    try:
        shown = _read(path)
        _show(path, shown)
        if not yes and not _agreed():
            return Exit.FAILED
        trust_of(os.environ).give(path, hashlib.sha256(shown).hexdigest())
    except BadSettings as error:
        return _tell(error)
    sys.stdout.write("Trusted, as long as it stays as it is.\n")
    return Exit.DONE


def revoke(file: str | None) -> Exit:
    """Trust the file no longer, whether it is still there or not."""
    path = Path(file or WORKSPACE_FILE).absolute()
    if not trust_of(os.environ).revoke(path):
        return _tell(BadSettings(f"{path} is not trusted.", "`ml-intern trust --list` lists what is."))
    sys.stdout.write(f"No longer trusted: {visible_line(str(path))}\n")
    return Exit.DONE


def listing() -> Exit:
    """What is trusted, and whether it is still as it was."""
    for each in trust_of(os.environ).all():
        sys.stdout.write(f"{each.sha[:12]}  {_state(Path(each.path), each.sha):<8}  {visible_line(each.path)}\n")
    return Exit.DONE


def _state(path: Path, sha: str) -> str:
    try:
        data = read_bytes(path)
    except BadSettings:
        return "unread"
    return "gone" if data is None else "as it was" if hashlib.sha256(data).hexdigest() == sha else "changed"


def _read(path: Path) -> bytes:
    data = read_bytes(path)
    if data is None:
        raise BadSettings(f"There is no {path}.", "Name the settings file of a workspace.")
    return data


def _show(path: Path, data: bytes) -> None:
    """All of it, control characters spelled out, and what of it allows more than before."""
    source = read_source(path, "workspace")
    if source is None or source.sha != hashlib.sha256(data).hexdigest():
        raise BadSettings(f"{path} changed while it was read.", "Look at what writes it, then try again.")
    user = read_source(settings_file(), "user")
    loose = loosening(source, user.values if user is not None else {})
    body = "".join(f"  {visible(line)}\n" for line in data.decode().splitlines())
    name = visible_line(str(path))
    sys.stdout.write(f"{name}\nsha256 {source.sha}\n{body}Loosens: {', '.join(loose) or 'nothing'}\n")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise BadSettings("Nobody is there to say yes.", "Read the file, then add --yes.")
    sys.stdout.write("Let it count? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _tell(error: BadSettings) -> Exit:
    complain(error)
    return Exit.BAD_SETTINGS
