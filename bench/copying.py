"""The floor of much output: run a command, copy what it prints into a file, bring that to disk. Prints milliseconds.

Usage: copying.py COMMAND ROUNDS
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CHUNK = 1 << 20


def copied_ms(command: str, path: Path) -> float:
    """Milliseconds from the start of the command until its output is on disk."""
    began_ns = time.monotonic_ns()
    process = subprocess.Popen(["bash", "-c", command], stdin=-3, stdout=-1)
    assert process.stdout is not None
    with path.open("wb", buffering=0) as file:
        while piece := os.read(process.stdout.fileno(), _CHUNK):
            file.write(piece)
        os.fsync(file.fileno())
    process.stdout.close()
    if process.wait():
        raise SystemExit(f"{command} ended with {process.returncode}")
    return (time.monotonic_ns() - began_ns) / 1e6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number in range(int(sys.argv[2])):
            sys.stdout.write(f"{copied_ms(sys.argv[1], Path(folder) / str(number)):.3f}\n")
