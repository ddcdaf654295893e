"""A session folder, a workspace and roots for tests of commands."""

import os
import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from ml_intern.sandbox.commands import Commands, Ended, Spec
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.limits import Limits
from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile

PYTHON = f"{sys.base_prefix}/bin/python3"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/passwd", "/etc/group", sys.base_prefix)
QUICK = Limits(grace_s=0.5)


@dataclass(frozen=True)
class Yard:
    """A session folder, a workspace and the roots that join them."""

    session: Path
    workspace: Path
    level: Level
    roots: Roots

    def commands(self, limits: Limits = QUICK) -> Commands:
        return Commands(self.session, self.level, limits=limits)

    def spec(self, command: str, key: str = "", deadline_s: float = 30, profile: Profile = Profile.WORK) -> Spec:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.workspace), "LC_ALL": "C"}
        argv = ("/bin/bash", "-c", command)
        key = key or f"call-{secrets.token_hex(4)}"
        return Spec(key, argv, str(self.workspace), env, deadline_s, self.roots, profile)

    async def run(self, command: str, key: str = "", deadline_s: float = 30) -> tuple[Ended, str]:
        seen: list[bytes] = []
        ended = await self.commands().run(self.spec(command, key, deadline_s), seen.append)
        return ended, b"".join(seen).decode()

    async def python(self, code: str) -> tuple[Ended, str]:
        (self.workspace / "attempt.py").write_text(code)
        return await self.run(f"exec {PYTHON} -I attempt.py 2>&1")

    def with_protected(self, *inside: Path) -> "Yard":
        return replace(self, roots=structs.replace(self.roots, protected=tuple(map(str, inside))))


def alive(marker: str) -> list[int]:
    """Processes of this machine that have the marker in their command line."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if name.isdigit() and marker.encode() in words and int(name) != os.getpid():
            found.append(int(name))
    return found


def make_yard(place: Path, level: Level) -> Yard:
    workspace, temporary = place / "workspace", place / "session" / "tmp"
    workspace.mkdir(parents=True)
    temporary.mkdir(parents=True)
    system = tuple(Root(path, path, "read") for path in SYSTEM if Path(path).exists())
    own = (Root("/tmp", str(temporary), "write"), Root(str(workspace), str(workspace), "write"))
    return Yard(place / "session", workspace, level, Roots((*system, *own), ()))
