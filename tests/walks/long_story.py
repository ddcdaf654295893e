"""A prompt of very many steps with 100 kB of output each, against a model's server with a small window, and a witness
that looks at every request. Its first step asks a person twice: a yes and a no come from other processes.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Self

from ml_intern.record.events import ToolHeld
from tests.doubles.http1 import Answer, Request
from tests.doubles.openai_server import Double
from tests.walks.walk import Walk

WINDOW = 32_768
SUMMING = "You write one part of a summary"
TASK = "Find the best model. The metric is macro F1 on the held-out split, and the licence must be Apache-2.0."
PLANT_EACH = 25
MAIN_TASK = "Have somebody look for it."
PLANS = ("train the planted baseline", "write the planted card")
QUICK_WINDOW = 24_576
"""In which a few steps of a quick story fill a conversation."""
QUICK_CALLS = 6
ALLOWED = "echo planted card published"
REFUSED = "echo planted weights published # " + "as long as a real command may be " * 20
TOKEN = "hf_thePlantedTokenOfThePerson0123456"
WHY = "no planted weights before the licence of the data is clear"
_MAKE = """\
import sys
step, last = int(sys.argv[1]), int(sys.argv[2])
row = "epoch log of step %d " % step + "0123456789abcdef" * 4
sys.stdout.write("".join("%s %d\\n" % (row, line) for line in range(1000)))
if step % {each} == 0:
    open("result_%d.txt" % step, "w").write("done")
    print("eval_accuracy_%d: 0.%04d" % (step, step))
print("next=%s" % (step + 1 if step < last else "END"))
"""
_QUICK = """\
import sys
step, last = int(sys.argv[1]), int(sys.argv[2])
open("result_%d.txt" % step, "w").write("done")
print("eval_accuracy_%d: 0.%04d" % (step, step))
print("next=%s" % (step + 1 if step < last else "END"))
"""
_PLANNED = [{"id": each, "content": each, "status": "pending"} for each in PLANS]
BEGIN = [
    {"name": "plan", "arguments": {"todos": _PLANNED}},
    {"name": "bash", "arguments": {"command": "sleep 3600 # planted job", "background": True}},
]
PUSHES = [
    {"name": "bash", "arguments": {"command": ALLOWED, "hub": ["push me/card"]}},
    {"name": "bash", "arguments": {"command": REFUSED, "hub": ["push me/weights"]}},
]
SUMMED = {
    "when": {"system_contains": SUMMING},
    "reply": {"text": "Goal: the best model. State: a step follows a step."},
}


def script(steps: int) -> list[dict[str, Any]]:
    return [SUMMED, *_steps([*BEGIN, *PUSHES], steps, [])]


def quick(summed: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """Without questions; answers too small to be cleared fill the window in a few steps."""
    return [summed, *_steps(BEGIN, steps, NOISE)]


def of_lane(steps: int) -> list[dict[str, Any]]:
    """The same in the lane of a sub-agent; the main agent only starts it."""
    work = {"name": "task", "arguments": {"task": TASK, "max_steps": steps + 10}}
    job = {"name": "bash", "arguments": {"command": "sleep 3600 # planted job", "background": True}}
    return [
        SUMMED,
        {"when": {"user_contains": MAIN_TASK, "step": 0}, "reply": {"text": "I hand it on.", "calls": [work]}},
        {"when": {"user_contains": MAIN_TASK}, "reply": {"text": "All done."}},
        *_steps([job], steps, NOISE, end="The report of the lane."),
    ]


NOISE = [{"name": "bash", "arguments": {"command": "head -c 1600 noise.txt"}}] * (QUICK_CALLS - 1)


def _steps(
    begin: list[dict[str, Any]], steps: int, noise: list[dict[str, Any]], end: str = "All done."
) -> list[dict[str, Any]]:
    first = {"name": "bash", "arguments": {"command": f"python3 make.py 1 {steps}"}}
    again = {"name": "bash", "arguments": {"command": "python3 make.py {{answer:-1:/next=(\\d+)/}} " + str(steps)}}
    return [
        {"when": {"step": 0}, "reply": {"calls": [*begin, first]}},
        {"when": {"last_contains": "next=END"}, "reply": {"text": end}},
        {"reply": {"calls": [*noise, again]}},
    ]


class Watching(Double):
    """The server; `lost` names what a request right after a compaction lacks; of each step `steps` says when it was
    asked for, `memory` how large the process was (bytes) and `busy` what it had computed (seconds).
    """

    def __init__(self, rules: list[dict[str, Any]], each: int = PLANT_EACH, window: int = WINDOW) -> None:
        super().__init__(rules, window=window, models=("m",))
        self.each = each
        self.wanted: tuple[str, ...] = ()
        self.decided: tuple[str, ...] = ()
        self.steps: list[float] = []
        self.memory: list[int] = []
        self.busy: list[float] = []
        self.lost: list[str] = []
        self.summaries = 0
        self.cached = 0.0
        self.pid = 0
        self._seen = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    def answer(self, request: Request) -> Answer:
        if request.method == "POST":
            self._look(json.loads(request.body))
        return super().answer(request)

    def _look(self, body: dict[str, Any]) -> None:
        texts = [each["content"] or "" for each in body["messages"]]
        if SUMMING in texts[0]:
            return
        self.steps.append(time.monotonic())
        self.memory.append(_memory(self.pid) if self.pid else 0)
        self.busy.append(_busy(self.pid) if self.pid else 0.0)
        summary = next((text for text in texts[1:] if text.startswith("[Summary of")), "")
        if summary and summary != self._seen:
            self.summaries += 1
            self._seen = summary
            self._check("\n".join(texts[1:]), summary)

    def _check(self, text: str, summary: str) -> None:
        wanted = [TASK, "sleep 3600 # planted job", *self.wanted]
        until = len(self.steps) - 1
        for step in range(self.each, until, self.each):
            # As the answer says it, where that is still there whole.
            told = f"eval_accuracy_{step}: 0.{step:04}\n"
            wanted.append(told if told in text else f"eval_accuracy_{step} = 0.{step:04}")
            wanted.append(f"result_{step}.txt")
        self.lost += [f"step {until}: {each}" for each in wanted if each not in text]
        decided = summary.partition("## What the user decided\n")[2].partition("\n\n")[0].splitlines()
        missing = [end for end in self.decided if not any(row.endswith(end) for row in decided)]
        self.lost += [f"step {until}: {end}" for end in missing]


class WatchingLane(Watching):
    """The witness of a sub-agent's lane; `of_main` is what the main agent was asked with."""

    def __init__(self, steps: int) -> None:
        super().__init__(of_lane(steps), 1)
        self.of_main: list[list[dict[str, Any]]] = []

    def _look(self, body: dict[str, Any]) -> None:
        if any(MAIN_TASK in (each["content"] or "") for each in body["messages"][1:]):
            self.of_main.append(body["messages"])
        else:
            super()._look(body)


def prepare(walk: Walk, *, is_quick: bool = False) -> None:
    (walk.workspace / "make.py").write_text(_QUICK if is_quick else _MAKE.replace("{each}", str(PLANT_EACH)))
    (walk.workspace / "noise.txt").write_text("epoch after epoch, line after line\n" * 100)


async def tell(walk: Walk, double: Watching, steps: int, within_s: float) -> Any:
    """In three processes: one up to the questions, one for the yes, and one for the no and all the rest."""
    words = ("--model", "vllm/m", "--base-url", double.url, "--max-steps", str(steps + 10), "--guard-stall", "off")
    double.wanted = PLANS
    double.decided = (f": {ALLOWED} (hub:me/card): yes", f" (hub:me/weights): no: {WHY}")
    env = {"HF_TOKEN": TOKEN}
    held = await walk.run(TASK, *words, "--guard-plan", "off", "--on-ask", "hold", env=env)
    assert held.code == 5, held.said
    there = ("--base-url", double.url)
    held = await walk.run("resume", "last", "--approve", await _held(walk), *there, env=env)
    assert (held.code, len(double.steps)) == (5, 1), held.said
    no = ("--deny", await _held(walk), "--reason", WHY)
    running = await walk.start("resume", "last", *no, *there, env=env)
    double.pid = running.pid
    done = await running.ended(within_s)
    exchanges = double.exchanges
    double.cached = sum(each.cached_tokens for each in exchanges) / sum(each.prompt_tokens for each in exchanges)
    return done


async def _held(walk: Walk) -> str:
    """The call that waits; the second is looked at once the first is answered."""
    return [entry.event.call for entry in await walk.entries() if isinstance(entry.event, ToolHeld)][-1]


def _memory(pid: int) -> int:
    """Resident bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _busy(pid: int) -> float:
    """Seconds of a processor that it took itself so far: what its neighbours do costs it none."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
