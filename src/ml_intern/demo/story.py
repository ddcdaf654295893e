"""The decisions of the demo, told from beginning to end. Knows the calls it makes, and no result.

What it says of the data and of the models is captured from the answers to its calls.
"""

import re
from collections.abc import Generator, Mapping
from pathlib import Path

from msgspec import Struct

from ml_intern.model.scripted import ScriptOver

PROMPT = (
    "Train a classifier of handwritten digits on scikit-learn's own data (load_digits): compare a simple baseline with "
    "a better model over three seeds on a held-out part, and leave the model, a report and a plot in the workspace. "
    "Seed: {seed}."
)
SEED = re.compile(r"Seed: (\d+)\.$")
MOST_SEED = 1_000_000_000
"""train.py makes three seeds of each; the library takes them up to a little over four times this."""
_TIMEOUT_S = 600
_SCRIPTS = Path(__file__).parent / "scripts"
_TODO = (
    ("look", "Look at the data"),
    ("docs", "Read the documentation of the installed library"),
    ("write", "Write the training script: held-out part, baseline, better model, three seeds"),
    ("run", "Run it, and mend what fails"),
    ("check", "Measure the saved model again in a fresh process"),
    ("report", "Read the report, and answer"),
)
_ABOUT_MODEL = "sklearn.svm.SVC"
_ABOUT_BASELINE = "sklearn.linear_model.LogisticRegression"


class Step(Struct, frozen=True):
    """One reply with one call. `may_fail`: the story itself goes on after a failure."""

    say: str
    tool: str
    arguments: Mapping[str, object]
    may_fail: bool = False


class Outcome(Struct, frozen=True):
    """What a call was answered."""

    text: str
    ok: bool = True


Story = Generator[Step, Outcome, str]


def story(seed: int) -> Story:
    """Every step in order; each is sent the answer to its call. Returns the final answer.

    Raises:
        ScriptOver: an answer is not what any branch expects.
    """
    yield _plan("I begin with a plan.", "look")
    yield _write("First the data itself, before any model.", "look.py")
    look = yield _run("Its size, its classes, its values, some images.", "look.py")
    data = captured(_DATA, look.text)

    yield _write(_of_data(data), "docs.py")
    docs = yield _run("What I know of scikit-learn may be old.", f"docs.py {_ABOUT_MODEL} C gamma probability")
    yield _plan(_of_model(docs.text), "write")

    script = text_of("train.py")
    yield _write("Now train.py. The baseline I write from memory.", "train.py")
    train = f"train.py --seed {seed}"
    trained = yield _run("I run it whole: it is small.", train, may_fail=True)
    mended = ""
    if not trained.ok:
        mended, step = yield from _mending(trained.text, script)
        yield step
        trained = yield _run("Mended. I run it again.", train)
    result = captured(_RESULT, trained.text)

    yield _plan("Trained. Next the saved model, measured again.", "check")
    yield _write("A script that shares nothing with the training.", "check.py")
    checked = yield _run("The held-out rows again, in a fresh process.", "check.py")
    check = captured(_CHECK, checked.text)
    report = yield Step("I read the report as you will read it.", "read", {"path": "report.md"})
    if not all(result[name] in report.text for name in ("baseline_f1", "better_f1")):
        raise astray("report.md does not say what the run printed", report.text)
    yield _plan("It says what the run printed.", "")
    return _answer(data, result, check, mended)


def text_of(name: str) -> str:
    """The script that the story writes as `name`."""
    return (_SCRIPTS / f"{name}.txt").read_text(encoding="utf-8")


def captured(pattern: re.Pattern[str], text: str) -> Mapping[str, str]:
    """The named groups of `pattern` in `text`.

    Raises:
        ScriptOver: they do not stand there.
    """
    found = pattern.search(text)
    if found is None:
        raise astray("an answer lacks what it should hold", text)
    return found.groupdict()


def astray(what: str, text: str) -> ScriptOver:
    """The honest end: the script does not know what to do next. It says which line of `text` tells most."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("[")] or ["(nothing)"]
    telling = lines[-1] if "Traceback" in text else lines[0]
    return ScriptOver(
        f"The demo's script has no decision for this: {what}. {telling}",
        "See all of it with `ml-intern show`. A real model would read it and go on.",
    )


_DATA = re.compile(
    r"^images: (?P<images>\d+)$.*^pixels of each: (?P<pixels>\d+).*^classes: (?P<classes>\d+)$"
    r".*^smallest class: (?P<smallest>\d+), largest class: (?P<largest>\d+)$"
    r".*^missing values: (?P<missing>\d+)$.*^images that stand there twice: (?P<twice>\d+)$",
    re.DOTALL | re.MULTILINE,
)
_VERSION = re.compile(r"^(?P<library>scikit-learn) (?P<version>\S+)$", re.MULTILINE)
_GAMMA = re.compile(r"gamma='(?P<gamma>\w+)'")
_UNEXPECTED = re.compile(r"(?P<error>TypeError: (?P<class>\w+)\S* got an unexpected keyword argument '(?P<name>\w+)')")
_MULTINOMIAL = re.compile(r"(?P<quote>all solvers[\w\s',()-]*?multinomial loss)")
_RESULT = re.compile(
    r"^held out (?P<held_out>\d+) of.*"
    r"^(?P<baseline>[^:\n]+): macro-F1 (?P<baseline_f1>\S+ ± \S+), accuracy (?P<baseline_accuracy>\S+ ± \S+)$\s"
    r"^(?P<better>[^:\n]+): macro-F1 (?P<better_f1>\S+ ± \S+), accuracy (?P<better_accuracy>\S+ ± \S+)$\s"
    r"^(?P<verdict>.+ wins on .+)$\s^saved: (?P<files>[^\n]+)$",
    re.DOTALL | re.MULTILINE,
)
_CHECK = re.compile(
    r"^held-out images that stand in the training part, too: (?P<shared>\d+)$\s"
    r"^(?P<again>macro-F1 .+)$\s^(?P<same>the same as in metrics\.json)$",
    re.MULTILINE,
)


def _plan(say: str, current: str) -> Step:
    """The plan with everything before `current` done; with all of it done where that is empty."""
    at = next((at for at, (name, _) in enumerate(_TODO) if name == current), len(_TODO))
    states = ["completed"] * at + ["in_progress"] + ["pending"] * len(_TODO)
    rows = [{"id": name, "content": what, "status": state} for (name, what), state in zip(_TODO, states, strict=False)]
    return Step(say, "plan", {"todos": rows})


def _write(say: str, name: str) -> Step:
    return Step(say, "write", {"path": name, "content": text_of(name)})


def _run(say: str, command: str, *, may_fail: bool = False) -> Step:
    return Step(say, "bash", {"command": f"uv run {command}", "timeout": _TIMEOUT_S}, may_fail)


def _of_data(data: Mapping[str, str]) -> str:
    return (
        f"{data['images']} images, {data['classes']} classes of {data['smallest']} to {data['largest']}. "
        f"{data['pixels']} pixels each, {data['missing']} values missing, {data['twice']} images twice. "
        "I will hold out a stratified part first, and report macro-F1 beside accuracy. "
        "Before I use an interface I let the installed library describe it."
    )


def _of_model(docs: str) -> str:
    version, gamma = captured(_VERSION, docs), captured(_GAMMA, docs)
    old = " `probability` is deprecated, so I do without it." if "probability='deprecated'" in docs else ""
    return f"{version['library']} {version['version']}: gamma is '{gamma['gamma']}' by default.{old}"


def _mending(failure: str, script: str) -> Generator[Step, Outcome, tuple[str, Step]]:
    """Reads up on the argument that the error names; what was wrong in words, and the edit that mends it."""
    error = captured(_UNEXPECTED, failure)
    name, of = error["name"], error["class"]
    written = re.search(rf" {name}=[^,()\n]+,", script)
    if written is None or not _ABOUT_BASELINE.endswith(f".{of}"):
        raise astray("train.py failed in a way that it does not foresee", failure)
    command = f"docs.py {_ABOUT_BASELINE} {name} solver"
    say = f"{of} does not take `{name}`: {error['error']}. I read what it takes now before I change anything."
    docs = yield _run(say, command)
    gone = captured(re.compile(rf"^{name}: (?P<what>not a parameter of this version)$", re.MULTILINE), docs.text)
    version = captured(_VERSION, docs.text)["version"]
    quote = _MULTINOMIAL.search(docs.text)
    why = f' The documentation: "{" ".join(quote["quote"].split())}".' if quote is not None else ""
    say = f"`{name}` is {gone['what']}, {version}.{why} I take it out and leave the rest as it is."
    mended = f"`{name}` of {of}, which I had written from memory, is no parameter of scikit-learn {version}"
    return mended, Step(say, "edit", {"path": "train.py", "old_str": written.group(), "new_str": ""})


def _answer(data: Mapping[str, str], result: Mapping[str, str], check: Mapping[str, str], mended: str) -> str:
    error = f"The first run failed: {mended}. I took it out and ran again." if mended else "No run failed."
    return f"""Two classifiers of handwritten digits, compared on {result["held_out"]} of {data["images"]} images. \
These were held out before anything was fitted; mean ± standard deviation over three seeds:

| model | macro-F1 | accuracy |
|---|---|---|
| {result["baseline"]} (baseline) | {result["baseline_f1"]} | {result["baseline_accuracy"]} |
| {result["better"]} | {result["better_f1"]} | {result["better_accuracy"]} |

The {result["verdict"]}. Settings were chosen on the training part alone.

Measured again in a fresh process, the saved model gives {check["again"]}, {check["same"]}. \
Held-out images that stand in the training part, too: {check["shared"]}.

{error}

Files: {result["files"]}; train.py repeats all of it.

Open: the images are small and clean, and this is one held-out part; other handwriting was not measured."""
