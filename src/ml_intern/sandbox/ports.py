"""The ports on which a session's commands listen at their own localhost. Knows no command and opens no connection.

Source: proc_pid_net(5), network_namespaces(7).
"""

import os
from pathlib import Path

from ml_intern.sandbox import lock
from ml_intern.sandbox.broker.doors import HUB_PORT, PROXY_PORT

OURS = (PROXY_PORT, HUB_PORT)
"""Where the broker listens."""

_LISTENS, _LOOPBACK = "0A", ("0100007F", "00000000", "0" * 32, "0" * 24 + "01000000")


def ports(folder: Path) -> list[int]:
    """Those of the session of `folder`, without the broker's; none where its commands share our localhost. Blocks."""
    try:
        supervisor = lock.holder(str(folder))
        if supervisor is None or os.stat(f"/proc/{supervisor}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return []
        tables = [
            Path(f"/proc/{supervisor}/net/{name}").read_text("ascii").splitlines()[1:] for name in ("tcp", "tcp6")
        ]
    except OSError:
        return []
    rows = (line.split() for table in tables for line in table)
    places = (row[1].split(":") for row in rows if row[3] == _LISTENS)
    return sorted({int(port, 16) for address, port in places if address in _LOOPBACK} - {*OURS})
