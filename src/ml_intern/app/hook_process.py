"""Runs one command of the person's own to its end, of whose words no more than so much is kept. Knows no hook.

What a command leaves behind it may keep its pipes open for as long as it likes: nobody waits for them.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping
from typing import IO

from msgspec import Struct

MOST_BYTES = 65_536
_PIECE_BYTES = 65_536
_PAUSE_S = 0.001
"""Between two looks at a command that has said too much: it goes on, but the loop has other work."""
_END_S = 5.0
"""Longest wait for a process that was killed: one that hangs in the kernel is left to it."""


class Ended(Struct, frozen=True):
    """How a command ended. `output` is the beginning of what it printed, `complaint` the end of what it complained of.

    `is_whole`: it printed no more than that.
    """

    code: int
    output: bytes
    complaint: bytes
    is_whole: bool


async def run_command(command: str, data: bytes, environ: Mapping[str, str], cwd: str) -> Ended:
    """Run `command` in a shell, `data` on its standard input. Its whole process group ends with the wait for it.

    Raises:
        OSError: it cannot be started.
    """
    loop = asyncio.get_running_loop()
    with contextlib.closing(_Ear(loop)) as out, contextlib.closing(_Ear(loop, newest=True)) as err:
        # A file, not a pipe: whether it is read, and by whom, is nothing to wait for.
        with await asyncio.to_thread(_file_of, data) as told:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                command,
                cwd=cwd,
                env=dict(environ),
                stdin=told,
                stdout=out.mouth,
                stderr=err.mouth,
                start_new_session=True,
            )
        try:
            code = await process.wait()
        finally:
            await _end(process)
        output = out.heard()
        return Ended(code, output[:MOST_BYTES], err.heard(), is_whole=len(output) <= MOST_BYTES)


def _file_of(data: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever starts the process closes it
    file.write(data)
    file.seek(0)
    return file


async def _end(process: asyncio.subprocess.Process) -> None:
    # On some systems the kill of what has ended is forbidden, not in vain.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _END_S)


class _Ear:
    """A pipe that is always emptied, so that nobody who speaks into its `mouth` has to wait. It keeps one byte more
    than the most, or the newest.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, newest: bool = False) -> None:
        self._loop = loop
        self._cut = slice(None, -MOST_BYTES) if newest else slice(MOST_BYTES + 1, None)
        self._kept = bytearray()
        self._later: asyncio.TimerHandle | None = None
        self._end, self.mouth = os.pipe()
        os.set_blocking(self._end, False)
        self._listen()

    def heard(self) -> bytes:
        """All of it that is kept, what nobody has looked at yet included."""
        if self._read():
            self._read()
        return bytes(self._kept)

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._end)
        if self._later is not None:
            self._later.cancel()
        os.close(self._end)
        os.close(self.mouth)

    def _listen(self) -> None:
        self._loop.add_reader(self._end, self._look)

    def _look(self) -> None:
        self._read()
        if len(self._kept) >= MOST_BYTES:
            self._loop.remove_reader(self._end)
            self._later = self._loop.call_later(_PAUSE_S, self._listen)

    def _read(self) -> bool:
        """Whether there was anything."""
        try:
            piece = os.read(self._end, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self._kept += piece
        del self._kept[self._cut]
        return bool(piece)
