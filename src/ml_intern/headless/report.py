"""What a run comes to: the answer, the figures, what waits. Rendered as text or JSON. Knows no turn's inside."""

import json
from dataclasses import dataclass

from msgspec.structs import asdict

from ml_intern.base.money import Micro, show
from ml_intern.base.text import visible_line
from ml_intern.headless.exits import Exit
from ml_intern.record.effects import Effect
from ml_intern.record.events import Entry, ModelFailed, ModelReplied, ModelStopped, ToolFinished
from ml_intern.record.messages import Reply
from ml_intern.record.view import MAIN, View


@dataclass(slots=True)
class Tally:
    """A reader of the record that counts one run's replies, tokens and money (micro-dollars).

    `text` is the answer that the run came to, set at its end.
    """

    text: str = ""
    steps: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: int = 0

    def read(self, entry: Entry) -> None:
        """Count what `entry` adds."""
        match entry.event:
            case ModelReplied(usage=usage, cost=cost):
                self.steps += 1
                self.cost += cost
                if usage is not None:
                    self.prompt_tokens += usage.prompt
                    self.output_tokens += usage.output
                    self.cached_tokens += usage.cached
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
    """Every held call in full: what it would do, who pays, what at most, under which reason."""
    lines: list[str] = []
    for lane in view.lanes.values():
        for key, each in lane.calls.items():
            if each.state != "held" or each.held is None:
                continue
            held = each.held
            lines += [
                f"held call {key}: {each.call.tool} {each.call.arguments}",
                f"  because it {held.reason}",
                *(f"  would: {_effect_line(effect)}" for effect in held.effects),
                f"  at most {show(Micro(held.quote))} of {held.payer or 'nobody'}",
            ]
    return [visible_line(line) for line in lines]


def left_lines(left: list[tuple[str, str]], code: Exit) -> list[str]:
    """What became of the commands in the background (id, command line)."""
    fate = "goes on until the call is answered" if code is Exit.HELD else "ended with the run"
    return [f"background command {key} {fate}: {visible_line(command)}" for key, command in left]


def _effect_line(effect: Effect) -> str:
    return f"{type(effect).__name__.lower()} {json.dumps(asdict(effect), ensure_ascii=False)}"


def as_json(view: View, tally: Tally, code: Exit, seconds: float) -> str:
    """One JSON object: the documented result of `--output-format json`, and the last line of `stream-json`."""
    ended = view.lane(MAIN).turn.ended
    chosen = view.settings.models.get("main")
    held = [key for lane in view.lanes.values() for key, each in lane.calls.items() if each.state == "held"]
    return json.dumps(
        {
            "type": "result",
            "session": view.started.session if view.started is not None else "",
            "result": code.name.lower(),
            "exit_code": int(code),
            "text": tally.text,
            "what": ended.what if ended is not None and code is not Exit.HELD else "",
            "remedy": ended.remedy if ended is not None and code is not Exit.HELD else "",
            "model": chosen.model if chosen is not None else "",
            "steps": tally.steps,
            "prompt_tokens": tally.prompt_tokens,
            "output_tokens": tally.output_tokens,
            "cached_tokens": tally.cached_tokens,
            "cost_usd": tally.cost / 1_000_000,
            "session_cost_usd": view.purse.spent / 1_000_000,
            "cap_usd": (view.purse.cap or 0) / 1_000_000,
            "seconds": round(seconds, 3),
            "files": sorted(view.files.changed),
            "held": held,
        },
        ensure_ascii=False,
    )


def closing_line(view: View, tally: Tally, seconds: float) -> str:
    """The last line on stderr: figures, and how to go on."""
    session = view.started.session if view.started is not None else ""
    cap = show(Micro(view.purse.cap or 0))
    spent = show(Micro(view.purse.spent))
    tokens = f"{tally.prompt_tokens:,}+{tally.output_tokens:,} tokens"
    steps = f"{tally.steps} step{'' if tally.steps == 1 else 's'}"
    return f"{steps}, {seconds:.1f} s, {tokens}, {spent} of {cap} spent; session {session}"
