"""A prompt of very many steps with 100 kB of output each, against a model's server with a small window, and a witness
that looks at every request.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.doubles.http1 import Answer, Request
from tests.doubles.openai_server import Double
from tests.walks.walk import Walk

WINDOW = 32_768
SUMMING = "You write one part of a summary"
TASK = "Find the best model. The metric is macro F1 on the held-out split, and the licence must be Apache-2.0."
PLANT_EACH = 25
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


def script(steps: int) -> list[dict[str, Any]]:
    plan = [{"content": "train the planted baseline", "status": "in_progress"}, {"content": "write the planted card"}]
    items = [{"id": str(at), "status": "pending", **item} for at, item in enumerate(plan, 1)]
    begin = [
        {"name": "plan", "arguments": {"todos": items}},
        {"name": "bash", "arguments": {"command": "sleep 3600 # planted job", "background": True}},
        {"name": "bash", "arguments": {"command": f"python3 make.py 1 {steps}"}},
    ]
    again = {"name": "bash", "arguments": {"command": "python3 make.py {{answer:-1:/next=(\\d+)/}} " + str(steps)}}
    return [
        {
            "when": {"system_contains": SUMMING},
            "reply": {"text": "Goal: the best model. State: a step follows a step."},
        },
        {"when": {"step": 0}, "reply": {"calls": begin}},
        {"when": {"last_contains": "next=END"}, "reply": {"text": "All done."}},
        {"reply": {"calls": [again]}},
    ]


class Watching(Double):
    """The server; `lost` names what a request right after a compaction lacks, `asked` when each step was asked for."""

    def __init__(self, steps: int) -> None:
        super().__init__(script(steps), window=WINDOW, models=("m",))
        self.steps: list[float] = []
        self.memory: list[int] = []
        self.lost: list[str] = []
        self.summaries = 0
        self.pid = 0
        self._seen = ""

    async def __aenter__(self) -> "Watching":
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
        summary = next((text for text in texts[1:] if text.startswith("[Summary of")), "")
        if summary and summary != self._seen:
            self.summaries += 1
            self._seen = summary
            self._check("\n".join(texts[1:]), summary)

    def _check(self, text: str, summary: str) -> None:
        wanted = [TASK, "train the planted baseline", "write the planted card", "sleep 3600 # planted job"]
        until = len(self.steps) - 1
        for step in range(PLANT_EACH, until, PLANT_EACH):
            wanted.append(f"eval_accuracy_{step} = 0.{step:04}")
            wanted.append(f"result_{step}.txt")
        self.lost += [f"step {until}: {each}" for each in wanted if each not in text and each not in summary]


def prepare(walk: Walk) -> None:
    (walk.workspace / "make.py").write_text(_MAKE.replace("{each}", str(PLANT_EACH)))


async def tell(walk: Walk, double: Watching, steps: int, within_s: float) -> Any:
    words = ("--model", "vllm/m", "--base-url", double.url, "--max-steps", str(steps + 10), "--guard-stall", "off")
    running = await walk.start(TASK, *words, "--guard-plan", "off")
    double.pid = running.pid
    return await running.ended(within_s)


def _memory(pid: int) -> int:
    """Resident bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
