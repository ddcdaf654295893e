"""What one lane came to so far: replies, calls, tokens, money. Never undone. Knows no price."""

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.record.asides import ASIDES
from ml_intern.record.events import Event, ModelFailed, ModelReplied, ModelStopped, ToolFinished


class Spent(Struct, frozen=True):
    """`steps` are replies, `calls` finished calls; tokens as the provider counted them; `cost` in micro-dollars."""

    steps: int = 0
    calls: int = 0
    prompt: int = 0
    output: int = 0
    cached: int = 0
    cost: int = 0


def fold_spent(spent: Spent, event: Event) -> Spent:
    """The sums after `event`."""
    match event:
        case ModelReplied(usage=usage, cost=cost, role=role):
            spent = replace(spent, steps=spent.steps + (role not in ASIDES), cost=spent.cost + cost)
            if usage is None:
                return spent
            tokens = (spent.prompt + usage.prompt, spent.output + usage.output, spent.cached + usage.cached)
            return replace(spent, prompt=tokens[0], output=tokens[1], cached=tokens[2])
        case ToolFinished(cost=cost):
            return replace(spent, calls=spent.calls + 1, cost=spent.cost + cost)
        case ModelFailed(cost=cost) | ModelStopped(cost=cost):
            return replace(spent, cost=spent.cost + cost)
        case _:
            return spent
