"""What a call would do to the world. Policy judges these; nothing here knows a tool or a rule."""

from msgspec import Struct


class Reads(Struct, frozen=True, tag_field="kind", tag="reads"):
    """Looks at `target` (a path, a repo, a page). `within`: it lies inside the session's roots or is public."""

    target: str
    within: bool = True


class Writes(Struct, frozen=True, tag_field="kind", tag="writes"):
    """Creates or changes `target`. `within`: it lies in the workspace, the private home or /tmp of the session."""

    target: str
    within: bool = True


class Executes(Struct, frozen=True, tag_field="kind", tag="executes"):
    """Runs `command` in `folder` (empty: the workspace). `walled`: inside the sandbox at the session's level."""

    command: str
    walled: bool = True
    folder: str = ""


class Reaches(Struct, frozen=True, tag_field="kind", tag="reaches"):
    """Opens a connection to `host`. `known`: the host is on the user's allow-list."""

    host: str
    known: bool = False


class Spends(Struct, frozen=True, tag_field="kind", tag="spends"):
    """Costs at most `amount` micro-dollars of `payer`. `own`: the session's own payer."""

    amount: int
    payer: str
    what: str
    own: bool = True


class Publishes(Struct, frozen=True, tag_field="kind", tag="publishes"):
    """Sends something to `target`; `public`: anyone could then see it. `verb`: push or create; empty: anything."""

    target: str
    public: bool
    verb: str = ""


class Destroys(Struct, frozen=True, tag_field="kind", tag="destroys"):
    """Deletes `target` for good. `remote`: on someone's server, where no undo reaches."""

    target: str
    remote: bool


class Notifies(Struct, frozen=True, tag_field="kind", tag="notifies"):
    """Sends a message to `recipient`."""

    recipient: str


Effect = Reads | Writes | Executes | Reaches | Spends | Publishes | Destroys | Notifies


def is_read_only(effects: tuple[Effect, ...]) -> bool:
    """Whether a call with these effects only looks, inside the roots: such calls may run side by side."""
    return all(isinstance(effect, Reads) and effect.within for effect in effects)
