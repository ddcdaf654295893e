"""What the person's own commands (hooks) were told of, and what they decided. Knows no process and no rule."""

from typing import Literal

from msgspec import Struct

HookOn = Literal["before_call", "after_call", "before_turn", "after_turn", "held", "answered"]
"""What a hook can be told of. Only the one before a call decides."""
HookDecision = Literal["allow", "ask", "deny"]


class HookRan(Struct, frozen=True, tag_field="type", tag="hook_ran"):
    """A hook was told of `on`, and decided (None: it has nothing to decide there). `call` is the one it was about.

    `note` is what it adds for the model; `fault` says in one sentence what went wrong with it; the
    `reason` is that alone, then.
    """

    hook: str
    on: HookOn
    call: str = ""
    decision: HookDecision | None = None
    reason: str = ""
    note: str = ""
    fault: str = ""
    total_ms: int = 0
