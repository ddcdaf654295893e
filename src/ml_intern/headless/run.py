"""One unattended run: open or resume a session, say the prompt, work to rest, report, exit. Knows no tool,
no provider.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Literal

from msgspec import Struct, field

from ml_intern.app.wire import Opened
from ml_intern.base.errors import BadSettings, MlInternError, SandboxError, SessionBusy, SessionNotFound
from ml_intern.base.ids import new_id
from ml_intern.base.text import visible, visible_line
from ml_intern.headless.exits import Exit, exit_of
from ml_intern.headless.progress import Progress
from ml_intern.headless.report import Tally, answer, as_json, closing_line, follow_ups, held_lines, left_lines
from ml_intern.headless.streams import complain, encoded, tell, write
from ml_intern.record.codec import encode
from ml_intern.record.commands import Answer, Lift, Permit, Say, Stop
from ml_intern.record.events import Entry
from ml_intern.record.messages import Image
from ml_intern.record.next import Wait
from ml_intern.record.view import MAIN, View
from ml_intern.session.session import Session

_MORE = ("With --times N the next N calls like it are allowed, too; with --always-this-session all of them.",)
_SLOW_S = 1.0
CONTINUE = "Go on from where the last turn ended."

OutputFormat = Literal["text", "json", "stream-json"]
Opener = Callable[[], AbstractAsyncContextManager[Opened]]


class Answers(Struct, frozen=True):
    """What a person says to held calls: ids, or "all"; `reason` goes to the model with a no.

    With a yes so many further calls of the same kind are allowed (`times`), or all of this session (`always`).
    """

    approve: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    reason: str = ""
    times: int | None = None
    always: bool = False


class Run(Struct, frozen=True):
    """One run as the command line asked for it. `prompt` None: go on with what the session holds."""

    prompt: str | None
    output: OutputFormat = "text"
    quiet: bool = False
    answers: Answers = field(default_factory=Answers)


def run_to_exit(run: Run, opener: Opener) -> Exit:
    """Do the run; every failure is one sentence and its remedy on stderr, and an exit code."""
    try:
        return asyncio.run(_run(run, opener))
    except (BadSettings, SessionNotFound, SessionBusy) as error:
        return _tell(error, Exit.BAD_SETTINGS)
    except MlInternError as error:
        return _tell(error, Exit.FAILED)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _tell(error: MlInternError, code: Exit) -> Exit:
    complain(error)
    return code


async def _run(run: Run, opener: Opener) -> Exit:
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        opened = await _open(stack, opener)
        session, tally = opened.session, Tally()
        session.log.read_with(tally.read)
        if opened.note:
            tell(f"{visible(opened.note)}\n")
        if not run.quiet:
            tell("".join(f"{visible_line(line)}\n" for line in (opened.hint, opened.summary) if line))
            session.log.read_with(Progress().read)
        if run.output == "stream-json":
            session.log.read_with(_write_line)
        await _answer_held(session, run.answers)
        await _say(session, run, opened.images)
        if (later := session.log.view.lane(MAIN).turn.queued) and not run.quiet:
            tell(f"{follow_ups(later)} said before the stop: heard when this turn is over.\n")

        def left_open(code: Exit) -> None:
            _report(run, session.log.view, tally, code, time.monotonic() - begun)

        code = await _work(session, opened, left_open)
        left, learned = await opened.background(), opened.learned()
        tally.text = answer(session.log.view)
        seconds = time.monotonic() - begun
        if slow := await opened.slow(_SLOW_S):
            tell("".join(f"Waiting for {visible_line(each)}.\n" for each in slow))
    _report(run, session.log.view, tally, code, seconds)
    told = [] if run.quiet else [visible_line(line) for line in learned]
    tell("".join(f"{line}\n" for line in (*told, *left_lines(left, code, opened.halted()))))
    return code


async def _open(stack: AsyncExitStack, opener: Opener) -> Opened:
    """Walls that this machine cannot give are a setting to change; once the session is open they are a failure."""
    try:
        return await stack.enter_async_context(opener())
    except SandboxError as error:
        raise BadSettings(error.what, error.remedy) from error


def _write_line(entry: Entry) -> None:
    write(encode(entry) + b"\n")


async def _answer_held(session: Session, answers: Answers) -> None:
    """Answer the held calls that were named; a name that fits none is a mistake worth stopping for."""
    calls = {key: each for lane in session.log.view.lanes.values() for key, each in lane.calls.items()}
    waiting = {key: each.held for key, each in calls.items() if each.state == "held" and each.held is not None}
    named = [name for name in (*answers.approve, *answers.deny) if name != "all" and name not in waiting]
    if named:
        raise BadSettings(f"No call {named[0]} waits for an answer.", f"Waiting: {', '.join(waiting) or 'none'}.")
    if answers.times is not None or answers.always:
        for key, held in waiting.items():
            if (key in answers.approve or "all" in answers.approve) and key not in answers.deny:
                await _permit(session, Permit(new_id(), key, held.binding, answers.times))
    for key, held in waiting.items():
        approve = key in answers.approve or "all" in answers.approve
        deny = key in answers.deny or "all" in answers.deny
        if approve or deny:
            await session.send(Answer(new_id(), key, held.binding, not deny, answers.reason))


async def _permit(session: Session, permit: Permit) -> None:
    if refusal := await session.send(permit):
        raise BadSettings(refusal.what, refusal.remedy)


async def _lift(session: Session, *, refused: bool) -> None:
    """Let a paused turn go on, or end it: a person has looked."""
    if session.log.view.lane(MAIN).turn.paused is not None:
        await session.send(Stop(new_id()) if refused else Lift(new_id()))


async def _say(session: Session, run: Run, images: tuple[Image, ...]) -> None:
    view, prompt = session.log.view, run.prompt
    turn = view.lane(MAIN).turn
    if prompt is None and not turn.open and turn.ended is not None and turn.ended.reason not in {"done", "denied"}:
        prompt = CONTINUE
    if prompt is None and not turn.open and turn.ended is None:
        raise BadSettings("Nothing was said in this session yet.", 'Say it: ml-intern resume ID "WHAT TO DO".')
    if prompt is None:
        await _lift(session, refused="all" in run.answers.deny)
        return
    refusal = await session.send(Say(new_id(), prompt, seen=view.seq, images=images))
    if refusal is not None:
        raise BadSettings(refusal.what, refusal.remedy)


async def _work(session: Session, opened: Opened, left_open: Callable[[Exit], None]) -> Exit:
    """To rest, with what others say meanwhile. What they said as it came to rest they can stop as well."""
    with _Signals(session, left_open):
        pause, heard = None, -1
        while heard != (heard := len(session.log.view.commands)):
            async with opened.entrance():
                pause = await session.run()
    return _exit_code(session.log.view, pause)


def _exit_code(view: View, pause: object) -> Exit:
    if isinstance(pause, Wait):
        return Exit.HELD
    ended = view.lane(MAIN).turn.ended
    return exit_of(ended.reason) if ended is not None else Exit.DONE


def _report(run: Run, view: View, tally: Tally, code: Exit, seconds: float) -> None:
    if run.output == "text":
        write(encoded(tally.text if not tally.text or tally.text.endswith("\n") else f"{tally.text}\n"))
    else:
        write(f"{as_json(view, tally, code, seconds)}\n".encode())
    if run.quiet and code is Exit.DONE:
        return
    ended = view.lane(MAIN).turn.ended
    session = view.started.session if view.started is not None else ""
    lines = [closing_line(view, tally, seconds)]
    if code is Exit.HELD and view.lane(MAIN).turn.paused is not None:
        lines += [*held_lines(view), f'Let it go on with: ml-intern resume {session} (or say what to do: "TEXT")']
    elif code is Exit.HELD:
        lines += [*held_lines(view), f"Answer with: ml-intern resume {session} --approve CALL (or --deny CALL)", *_MORE]
    elif run.quiet and ended is not None:
        lines.insert(0, visible_line(f"{ended.reason}: {ended.what} {ended.remedy}".rstrip()))
    if code not in {Exit.DONE, Exit.HELD}:
        lines.append(f"Go on with: ml-intern resume {session}")
    tell("".join(f"{line}\n" for line in lines))


class _Signals:
    """Ctrl+C: the first stops the step cleanly, the second ends the process at once; neither loses what is recorded.

    SIGTERM and a terminal that hangs up end the process and leave all as it is: `resume` finds what runs. Where whoever
    started this ignores hang-ups (nohup), they are ignored.
    """

    def __init__(self, session: Session, left_open: Callable[[Exit], None]) -> None:
        self._session = session
        self._left_open = left_open
        self._stop: asyncio.Task[object] | None = None
        self._heard: list[signal.Signals] = []

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number, act in {
            signal.SIGINT: self._on_interrupt,
            signal.SIGTERM: lambda: self._leave(Exit.TERMINATED),
            signal.SIGHUP: lambda: self._leave(Exit.HUNG_UP),
        }.items():
            # A shell in the background ignores Ctrl+C for its children; it is asked of us all the same.
            if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, act)
                self._heard.append(number)

    def __exit__(self, *_: object) -> None:
        for number in self._heard:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _on_interrupt(self) -> None:
        if self._stop is not None:
            os._exit(Exit.INTERRUPTED)
        tell("Stopping; Ctrl+C again leaves at once.\n")
        self._stop = asyncio.ensure_future(self._session.send(Stop(new_id())))

    def _leave(self, code: Exit) -> None:
        """What is recorded survives this. To unwind would end the commands that run."""
        tell("Leaving; the turn and its commands stay as they are.\n")
        self._left_open(code)
        os._exit(code)
