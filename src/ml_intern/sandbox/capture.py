"""A command's output: from its pipe into its file, up to a limit, then only counted.

Knows no process. Imports only the standard library.
"""

import contextlib
import os

_CHUNK = 1024 * 1024


class Capture:
    """`kept` and `dropped` are bytes; `pipe` is the reading end and `file` where it goes; `close` closes both."""

    def __init__(self, pipe: int, file: int, limit: int) -> None:
        self.pipe = pipe
        self.kept = 0
        self.dropped = 0
        self.note = ""
        self._limit = limit
        self._file = file
        os.set_blocking(pipe, False)

    @property
    def is_open(self) -> bool:
        """Somebody may still write."""
        return self.pipe >= 0

    def read(self) -> None:
        """Take what the pipe holds now, at most one chunk; closes at its end."""
        try:
            chunk = os.read(self.pipe, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self.close()
            return
        room = self._limit - self.kept
        written = self._write(chunk[:room]) if room > 0 else 0
        self.kept += written
        self.dropped += len(chunk) - written

    def close(self) -> None:
        """Close both ends we hold; more than once is allowed."""
        for number in (self.pipe, self._file):
            if number >= 0:
                with contextlib.suppress(OSError):
                    os.close(number)
        self.pipe = self._file = -1

    def _write(self, chunk: bytes) -> int:
        written = 0
        try:
            while written < len(chunk):
                written += os.write(self._file, chunk[written:])
        except OSError as error:
            # A full disk must not end the command; what is missing is counted and said.
            self._limit = self.kept + written
            self.note = f"output could not be written: {error.strerror}"
        return written
