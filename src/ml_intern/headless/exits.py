"""The exit codes of the product, documented. Knows no turn's inside."""

from enum import IntEnum
from typing import assert_never

from ml_intern.record.events import Ending


class Exit(IntEnum):
    """Exit codes of `ml-intern`. They are a promise: scripts rely on them."""

    DONE = 0
    """The turn ended with an answer."""
    FAILED = 1
    """The model, the store or ml-intern itself failed; the sentence on stderr says what to do."""
    BAD_SETTINGS = 2
    """A flag, variable or session id is wrong; nothing was started."""
    BUDGET = 3
    """The budget cannot pay for another reply."""
    LIMIT = 4
    """The turn's steps or time are used up."""
    HELD = 5
    """A call or a paused turn waits for a person; `ml-intern resume` answers it."""
    DENIED = 6
    """The turn ended on a call that was denied."""
    HUNG_UP = 129
    """The terminal hung up (SIGHUP); the turn is open, `ml-intern resume` goes on with it."""
    INTERRUPTED = 130
    """Ctrl+C; the session can be resumed."""
    TERMINATED = 143
    """SIGTERM; the turn is open, `ml-intern resume` goes on with it."""


def exit_of(ending: Ending) -> Exit:
    """The exit code of a turn that ended so."""
    match ending:
        case "done":
            return Exit.DONE
        case "failed" | "overflow":
            return Exit.FAILED
        case "budget":
            return Exit.BUDGET
        case "limit":
            return Exit.LIMIT
        case "held":
            return Exit.HELD
        case "denied":
            return Exit.DENIED
        case "interrupted":
            return Exit.INTERRUPTED
        case _ as never:
            assert_never(never)
