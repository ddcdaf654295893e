"""What lies outside a session's walls: planted secrets, listeners, a process, and whether any of it was touched."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import ml_intern
from tests.walks.walk import Walk

MARK = f"canary{secrets.token_hex(12)}"
"""In every planted secret, and nowhere else: where it turns up, something got out."""
PLANTED = "ml-intern-walk-planted"
"""The name of what an escape would leave behind."""


@dataclass
class Outside:
    """Everything planted around one `Walk`. `gone` ends it."""

    walk: Walk
    place: Path
    tcp: socket.socket
    udp: socket.socket
    unix: dict[str, socket.socket]
    bystander: subprocess.Popen[bytes]
    kept: dict[Path, bytes] = field(default_factory=dict)

    @property
    def secret(self) -> Path:
        return self.place / "secret.txt"

    def reached(self) -> list[str]:
        """Which listeners heard something."""
        heard: list[str] = []
        for name, listener in {"tcp": self.tcp, **self.unix}.items():
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                heard.append(name)
        self.udp.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            heard.append(f"udp {self.udp.recv(100)!r}")
        return heard

    def changed(self) -> list[str]:
        """What is no longer as it was planted, and what was left where nothing may be."""
        lost = [str(path) for path, was in self.kept.items() if not path.exists() or path.read_bytes() != was]
        return lost + [str(path) for path in left_behind(self.walk)]


@contextlib.contextmanager
def planted(walk: Walk) -> Iterator[Outside]:
    """Plant it all: secrets in the home and beside the workspace, credentials in the environment, listeners."""
    with ExitStack() as stack:
        place = walk.place / "outside"
        place.mkdir()
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = {name: stack.enter_context(_listening(name)) for name in _unix_names(place, stack)}
        bystander = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(bystander.kill)
        outside = Outside(walk, place, tcp, udp, unix, bystander)
        for path, text in _secrets_of(walk, place).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
            outside.kept[path] = path.read_bytes()
        _give_away(place / "another" / "theirs.txt")
        walk.environ |= {
            "OPENAI_API_KEY": f"sk-{MARK}-openai",
            "HF_TOKEN": f"hf_{MARK}environment",
            "DATABASE_PASSWORD": f"{MARK}-password",
            "HARMLESS_NAME": f"{MARK}-plain",
            "AWS_SECRET_ACCESS_KEY": f"{MARK}-aws",
            "SSH_AUTH_SOCK": str(place / "agent.sock"),
        }
        stack.callback(_clear, outside)
        yield outside


def left_behind(walk: Walk) -> list[Path]:
    """What an escape left."""
    folders = (
        *map(Path, ("/", "/etc", "/usr", "/usr/bin", "/opt", "/run", "/tmp", "/dev", "/dev/shm", "/var/tmp")),
        *(Path(ml_intern.__file__).parent, Path(sys.prefix), Path(sys.base_prefix)),
        *(Path(ml_intern.__file__).parent / "sandbox" / "shims", walk.place, walk.home, walk.data),
        *(walk.home / ".cache" / "ml-intern" / "environments", walk.place / "outside", walk.home / ".ssh"),
    )
    return [folder / PLANTED for folder in folders if os.path.lexists(folder / PLANTED)]


def _clear(outside: Outside) -> None:
    """Where a wall is broken, this machine is left as it was all the same."""
    for path in left_behind(outside.walk):
        path.unlink()
    for path, was in outside.kept.items():
        if path.parent.is_dir() and (not path.exists() or path.read_bytes() != was):
            path.write_bytes(was)


def _secrets_of(walk: Walk, place: Path) -> dict[Path, str]:
    home = walk.home
    return {
        place / "secret.txt": f"{MARK} beside the workspace",
        place / "another" / "theirs.txt": f"{MARK} of another user",
        home / "notes.txt": f"{MARK} in the home",
        home / ".netrc": f"machine example.invalid login me password {MARK}",
        home / ".ssh" / "id_ed25519": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{MARK}",
        home / ".aws" / "credentials": f"aws_secret_access_key = {MARK}",
        home / ".cache" / "huggingface" / "token": f"hf_{MARK}file",
        home / ".bash_history": f"export KEY={MARK}",
    }


def _give_away(path: Path) -> None:
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
        os.chown(path.parent, 65534, 65534)
    path.chmod(0o600)


def _unix_names(place: Path, stack: ExitStack) -> Iterator[str]:
    yield str(place / "agent.sock")
    yield f"\0ml-intern-walk-{os.getpid()}"
    for folder in ("/run", "/tmp"):
        if os.access(folder, os.W_OK):
            path = Path(folder, f"ml-intern-walk-{os.getpid()}.sock")
            stack.callback(path.unlink)
            yield str(path)


def _listening(name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    return listener
