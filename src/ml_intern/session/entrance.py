"""Where other processes of the same user reach a session that runs: a socket in its folder. They may say something or
stop it, and nothing else: never answer a held call. Knows no door.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from ml_intern.base.errors import SessionError, StoreFailed
from ml_intern.record.commands import Say, Stop
from ml_intern.record.log import Refusal
from ml_intern.session.session import Session

SOCKET = "inbox.sock"
ANSWERED_WITHIN_S = 10.0
"""A stop is answered when what it ends has ended."""

_READ_WITHIN_S = 5.0
_LONGEST = 4 * 1024 * 1024
_UNREADABLE = Refusal("The message could not be read.", "Both sides must be the same version of ml-intern.")


class Sent(Struct, frozen=True):
    """What another process sends, one line of JSON. `id` as in every command: one that was taken in is dropped."""

    kind: Literal["say", "stop"]
    id: str
    text: str = ""
    when: Literal["now", "after"] = "now"
    commands: bool = False


class Absent(Struct, frozen=True):
    """Nobody runs the session."""

    session: str = ""


@asynccontextmanager
async def entrance(session: Session, folder: Path) -> AsyncGenerator[None]:
    """Let others in until the block ends; what they sent before is taken in when it does. This process owns `session`.

    Raises:
        StoreFailed: the folder takes no socket.
    """
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(_READ_WITHIN_S):
                line = await reader.readline()
            taking = asyncio.ensure_future(_take(session, line, writer))
            busy.add(taking)
            await taking
            busy.discard(taking)

    server = await asyncio.start_unix_server(serve, sock=await asyncio.to_thread(_listening, folder), limit=_LONGEST)
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError):
            (folder / SOCKET).unlink()
        await asyncio.gather(*busy, return_exceptions=True)


async def deliver(folder: Path, sent: Sent) -> Refusal | Absent | None:
    """Hand `sent` to whoever runs the session of `folder`; None: it was taken in.

    Raises:
        StoreFailed: the socket is not ours, or nobody answers.
    """
    line = msgspec.json.encode(sent) + b"\n"
    if len(line) > _LONGEST:
        return Refusal("The message is too long.", "Put it into a file of the workspace, and name that.")
    found = await asyncio.to_thread(_connected, folder)
    if found is None:
        return Absent()
    reader, writer = await asyncio.open_unix_connection(sock=found, limit=_LONGEST)
    with contextlib.closing(writer):
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                writer.write(line)
                await writer.drain()
                line = await reader.readline()
        except (OSError, TimeoutError) as error:
            remedy = "`ml-intern show` tells whether it was taken in; to send it again is safe with the same --id."
            raise StoreFailed("The process that runs the session does not answer.", remedy) from error
    if not line:
        return Absent()  # It ended at this very moment.
    answer = msgspec.json.decode(line, type=Refusal)
    return answer if answer.what else None


async def _take(session: Session, line: bytes, writer: asyncio.StreamWriter) -> None:
    if not _is_own(writer.get_extra_info("socket")):
        return
    try:
        sent = msgspec.json.decode(line, type=Sent)
        stop, say = Stop(sent.id, commands=sent.commands), Say(sent.id, sent.text, when=sent.when)
        refusal = await session.send(stop if sent.kind == "stop" else say)
    except msgspec.MsgspecError:
        refusal = _UNREADABLE
    except SessionError as error:
        refusal = Refusal(error.what, error.remedy)
    writer.write(msgspec.json.encode(refusal or Refusal("")) + b"\n")
    await writer.drain()


def _is_own(connection: socket.socket) -> bool:
    """Whether the other side is this user. The folder is private; this holds where somebody opened it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid == os.geteuid()


def _listening(folder: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.settimeout(0)
    try:
        # A socket that lies there belongs to nobody: this process owns the session.
        (folder / SOCKET).unlink(missing_ok=True)
        with _short(folder) as path:
            listening.bind(path)
        listening.listen()
    except OSError as error:
        listening.close()
        what = f"The session folder {folder} takes no socket: {error.strerror}."
        raise StoreFailed(what, "Set ML_INTERN_DATA to a folder on a local disk.") from error
    return listening


def _connected(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWERED_WITHIN_S)
    try:
        with _short(folder) as path:
            connection.connect(path)
        if not _is_own(connection):
            raise StoreFailed(f"Another user listens in the session folder {folder}.", "Move the folder away.")
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        what = f"The process that runs the session cannot be reached: {error.strerror}."
        raise StoreFailed(what, "Look whether it still runs: `ml-intern show` names it.") from error
    connection.settimeout(0)
    return connection


@contextlib.contextmanager
def _short(folder: Path) -> Generator[str]:
    """A path of the socket that stays below the 108 bytes that its address holds (unix(7)), where there is /proc."""
    if not Path("/proc/self/fd").is_dir():
        yield str(folder / SOCKET)
        return
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{place}/{SOCKET}"
    finally:
        os.close(place)
