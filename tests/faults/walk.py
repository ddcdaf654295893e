"""The walk: one turn with every kind of call, each command a witness of itself. Played by the model double."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ANSWER = "The walk is done."
CALLS = 20
COMMANDS = ("CALL-4", "CALL-5", "CALL-6", "CALL-7", "CALL-8", "CALL-11", "CALL-13")
"""The commands by the step of their reply: what the witness holds after a whole walk."""
SLOW, LONG, SCRIPT = "call_5_0", "call_8_0", "call_11_0"
"""The commands that take a second, print more than is shown, and run a script with packages of its own."""

_DATA = "name,score\nada,3\ngrace,5\n"
_JOB = """# /// script
# dependencies = ["tiny"]
# ///
import tiny

with open("job.out", "w") as file:
    file.write(f"{tiny.value}\\n")
print("the answer is", tiny.value)
"""


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def bash(step: int, command: str) -> dict[str, Any]:
    """A command that first writes its name and its own time into the witness, in one append."""
    return call("bash", command=f'echo "CALL-{step} $(date +%s%N)" >> witness; {command}')


def todo(*states: str) -> dict[str, Any]:
    words = ("look", "write", "run")
    items = [{"id": str(at), "content": words[at], "status": state} for at, state in enumerate(states)]
    return call("plan", todos=items)


STEPS: Sequence[Mapping[str, Any]] = (
    {"text": "First a plan. ", "calls": [todo("in_progress", "pending", "pending")]},
    {"calls": [call("write", path="notes.txt", content="one\ntwo\nthree\n")]},
    {"thinking": "Both at once.", "calls": [call("read", path="notes.txt"), call("read", path="data.csv")]},
    {"calls": [call("edit", path="notes.txt", old_str="two", new_str="zwei")]},
    {"text": "A word before a command. " * 8, "calls": [bash(4, "cat notes.txt")]},
    {"calls": [bash(5, "for i in 1 2 3 4 5; do echo tick $i; sleep 0.2; done; echo slow done")]},
    {"calls": [bash(6, "mkdir -p made && echo six > made/six"), call("write", path="made/seven", content="seven\n")]},
    {"calls": [bash(7, "echo oops >&2; exit 3")]},
    {"calls": [bash(8, "seq 1 20000")]},
    {"calls": [call("read", path="{{answer:-1:/blob:[0-9a-f]{64}/}}", offset=9990, limit=5)]},
    {"calls": [call("write", path="job.py", content=_JOB)]},
    {"calls": [bash(11, "uv run job.py")]},
    {"calls": [call("edit", path="notes.txt", old_str="e", new_str="E", replace_all=True)]},
    {"calls": [bash(13, "echo four >> notes.txt")]},
    {"calls": [call("edit", path="notes.txt", old_str="four", new_str="vier")]},
    {"calls": [call("read", path="notes.txt")]},
    {"calls": [call("edit", path="notes.txt", old_str="four", new_str="vier")]},
    {"calls": [todo("completed", "completed", "completed")]},
    {"text": ANSWER},
)


def rules(*more: Mapping[str, Any], replies: Mapping[int, Mapping[str, Any]] | None = None) -> list[Mapping[str, Any]]:
    """The walk as the double's script: `more` rules go before it, `replies` adds to the reply of a step."""
    changed = replies or {}
    steps = [{"when": {"step": at}, "reply": {**step, **changed.get(at, {})}} for at, step in enumerate(STEPS)]
    return [*more, *steps]


def fault(step: int, times: int = 1, **how: Any) -> Mapping[str, Any]:
    """A rule: the first `times` attempts at `step` fail like this."""
    reply = STEPS[step]
    return {"when": {"step": step}, "fault": how, "times": times, "reply": reply}


def furnish(folder: Path) -> None:
    """What the walk finds: data in the workspace, and a wheel for its script."""
    (folder / "work" / "data.csv").write_text(_DATA)
    links = folder / "links"
    links.mkdir()
    _wheel(links, "tiny", "value = 42\n")


def _wheel(folder: Path, name: str, code: str) -> None:
    """By hand (https://packaging.python.org/specifications/binary-distribution-format/): no index is needed."""
    info = f"{name}-1.0.dist-info"
    content = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)


if __name__ == "__main__":
    print(json.dumps(rules(), indent=1))
