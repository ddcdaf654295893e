"""Which models failed for good since this process took the session: a key, a credit or a name that will not mend by
itself. Knows no chain and no provider.
"""

from collections.abc import Mapping

from ml_intern.record.events import Event, ModelAsked, ModelFailed, ModelReplied, OwnerTook

Down = Mapping[str, str]
"""What each of them said, by the model's id."""

FOR_GOOD = frozenset({"unauthorised", "out_of_credit", "not_found"})
"""Kinds of failure that a later attempt of the same process would meet again."""


def fold_down(down: Down, event: Event, attempt: ModelAsked | None) -> Down:
    """Who is down after `event`; `attempt` is the one that was open in its lane until then."""
    match event:
        case ModelReplied():
            if attempt is None or attempt.model not in down:
                return down
            return {model: what for model, what in down.items() if model != attempt.model}
        case ModelFailed(kind=kind, what=what) if attempt is not None and kind in FOR_GOOD:
            return {**down, attempt.model: what}
        case OwnerTook():
            return {}
        case _:
            return down
