"""The unattended door over a stage: a played model, a record in memory. One `Door` is one session, opened again and
again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ml_intern.app.wire import Opened
from ml_intern.headless.exits import Exit
from ml_intern.headless.run import Run, run_to_exit
from tests.agent.stage import MemoryJournal, Stage, set_stage

SUMMARY = "session s1 · test/model, paid by me"


@dataclass
class Door:
    """A session and what it is set up and `opened` with; `stage` is the one of the last run."""

    more: dict[str, Any] = field(default_factory=dict)
    opened: dict[str, Any] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    @property
    def journal(self) -> MemoryJournal:
        return self.stage.journal

    def run(self, run: Run | str | None, *outcomes: Any) -> Exit:
        """Run to the exit; the model plays `outcomes`. Must be called where no event loop runs."""

        @asynccontextmanager
        async def opener() -> AsyncGenerator[Opened]:
            journal = self.journal if self.stages else None
            self.stages.append(await set_stage(*outcomes, journal=journal, **self.more))
            yield Opened(self.stage.session, SUMMARY, **self.opened)

        return run_to_exit(run if isinstance(run, Run) else Run(run), opener)
