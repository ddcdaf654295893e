"""Other agents against the same double: how each is installed, and how it is driven. Knows no row and no target.

Installed from the registries into a folder that goes with the bench, in the newest version.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """One agent: its package, from which registry, and its command line in the folder it was installed to."""

    package: str
    registry: str
    command: Callable[[Path, str, str], list[str]]


def _smolagents(folder: Path, url: str, prompt: str) -> list[str]:
    return [str(folder / "bin" / "python"), str(HERE / "smolagents_agent.py"), url, prompt]


def _pi(folder: Path, url: str, prompt: str) -> list[str]:
    model = {"id": "double", "contextWindow": 10_000_000, "maxTokens": 16_384}
    prices = {"cost": {"input": 1, "output": 4, "cacheRead": 0, "cacheWrite": 0}}
    provider = {"baseUrl": url, "api": "openai-completions", "apiKey": "no-key-is-checked", "models": [model | prices]}
    (folder / "models.json").write_text(json.dumps({"providers": {"double": provider}}))
    own = [f"PI_CODING_AGENT_DIR={folder}", "PI_OFFLINE=1", "PI_TELEMETRY=0"]
    program = str(folder / "node_modules" / ".bin" / "pi")
    return ["env", *own, program, "--provider", "double", "--model", "double", "-p", prompt]


PEERS = {
    "smolagents": Peer("smolagents[openai]", "pip", _smolagents),
    "pi": Peer("@mariozechner/pi-coding-agent", "npm", _pi),
}

NOT_DRIVEN = {
    "codex": "it asks by OpenAI's Responses API only; the double of this bench is of chat completions",
    "claude-code": "it asks by Anthropic's messages API; the double of this bench is of chat completions",
    "kimi-cli": "its makers have archived it; nobody has written here how to drive it or what came after it",
}
"""Who else was thought of, and why it is not in the table."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer that is here; `version` is what its registry gave."""

    name: str
    version: str
    command: Callable[[str, str], list[str]]


def install(name: str, below: Path) -> Installed | str:
    """The peer, installed into a folder `below`; or why it cannot be had here, in a sentence."""
    if name in NOT_DRIVEN:
        return NOT_DRIVEN[name]
    if name not in PEERS:
        return f"it is not known; known: {', '.join([*PEERS, *NOT_DRIVEN])}"
    peer, folder = PEERS[name], below / name
    folder.mkdir()
    if peer.registry == "npm" and not shutil.which("npm"):
        return "there is no npm on this machine"
    steps = _npm(peer.package, folder) if peer.registry == "npm" else _pip(peer.package, folder)
    for step in steps:
        done = subprocess.run(step, stdin=-3, stdout=-1, stderr=-2, text=True, check=False)
        if done.returncode:
            return f"it cannot be installed: {done.stdout.strip().splitlines()[-1] if done.stdout.strip() else step[0]}"

    def command(url: str, prompt: str) -> list[str]:
        return peer.command(folder, url, prompt)

    command.__name__ = name
    return Installed(name, _version(peer, folder), command)


def _pip(package: str, folder: Path) -> list[list[str]]:
    python = str(folder / "bin" / "python")
    quiet = ["-qq", "--disable-pip-version-check"]
    return [[sys.executable, "-m", "venv", str(folder)], [python, "-m", "pip", "install", *quiet, package]]


def _npm(package: str, folder: Path) -> list[list[str]]:
    return [["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder), package]]


def _version(peer: Peer, folder: Path) -> str:
    if peer.registry == "npm":
        return json.loads((folder / "node_modules" / peer.package / "package.json").read_text())["version"]
    name = peer.package.partition("[")[0]
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([folder / "bin" / "python", "-c", asked], stdout=-1, text=True, check=True).stdout.strip()
