"""Starts a run or a resume: flags to settings, settings to the unattended door. Knows no session's inside."""

import os
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.app.choices import Players
from ml_intern.app.options import strangers
from ml_intern.app.settings import Flags, Launch, make_launch
from ml_intern.app.wire import Opened, open_session
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.run import Answers, OutputFormat, Run, run_to_exit
from ml_intern.headless.streams import complain, tell

__all__ = ["Answers", "Output", "resume", "run"]


class Output(Struct, frozen=True):
    """What goes where."""

    format: OutputFormat
    quiet: bool


def run(prompt: str | None, session: str | None, output: Output, take_over: bool, flags: dict[str, Any]) -> Exit:
    """Do a prompt, from the argument or from stdin, in a new session or in `session`."""
    _tell_slips()
    try:
        text = _prompt(prompt)
        launch = make_launch(Flags(**flags))
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    return run_to_exit(Run(text, output.format, output.quiet), _opener(launch, session, take_over))


def resume(
    session: str,
    message: str | None,
    answers: Answers,
    output: Output,
    take_over: bool,
    flags: dict[str, Any],
) -> Exit:
    """Go on with `session`, after its held calls were answered and `message`, if any, was said.

    What `--deny` names is a call, or a rule: a rule always has a space.
    """
    rules = tuple(each for each in answers.deny if " " in each.strip())
    answers = replace(answers, deny=tuple(each for each in answers.deny if each not in rules))
    flags = {**flags, "deny": rules}
    _tell_slips()
    try:
        _check_answers(answers)
        launch = _resumed(message, Flags(**flags))
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    return run_to_exit(Run(message, output.format, output.quiet, answers), _opener(launch, session, take_over))


def _check_answers(answers: Answers) -> None:
    if answers.times is not None and answers.always:
        raise BadSettings("--times and --always-this-session say how many, twice.", "Give one of them.")
    if (answers.times is not None or answers.always) and not answers.approve:
        what = "--times and --always-this-session belong to a call that is allowed."
        raise BadSettings(what, "Name it with --approve CALL.")


def _resumed(message: str | None, flags: Flags) -> Launch:
    if flags.image and message is None:
        what = "An image goes along with a message."
        raise BadSettings(what, 'Say what it is for: ml-intern resume ID "WHAT TO LOOK AT" --image FILE.')
    return make_launch(flags)


def _tell_slips() -> None:
    """Before anything else: what is wrong next may well be wrong because of them."""
    tell("".join(f"{visible_line(line)}\n" for line in strangers(os.environ)))


def _prompt(prompt: str | None) -> str:
    text = prompt or ""
    if prompt is None or prompt == "-":
        text = "" if sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        raise BadSettings("There is no prompt.", 'Write it as an argument: ml-intern "train a classifier on iris".')
    return text


def _opener(launch: Launch, session: str | None, take_over: bool) -> Any:
    def opener() -> AbstractAsyncContextManager[Opened]:
        return open_session(launch, resume=session, take_over=take_over, players=_players(session))

    return opener


def _players(session: str | None) -> Players:
    """Who plays what was played before; only a session that goes on can be one of those."""
    if session is None:
        return {}
    from ml_intern.demo.play import PLAYERS

    return PLAYERS
