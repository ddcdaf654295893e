"""The egress log of a session: a line of JSON for every connection that commands asked for. Knows no protocol."""

import json
import os
import time
from dataclasses import dataclass
from typing import Literal

from ml_intern.sandbox.broker.reach import Refused

FILE = "egress.jsonl"
"""In the session's folder, of which commands see nothing but their home and their /tmp."""

_MOST_BYTES = 32 * 1024 * 1024
_LONGEST_HOST = 255


@dataclass(slots=True)
class Account:
    """One connection: filled while it lasts, written when it ends. Bytes are those that went to and from the host."""

    host: str = ""
    port: int = 0
    asked: str = ""
    sent: int = 0
    received: int = 0
    verdict: Literal["allowed", "refused", "failed"] = "failed"
    why: str = ""

    def refuse(self, why: str) -> None:
        """It was not allowed."""
        self.verdict, self.why = "refused", why

    def fail(self, why: str) -> None:
        """It was allowed and came to nothing."""
        self.verdict, self.why = "failed", why


class Egress:
    """Appends to the log. A full log lets nothing through: what cannot be told does not happen."""

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def require_room(self) -> None:
        """Raises Refused where the log is full."""
        if os.fstat(self._number).st_size >= _MOST_BYTES:
            raise Refused("The egress log of this session is full.", "Ask the person to start a new session.")

    def write(self, account: Account) -> None:
        """Add the line, in one piece."""
        line = {
            "at": round(time.time(), 3),
            "host": account.host[:_LONGEST_HOST],
            "port": account.port,
            "asked": account.asked,
            "sent": account.sent,
            "received": account.received,
            "verdict": account.verdict,
            "why": account.why,
        }
        if os.fstat(self._number).st_size < _MOST_BYTES:
            os.write(self._number, json.dumps(line).encode() + b"\n")
