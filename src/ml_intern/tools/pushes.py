"""What a call asks to write to the Hub: checked, and told as effects. Knows no command and no policy."""

from collections.abc import Sequence

from ml_intern.base.errors import ToolFailed
from ml_intern.record.effects import Publishes
from ml_intern.sandbox.broker.pushes import FORM, Push, to_push
from ml_intern.sandbox.broker.reach import Reach

_LEAVE = "Leave the artefact in the workspace and tell the person."


def understood(lines: Sequence[str], reach: Reach | None) -> tuple[Push, ...]:
    """The writes that these lines name; `reach` is what commands may reach, None where there is no network.

    Raises:
        ToolFailed: a line means nothing, or nothing can be written from here.
    """
    try:
        pushes = tuple(dict.fromkeys(map(to_push, lines)))
    except ValueError as error:
        raise ToolFailed(f"hub: {error}", f"Write {FORM}.") from error
    if not pushes:
        return ()
    if reach is None:
        raise ToolFailed("Commands have no network at this level of the sandbox.", _LEAVE)
    if reach.offline:
        raise ToolFailed("This session runs offline.", _LEAVE)
    if not reach.token:
        raise ToolFailed("There is no token of the Hub.", f"{_LEAVE} They can set HF_TOKEN or run `hf auth login`.")
    return pushes


def effects(pushes: Sequence[Push]) -> list[Publishes]:
    """What the writes do."""
    return [Publishes(push.target, push.public, push.verb) for push in pushes]
