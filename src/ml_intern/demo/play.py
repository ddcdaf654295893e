"""`ml-intern demo`: plays the story in a session like any other, in a new folder, and shows what came of it.

Knows no tool and no figure.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ml_intern.app.choices import Played
from ml_intern.app.settings import Launch
from ml_intern.app.wire import Opened, open_session
from ml_intern.base.errors import BadSettings, MlInternError
from ml_intern.base.money import Micro, show
from ml_intern.demo.replay import turn_of
from ml_intern.demo.results import figures, left_in
from ml_intern.demo.story import MOST_SEED, PROMPT
from ml_intern.headless.exits import Exit
from ml_intern.headless.report import Tally
from ml_intern.headless.run import Run, run_to_exit
from ml_intern.headless.streams import encoded, tell, write
from ml_intern.model.scripted import Scripted

_NAME = "demo"
NOTICE = (
    "The decisions in this session are a script, played by a scripted model; everything else is real: "
    "the data, the code, the sandbox, the training, the numbers."
)
_FOLDER = "digits"


def played() -> Played:
    """The scripted model that plays a demo, a new one or one that was cut."""
    model = Scripted(turn_of, name=_NAME)
    return Played(model, model.info)


PLAYERS = {f"scripted/{_NAME}": played}
"""For the doors that go on with a session: by what stands in its record."""


def demo(workspace: str, seed: int) -> Exit:
    """Play the demo in a new folder below `workspace`; progress goes to stderr, what came of it to stdout."""
    tell(f"{NOTICE}\n")
    try:
        folder = _make_folder(Path(workspace).resolve(), seed)
    except BadSettings as error:
        tell(f"ml-intern: {error.what}\n{error.remedy}\n")
        return Exit.BAD_SETTINGS
    run, begun = _Performance(folder), time.monotonic()
    code = run_to_exit(Run(PROMPT.format(seed=seed)), run.open)
    with suppress(OSError):
        # Nothing was started in it: nothing is left of it.
        folder.rmdir()
    return _show(run, time.monotonic() - begun) if code is Exit.DONE else code


@dataclass(slots=True)
class _Performance:
    """One demo: opened by the door, counted for the last lines."""

    folder: Path
    tally: Tally = field(default_factory=Tally)
    session: str = ""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Opened]:
        launch = Launch(cwd=self.folder, mode="auto")
        async with open_session(launch, played=played(), door="demo") as opened:
            started = opened.session.log.view.started
            self.session = started.session if started is not None else ""
            opened.session.log.read_with(self.tally.read)
            yield opened


def _make_folder(workspace: Path, seed: int) -> Path:
    """The first of `digits`, `digits-2`, … that is not there yet: nothing of an earlier demo is changed."""
    if not 0 <= seed <= MOST_SEED:
        raise BadSettings(f"--seed {seed} is no seed.", f"Give a whole number from 0 to {MOST_SEED}.")
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = workspace / (_FOLDER if number == 1 else f"{_FOLDER}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
            number += 1
    except OSError as error:
        what = f"--workspace {workspace} cannot be used: {error.strerror}."
        raise BadSettings(what, "Name a folder that you may write.") from error


def _show(run: _Performance, seconds: float) -> Exit:
    tally = run.tally
    try:
        rows = figures(run.folder)
    except MlInternError as error:
        tell(f"ml-intern: {error.what}\n{error.remedy}\n")
        return Exit.FAILED
    tokens = f"{tally.prompt_tokens:,}+{tally.output_tokens:,} tokens, counted on the script's own words"
    lines = [
        *rows,
        f"Files    {left_in(run.folder)}",
        f"Time     {seconds:.0f} s",
        f"Cost     {show(Micro(tally.cost))} ({tokens})",
        f"Session  {run.session}; look at it with: ml-intern show {run.session}",
    ]
    write(encoded("\n" + "".join(f"{line}\n" for line in lines)))
    return Exit.DONE
