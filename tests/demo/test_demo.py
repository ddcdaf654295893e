"""The demo as a newcomer starts it: the real command line, a package index, the sandbox, a real training."""

import asyncio
import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ml_intern.demo
from ml_intern.base.errors import EnvironmentFailed
from ml_intern.demo.play import NOTICE
from ml_intern.demo.story import text_of
from ml_intern.record.codec import decode
from ml_intern.record.events import Entry, ModelReplied, ToolFinished
from ml_intern.sandbox.environment import build
from ml_intern.sandbox.levels import Level, probe

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("demo")]

BIN = Path(sys.executable).with_name("ml-intern")
FILES = ("metrics.json", "heldout.json", "model.joblib", "report.md", "plot.png", "train.py", "look.py", "check.py")
SESSION = re.compile(r"ml-intern show (\w+)")
# Independent of the demo's own check: other code, in another process.
RECOMPUTE = """
import json, sys, joblib, numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
X, y = load_digits(return_X_y=True)
rows = json.load(open("heldout.json"))["rows"]
seed = json.load(open("metrics.json"))["seed"]
_, again = train_test_split(numpy.arange(len(y)), test_size=0.25, stratify=y, random_state=seed)
predicted, true = joblib.load("model.joblib").predict(X[rows]), y[rows]
f1 = []
for label in range(10):
    hits = ((predicted == label) & (true == label)).sum()
    f1.append(2 * hits / ((predicted == label).sum() + (true == label).sum()))
print(json.dumps({"split": again.tolist() == rows, "accuracy": (predicted == true).mean(), "macro_f1": numpy.mean(f1)}))
"""


@dataclass(frozen=True)
class Machine:
    """A place of its own for sessions, environments and workspaces; the index settings are the person's."""

    home: Path
    environ: Mapping[str, str]
    python: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN, *arguments], cwd=self.home, env=self.environ, capture_output=True, text=True, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BIN, *arguments],
            cwd=self.home,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def record(self, session: str) -> list[Entry]:
        shown = self.run("show", session, "--json")
        assert shown.returncode == 0, shown.stderr
        return [decode(line.encode()) for line in shown.stdout.splitlines()]


@dataclass(frozen=True)
class Played:
    """A demo that was played to its end."""

    folder: Path
    code: int
    out: str
    err: str

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text())

    @property
    def report(self) -> str:
        return (self.folder / "report.md").read_text()

    @property
    def session(self) -> str:
        found = SESSION.search(self.out)
        assert found is not None
        return found[1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    found = probe()
    if found.level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {found.level.name}: {found.reasons}")
    home = tmp_path_factory.mktemp("machine")
    cache = os.environ.get("UV_CACHE_DIR") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    )
    # The home itself is the person's: their pip.conf names the index. Nothing is written there.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ML_INTERN_")}
    environ |= {"UV_CACHE_DIR": cache, "ML_INTERN_DATA": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}
    store = home / "cache" / "ml-intern" / "environments"
    try:
        built = asyncio.run(build(text_of("train.py"), store=store, on_line=print, environ=environ))
    except EnvironmentFailed as error:
        pytest.skip(f"the packages of the demo cannot be installed here: {error}")
    return Machine(home, environ, built.python)


@pytest.fixture(scope="module")
def demo(machine: Machine) -> Played:
    done = machine.run("demo", "--workspace", "work", "--seed", "0")
    return Played(machine.home / "work" / "digits", done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def second(machine: Machine, demo: Played) -> Played:
    before = {name: (demo.folder / name).read_bytes() for name in FILES}
    done = machine.run("demo", "--workspace", "work", "--seed", "1")
    assert {name: (demo.folder / name).read_bytes() for name in FILES} == before
    return Played(machine.home / "work" / "digits-2", done.returncode, done.stdout, done.stderr)


def test_it_ends_well_and_says_first_what_is_a_script(demo):
    assert demo.code == 0, demo.err
    assert demo.err.startswith(NOTICE)
    assert "script" in NOTICE
    assert "real" in NOTICE
    assert {path.name for path in demo.folder.iterdir()} == {*FILES, "docs.py"}


def test_the_last_lines_show_the_figures_of_the_files_the_cost_and_how_to_look(demo, machine):
    for model in demo.metrics["models"].values():
        assert re.search(rf"{model['name']} .*{spread(model['macro_f1'])}.*{spread(model['accuracy'])}", demo.out)
    assert str(demo.folder) in demo.out
    assert re.search(r"^Time +\d+ s$", demo.out, re.MULTILINE)
    assert re.search(r"^Cost +\$0\.00 \([1-9][\d,]+\+[1-9][\d,]+ tokens", demo.out, re.MULTILINE)
    assert f"Session  {demo.session}" in demo.out
    assert machine.run("show", demo.session).returncode == 0


def test_the_answer_quotes_the_figures_of_the_files(demo):
    answer = demo.out[: demo.out.index("Session ")]
    for model in demo.metrics["models"].values():
        assert answer.count(spread(model["macro_f1"])) >= 2
        assert answer.count(spread(model["accuracy"])) >= 2


def test_a_fresh_process_that_loads_the_saved_model_gets_the_numbers_of_the_report(demo, machine):
    done = subprocess.run(
        [machine.python, "-c", RECOMPUTE], cwd=demo.folder, capture_output=True, text=True, check=True
    )
    again, saved = json.loads(done.stdout), demo.metrics["saved"]
    assert again["split"]
    assert again["accuracy"] == saved["accuracy"]
    assert again["macro_f1"] == pytest.approx(saved["macro_f1"], abs=1e-12)
    assert f"Macro-F1 {again['macro_f1']:.4f}, accuracy {again['accuracy']:.4f}." in demo.report


def test_the_report_holds_the_numbers_of_the_metrics_and_no_others(demo):
    metrics, versions = demo.metrics, demo.metrics["versions"].values()
    assert {*re.findall(r"0\.\d{4}", demo.report)} == {f"{value:.4f}" for value in scores_in(metrics)}
    for model in metrics["models"].values():
        assert f"| {model['name']} | {spread(model['macro_f1'])} | {spread(model['accuracy'])} |" in demo.report
    assert all(version in demo.report for version in versions)
    assert f"{metrics['split']['held_out']} of {metrics['images']} images" in demo.report


def test_the_better_model_is_better_on_every_seed_and_both_have_learnt(demo):
    baseline, better = (model["runs"] for model in demo.metrics["models"].values())
    assert [run["seed"] for run in baseline] == [run["seed"] for run in better] == [0, 1, 2]
    assert all(one["macro_f1"] > other["macro_f1"] > 0.9 for one, other in zip(better, baseline, strict=True))


def test_another_seed_gives_other_numbers_in_a_folder_of_its_own(demo, second):
    assert second.code == 0, second.err
    for role, model in second.metrics["models"].items():
        assert model["macro_f1"]["mean"] != demo.metrics["models"][role]["macro_f1"]["mean"]
    held_out = [json.loads((each.folder / "heldout.json").read_text())["rows"] for each in (demo, second)]
    assert held_out[0] != held_out[1]
    assert second.report != demo.report


def test_the_plot_is_a_picture_of_a_sensible_size(demo):
    data = (demo.folder / "plot.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    assert 1000 <= width <= 2000
    assert 400 <= height <= 1200
    assert 20_000 <= len(data) <= 500_000


def test_the_record_holds_a_real_failed_call_and_then_its_mending(demo, machine):
    entries = [entry.event for entry in machine.record(demo.session)]
    replied = [event for event in entries if isinstance(event, ModelReplied)]
    calls = {call.id: call for event in replied for call in event.reply.calls}
    done = [(calls[event.call], event) for event in entries if isinstance(event, ToolFinished)]
    failed = [at for at, (_, event) in enumerate(done) if event.outcome != "ok"]
    assert len(failed) == 1
    first = done[failed[0]]
    assert first[1].outcome == "failed"
    assert "unexpected keyword argument 'multi_class'" in first[1].text
    edited, again = done[failed[0] + 2], done[failed[0] + 3]
    assert (edited[0].tool, edited[1].outcome) == ("edit", "ok")
    assert (again[0].arguments, again[1].outcome) == (first[0].arguments, "ok")
    assert "multi_class" not in (demo.folder / "train.py").read_text()


def test_no_number_of_the_results_stands_in_the_story(demo, second):
    folder = Path(ml_intern.demo.__file__).parent
    story = "".join(path.read_text() for path in folder.rglob("*") if path.suffix in {".py", ".txt"})
    for metrics in (demo.metrics, second.metrics):
        scores = scores_in(metrics)
        assert len(scores) >= 18
        assert not [
            value for value in scores if f"{value:.3f}" in story or (value > 0.5 and f"{value:.4f}"[2:] in story)
        ]
        counts = (metrics["images"], metrics["split"]["train"], metrics["split"]["held_out"])
        assert not [count for count in counts if re.search(rf"\b{count}\b", story)]


def test_killed_twice_and_resumed_it_leaves_the_same_files(demo, machine):
    started = machine.start("demo", "--workspace", "killed", "--seed", "0")
    kill_after(started, "step 3:")
    kill_after(machine.start("resume", "last"), "Mended")
    done = machine.run("resume", "last")
    assert done.returncode == 0, done.stderr
    folder = machine.home / "killed" / "digits"
    assert {name: (folder / name).read_bytes() for name in FILES} == {
        name: (demo.folder / name).read_bytes() for name in FILES
    }


@pytest.mark.parametrize("flags", [("--seed", "-1"), ("--workspace", "taken")])
def test_a_wrong_flag_is_told_and_nothing_is_left(machine, flags):
    (machine.home / "taken").write_text("a file")
    before = {path.name for path in machine.home.iterdir()}
    done = machine.run("demo", *flags)
    assert done.returncode == 2
    assert flags[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in machine.home.iterdir()} == before


def kill_after(process: subprocess.Popen[str], words: str) -> None:
    """SIGKILL as soon as the process has said `words` on stderr."""
    said = ""
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if words in line:
                break
        process.kill()
    assert process.returncode == -signal.SIGKILL, said
    assert words in said


def spread(of: dict[str, float]) -> str:
    return f"{of['mean']:.4f} ± {of['sd']:.4f}"


def scores_in(metrics: dict[str, Any]) -> list[float]:
    """Every score of the metrics."""
    scores: list[float] = [*metrics["verdict"]["macro_f1_difference"].values()]
    for model in metrics["models"].values():
        scores += [*model["macro_f1"].values(), *model["accuracy"].values()]
        scores += [run[name] for run in model["runs"] for name in ("macro_f1", "accuracy")]
    return scores
