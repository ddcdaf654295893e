"""What a run comes to: the answer, the figures, what waits. Rendered as text or JSON. Knows no turn's inside."""

import json
from dataclasses import dataclass, field

from msgspec.structs import asdict

from ml_intern.base.money import Micro, show
from ml_intern.base.text import one_line, visible_line
from ml_intern.headless.exits import Exit
from ml_intern.record.asides import ASIDES
from ml_intern.record.effects import Effect
from ml_intern.record.events import Entry, ModelFailed, ModelReplied, ModelStopped, ToolFinished
from ml_intern.record.messages import Reply
from ml_intern.record.view import MAIN, Lane, View

_TASK_CHARS = 80


@dataclass(slots=True)
class Tally:
    """A reader of the record that counts one run's replies, tokens and money (micro-dollars).

    `text` is the answer that the run came to, set at its end. `answered` is how many replies each model gave.
    """

    text: str = ""
    steps: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    cost: int = 0
    answered: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def cached_share(self) -> float:
        """The part of the prompt tokens that providers had cached, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def read(self, entry: Entry) -> None:
        """Count what `entry` adds."""
        match entry.event:
            case ModelReplied(reply=reply, usage=usage, cost=cost, role=role):
                self.steps += role not in ASIDES
                self.cost += cost
                self.answered[reply.by] = self.answered.get(reply.by, 0) + 1
                if usage is not None:
                    self.prompt_tokens += usage.prompt
                    self.output_tokens += usage.output
                    self.cached_tokens += usage.cached
                    self.cache_written_tokens += usage.cache_written
            case ModelFailed(cost=cost) | ModelStopped(cost=cost) | ToolFinished(cost=cost):
                self.cost += cost
            case _:
                pass


_WITH_AN_ANSWER = frozenset({"done", "denied", "failed"})
"""A turn that failed has one where the reply was cut at its limit; a failed attempt leaves none."""


def answer(view: View) -> str:
    """The last turn's answer; "" where it has none: it was stopped, a call waits, something new was said.

    What the model says before its calls is progress, not the answer.
    """
    lane = view.lane(MAIN)
    turn, lines = lane.turn, lane.transcript.lines
    if turn.open or turn.ended is None or turn.ended.reason not in _WITH_AN_ANSWER or not len(lines):
        return ""
    last = lines[-1].message
    return last.text if isinstance(last, Reply) and not last.calls else ""


def held_lines(view: View) -> list[str]:
    """Why the turn is paused; every held call in full: what it would do, who pays, what at most, under which reason."""
    paused = view.lane(MAIN).turn.paused
    lines = [] if paused is None else [f"paused: {paused.what} {paused.remedy}"]
    for name, lane in view.lanes.items():
        for key, each in lane.calls.items():
            if each.state != "held" or each.held is None:
                continue
            held = each.held
            lines += [
                f"held call {key}: {each.call.tool} {each.call.arguments}",
                *([f"  in {name}: {one_line(lane.opened.task, _TASK_CHARS)}"] if lane.opened is not None else []),
                f"  because it {held.reason}",
                *(f"  would: {_effect_line(effect)}" for effect in held.effects),
                f"  at most {show(Micro(held.quote))} of {held.payer or 'nobody'}",
            ]
    return [visible_line(line) for line in lines]


_ENDED = "ended with the run"
_GOES_ON = "goes on until `ml-intern stop ID --commands`"
_FATES = {
    Exit.HELD: "goes on until the call is answered",
    Exit.INTERRUPTED: _GOES_ON,
}


def lane_lines(view: View) -> list[str]:
    """What each lane came to, where there are more than the main agent's."""
    lines: list[str] = []
    for name, lane in view.lanes.items() if len(view.lanes) > 1 else ():
        spent, opened = lane.spent, lane.opened
        tokens = f"{spent.prompt:,}+{spent.output:,} tokens ({spent.cached:,} cached)"
        steps = f"{spent.steps} step{'' if spent.steps == 1 else 's'}"
        what = f": {one_line(opened.task, _TASK_CHARS)}" if opened is not None else ""
        who = "main agent" if opened is None else f"sub-agent {name}"
        lines.append(f"{who}, {_state(lane)}, {steps}, {tokens}, {show(Micro(spent.cost))}{what}")
    return [visible_line(line) for line in lines]


def _state(lane: Lane) -> str:
    if lane.turn.open:
        return "waits for a person" if lane.turn.waiting_ms is not None else "open"
    return lane.turn.ended.reason if lane.turn.ended is not None else "open"


def _lanes(view: View) -> list[dict[str, str | int | float]]:
    return [
        {
            "lane": name,
            "agent": lane.opened.agent,
            "task": lane.opened.task,
            "state": _state(lane),
            "steps": lane.spent.steps,
            "prompt_tokens": lane.spent.prompt,
            "output_tokens": lane.spent.output,
            "cached_tokens": lane.spent.cached,
            "cost_usd": lane.spent.cost / 1_000_000,
        }
        for name, lane in view.lanes.items()
        if lane.opened is not None
    ]


def left_lines(left: list[tuple[str, str]], code: Exit, halted: frozenset[str] = frozenset()) -> list[str]:
    """What became of the commands in the background (id, command line); a stop has ended those that are `halted`."""
    fates = {key: _ENDED if key in halted else _FATES.get(code, _ENDED) for key, _ in left}
    return [f"background command {key} {fates[key]}: {visible_line(command)}" for key, command in left]


def follow_ups(many: int) -> str:
    """So many messages that were said with --after."""
    return f"{many} follow-up{'' if many == 1 else 's'}"


def _effect_line(effect: Effect) -> str:
    told = {name: value for name, value in asdict(effect).items() if value != ""}
    return f"{type(effect).__name__.lower()} {json.dumps(told, ensure_ascii=False)}"


def as_json(view: View, tally: Tally, code: Exit, seconds: float) -> str:
    """One JSON object: the documented result of `--output-format json`, and the last line of `stream-json`."""
    turn, chosen = view.lane(MAIN).turn, view.settings.models.get("main")
    why = turn.paused if code is Exit.HELD else turn.ended
    held = [key for lane in view.lanes.values() for key, each in lane.calls.items() if each.state == "held"]
    return json.dumps(
        {
            "type": "result",
            "session": view.started.session if view.started is not None else "",
            "result": code.name.lower(),
            "exit_code": int(code),
            "text": tally.text,
            "what": why.what if why is not None else "",
            "remedy": why.remedy if why is not None else "",
            "model": chosen.model if chosen is not None else "",
            "steps": tally.steps,
            "prompt_tokens": tally.prompt_tokens,
            "output_tokens": tally.output_tokens,
            "cached_tokens": tally.cached_tokens,
            "cache_written_tokens": tally.cache_written_tokens,
            "cached_share": round(tally.cached_share, 4),
            "answered": tally.answered,
            "cost_usd": tally.cost / 1_000_000,
            "session_cost_usd": view.purse.spent / 1_000_000,
            "cap_usd": (view.purse.cap or 0) / 1_000_000,
            "seconds": round(seconds, 3),
            "files": sorted(view.files.changed),
            "held": held,
            "lanes": _lanes(view),
        },
        ensure_ascii=False,
    )


def closing_line(view: View, tally: Tally, seconds: float) -> str:
    """The last line on stderr: figures, and how to go on."""
    session = view.started.session if view.started is not None else ""
    cap = show(Micro(view.purse.cap or 0))
    spent = show(Micro(view.purse.spent))
    cached = (
        f" ({100 * tally.cached_tokens // tally.prompt_tokens} % of the prompts cached)"
        if tally.cached_tokens and tally.prompt_tokens
        else ""
    )
    tokens = f"{tally.prompt_tokens:,}+{tally.output_tokens:,} tokens{cached}"
    steps = f"{tally.steps} step{'' if tally.steps == 1 else 's'}"
    return f"{steps}, {seconds:.1f} s, {tokens}, {spent} of {cap} spent; session {session}"
