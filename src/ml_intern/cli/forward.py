"""`ml-intern forward`: a person reaches a server inside the sandbox. Parses and prints; knows no socket."""

import asyncio
import signal
import sys
from pathlib import Path

from ml_intern.app.reading import open_reading
from ml_intern.base.errors import BadSettings, MlInternError, SandboxError, SessionNotFound
from ml_intern.base.text import visible_line
from ml_intern.headless.exits import Exit
from ml_intern.sandbox.forward import HOST, forwarded, require, standing, until_gone

_PORT_DIGITS = 5
_HIGHEST = 65_535
_CARE = (
    "Pages from there are the agent's and run in your browser, outside the sandbox: they can send what they hold "
    "anywhere. A private window keeps your cookies of 127.0.0.1 from them."
)
_USAGE = "Write it as: ml-intern forward [ID|last] PORT [--to PORT]."


def forward(what: tuple[str, ...], to: int | None) -> Exit:
    """Forward a port until Ctrl+C or until nothing of the session runs; without one, list those that listen."""
    try:
        asyncio.run(_forward(*_parsed(what), to))
    except MlInternError as error:
        sys.stderr.write(f"ml-intern: {visible_line(error.what)}\n" + (f"{error.remedy}\n" if error.remedy else ""))
        return Exit.BAD_SETTINGS if isinstance(error, BadSettings | SessionNotFound) else Exit.FAILED
    return Exit.DONE


def _parsed(what: tuple[str, ...]) -> tuple[str, int | None]:
    """The session and the port: the last word is a port if it could be one. Raises BadSettings."""
    words = list(what)
    port = int(words.pop()) if words and _is_number(words[-1]) else None
    if port is not None and not 0 < port <= _HIGHEST:
        raise BadSettings(f"{port} is no port: they go from 1 to {_HIGHEST}.", _USAGE)
    if len(words) > 1:
        raise BadSettings(f"{words[-1]!r} is no port." if port is None else "That is more than one session.", _USAGE)
    return (words[0] if words else "last"), port


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _PORT_DIGITS


async def _forward(session: str, port: int | None, to: int | None) -> None:
    async with open_reading() as reading:
        found = await reading.resolve(session)
        folder = reading.folder(found)
    if port is None:
        await _list(folder, found)
        return
    supervisor = (await require(folder, port, found)).supervisor
    async with forwarded(folder, port, to, _tell) as made:
        sys.stdout.write(f"http://{HOST}:{made.at} -> port {port} of session {found} (Ctrl+C ends it)\n")
        sys.stdout.flush()
        _tell(_CARE)
        ended = await _until_interrupted(supervisor)
    _tell(f"The commands of session {found} have ended." if ended else "No longer forwarded.")


async def _list(folder: Path, session: str) -> None:
    found = await standing(folder)
    if found is None:
        raise SandboxError(f"Nothing of session {session} runs.", "`ml-intern sessions` lists the sessions.")
    if not found.ports:
        sys.stdout.write(f"No command of session {session} listens on a port.\n")
    for port in found.ports:
        sys.stdout.write(f"port {port}: ml-intern forward {session} {port}\n")


async def _until_interrupted(supervisor: int) -> bool:
    """Whether the supervisor ended first."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted.set)
    gone, stopped = asyncio.ensure_future(until_gone(supervisor)), asyncio.ensure_future(interrupted.wait())
    await asyncio.wait((gone, stopped), return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    stopped.cancel()
    await asyncio.gather(gone, stopped, return_exceptions=True)
    return not interrupted.is_set()


def _tell(what: str) -> None:
    sys.stderr.write(f"{visible_line(what)}\n")
    sys.stderr.flush()
