"""Who is compared: the command lines of the floor and of ml-intern. Run by itself: what one bwrap `true` costs.

Imports nothing of the product where only command lines are wanted: the process that measures must stay small.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
PRICE = "1/4"  # dollars per million tokens; the double bills by the same


def floor(url: str, prompt: str) -> list[str]:
    """The floor."""
    return [str(BIN / "python"), str(ROOT / "bench" / "floor.py"), url, prompt]


def ours(url: str, prompt: str) -> list[str]:
    """ml-intern with everything on: sandbox, policy, durable record, a priced model, one reader of its events."""
    model = ["--model", "openai-compatible/double", "--base-url", url, "--price", PRICE]
    # A cap and a limit of steps that hold, but not here: 1 000 steps cost more than the default of both.
    limits = ["--mode", "auto", "--budget", "1000", "--max-steps", "2000"]
    return [str(BIN / "ml-intern"), *model, *limits, "--output-format", "stream-json", prompt]


def help_page() -> list[str]:
    """What a person sees first."""
    return [str(BIN / "ml-intern"), "--help"]


def click() -> list[str]:
    """The floor of that."""
    return [str(BIN / "python"), "-c", "import click"]


def environment(home: Path) -> dict[str, str]:
    """A home of its own, no credentials, no proxy, nothing of ours set."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    # The scripts make one and the same call hundreds of times: guards would rightly end that.
    guards = {f"ML_INTERN_GUARD_{name}": "off" for name in ("REPEATS", "STALL")}
    return {**kept, **guards, "HOME": str(home), "OPENAI_COMPATIBLE_API_KEY": "no-key-is-checked"}


def spawn_ms(folder: Path, rounds: int = 60) -> list[float]:
    """Milliseconds from the start of bwrap, with a session's own options and filter, to the end of `true` in it."""
    # Here only: see the module's docstring.
    from ml_intern.sandbox import bubblewrap, paths, seccomp, variables  # noqa: PLC0415
    from ml_intern.sandbox.profiles import Profile  # noqa: PLC0415

    workspace = folder / "workspace"
    workspace.mkdir()
    roots = paths.session_roots(workspace, folder / "session", folder / "environments")
    env = variables.inside(os.environ, roots.home, paths.command_path())
    options = bubblewrap.options(roots, roots.workspace, env, Profile.TRAIN)
    program = os.memfd_create("filter", 0)
    os.write(program, seccomp.program())
    command = [bubblewrap.binaries()[0], *options, "--seccomp", str(program), "--", "true"]
    took: list[float] = []
    for _ in range(rounds):
        os.lseek(program, 0, os.SEEK_SET)
        began_ns = time.monotonic_ns()
        _, status = os.waitpid(os.posix_spawn(command[0], command, {}), 0)
        took.append((time.monotonic_ns() - began_ns) / 1e6)
        if status:
            raise SystemExit(f"bwrap ended with wait status {status}: no sandbox here, so no figure")
    return took


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        figures = spawn_ms(Path(temporary))
    sys.stdout.write(f"{statistics.median(figures):.3f} {min(figures):.3f} {max(figures):.3f}\n")
