"""How a command ended, in sentences that say what to do about it. Knows no output."""

import signal
from collections.abc import Mapping

from ml_intern.sandbox.commands import Ended
from ml_intern.sandbox.outcome import Reason

_SIGNALLED = 128
_SENTENCES: Mapping[Reason, str] = {
    "deadline": "Ended at its deadline; this is all it printed until then. If it needs longer, set a longer timeout; "
    "if it hangs, find out where.",
    "memory": "Ended for lack of memory. Use less at a time: smaller batches, fewer workers, data in pieces.",
    "stopped": "Stopped by the person.",
    "closed": "Ended because the session was closed.",
    "failed_to_start": "The command could not be started; nothing of it ran.",
    "lost": "The process that owned this command is gone, and the command with it: how far it came is not known. "
    "Look at what it left behind before you run it again.",
}


def ending(ended: Ended) -> list[str]:
    """Nothing for a command that exited with 0 and kept all limits."""
    notes = [_exit(ended.exit_code) if ended.reason == "exited" else _SENTENCES[ended.reason]]
    if ended.note and ended.reason != "lost":
        notes.append(f"{ended.note[0].upper()}{ended.note[1:]}.")
    if ended.dropped_bytes and not ended.note:
        notes.append(f"{ended.dropped_bytes:,} bytes of further output were dropped. Print less, or into a file.")
    return [note for note in notes if note]


def _exit(code: int | None) -> str:
    if code is None or code == 0:
        return ""
    if code > _SIGNALLED and code - _SIGNALLED in {*signal.Signals}:
        return f"Exit code {code} (signal {signal.Signals(code - _SIGNALLED).name})."
    return f"Exit code {code}."
