"""What the tools that start sub-agents have in common: the work in words, and the report as a call's answer.

Knows no loop and no model.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from msgspec import Meta

from ml_intern.base.errors import ToolFailed
from ml_intern.base.money import Micro, show, usd
from ml_intern.base.text import clip, one_line, visible_line
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Effect, Reads
from ml_intern.record.facts import Source
from ml_intern.record.folds.spent import Spent
from ml_intern.record.view import MAIN
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.spawn import Commission, Report, Spawn
from ml_intern.toolkit.tool import Context, Prepared, Result, Waits

REPORT_CHARS = 16_000
"""Longer reports are clipped to their head and tail; the whole is kept."""
MOST_SOURCES = 40
TITLE_CHARS = 80

MOST_USD = 1_000_000
Share = (
    Annotated[
        float,
        Meta(gt=0, le=MOST_USD, description="Most US dollars it may spend; without it what the session has left."),
    ]
    | None
)
"""What a sub-agent may spend, as an argument."""

EFFECTS: tuple[Effect, ...] = (Reads("what its own calls, each judged by itself, may look at"),)
"""Starting a sub-agent changes nothing: whatever it does is a call of its own."""


def said(task: str, context: str, files: Sequence[str]) -> str:
    """The first message of a sub-agent.

    Raises:
        ToolFailed: there is no task.
    """
    if not task.strip():
        raise ToolFailed("There is no task.", "Say in `task` what is wanted, so that it is clear by itself.")
    known = f"What is known so far:\n{context.strip()}" if context.strip() else ""
    begin = "Begin with:\n" + "\n".join(f"- {each}" for each in files) if files else ""
    return "\n\n".join(filter(None, (task.strip(), known, begin)))


def share(budget: float | None) -> Micro | None:
    """The argument in micro-dollars."""
    return None if budget is None else usd(budget)


def offered(wanted: Sequence[str], context: Context) -> tuple[str, ...]:
    """Those of `wanted` that the session itself has.

    Raises:
        ToolFailed: a sub-agent asked, or none is left.
    """
    if context.lane != MAIN:
        raise ToolFailed("A sub-agent cannot start another.", "Do it yourself, or say in your report what is left.")
    seen = context.view.settings.rules.tools
    left = tuple(name for name in wanted if seen is None or name in seen)
    if not left:
        raise ToolFailed("This session leaves a sub-agent no tool to work with.", "Do it yourself.")
    return left


def prepared(commission: Commission) -> Prepared:
    """The start of a sub-agent as a call. A crash finds its lane again."""
    title = f"{commission.agent}: {one_line(commission.task, TITLE_CHARS)}"
    return Prepared(EFFECTS, TextDisplay(title, commission.said), "findable", commission)


Left = Callable[[str], Awaitable[str]]
"""What a lane left running, in words; "" where it left nothing."""


async def nothing_left(_lane: str) -> str:
    """Of those that can run nothing."""
    return ""


async def answer(
    spawn: Spawn, blobs: Blobs, commission: Commission, context: Context, left: Left = nothing_left
) -> Result | Waits:
    """Have the work done; the report as the call's answer.

    Raises:
        SessionError: the record can no longer be written.
        StoreFailed: a long report cannot be kept.
    """
    report = await spawn.run(commission, context)
    if isinstance(report, Waits):
        return report
    text, sources = _worded(report), tuple(Source(target, sha) for target, sha in report.sources)
    title, foot = f"{report.lane}, {figures(report.spent)}", _foot(report, await left(report.lane))
    display = TextDisplay(title, text)
    if len(text) <= REPORT_CHARS:
        return Result(f"{text}\n\n{foot}", display, report.outcome, sources)
    sha = await blobs.put(text.encode())
    cut = clip(text, REPORT_CHARS, head_share=0.6, note=f"the whole report: blob:{sha}").text
    return Result(f"{cut}\n\n{foot}", TextDisplay(title, cut), report.outcome, sources, blob=sha)


def figures(spent: Spent) -> str:
    """What a lane came to, for people."""
    steps = f"{spent.steps} step{'' if spent.steps == 1 else 's'}"
    return f"{steps}, {spent.prompt:,}+{spent.output:,} tokens, {show(Micro(spent.cost))}"


def _worded(report: Report) -> str:
    if report.is_whole:
        return report.text
    why = f"The sub-agent ended without a report. {report.what}".strip()
    return f"{why}\n\n" + (f"What it said on its way:\n{report.text}" if report.text else "It had said nothing yet.")


def _foot(report: Report, left: str) -> str:
    """Where it can be looked up, what it leans on, and what goes on."""
    names = [visible_line(target) for target, _ in report.sources]
    more = f" and {len(names) - MOST_SOURCES} more" if len(names) > MOST_SOURCES else ""
    read = f" It read: {', '.join(names[:MOST_SOURCES])}{more}." if names else " It read no file and no page."
    goes_on = f" {left}" if left else ""
    return f"[{report.lane} in the record of this session; {figures(report.spent)}.{read}{goes_on}]"
