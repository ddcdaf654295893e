"""Asks the person a question, where one may be there; else says that nobody is. Knows no door."""

from typing import Annotated

from msgspec import Meta

from ml_intern.base.errors import ToolFailed
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Effect, Notifies
from ml_intern.record.events import ToolStarted
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools.texts import text_of

_MOST_OPTIONS = 10
_WHOM = "you, and waits for your answer: approve with it as the reason"
_NOBODY = (
    "Nobody is there to answer. Decide yourself, take what is safest and easiest to undo, and say in your final answer "
    "what you were unsure of and what you chose."
)


class AskUserArgs(Arguments, frozen=True):
    """What the model sends."""

    question: Annotated[str, Meta(min_length=1, max_length=2_000, description="One question.")]
    options: Annotated[
        tuple[str, ...], Meta(max_length=_MOST_OPTIONS, description="Answers to choose from, best first.")
    ] = ()


class AskUser:
    """See ask_user.md."""

    name = "ask_user"
    args = AskUserArgs

    def __init__(self) -> None:
        self.text = text_of(__file__, options=_MOST_OPTIONS)

    async def prepare(self, args: AskUserArgs, context: Context) -> Prepared:
        """The question; it waits for a person only where one may come.

        Raises:
            ToolFailed: the question or an option is blank, or an option stands there twice.
        """
        options = [option.strip() for option in args.options]
        if not args.question.strip() or not all(options) or len(set(options)) < len(options):
            raise ToolFailed("The question or an option is blank, or an option is there twice.", "Write each once.")
        mode = context.view.settings.mode
        waits = mode is not None and mode.on_ask == "hold"
        effects: tuple[Effect, ...] = (Notifies(_WHOM),) if waits else ()
        rows = [f"{number}. {option}" for number, option in enumerate(options, 1)]
        return Prepared(effects, TextDisplay(args.question.strip(), "\n".join(rows)), "pure", (waits, tuple(options)))

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """The person's answer, or that there is none."""
        waits, options = prepared.payload
        call = context.view.lane(context.lane).calls.get(context.call)
        said = call.answer.strip() if call is not None and call.state in {"approved", "started"} else ""
        text = _worded(said, options) if said else _ASKED if waits else _NOBODY
        return Result(text, prepared.display, ours=True)

    async def recover(self, args: AskUserArgs, started: ToolStarted, context: Context) -> Result | None:
        """The answer is in the record: it is read again."""
        return None


_ASKED = "The user agreed without a word: go on with the first option, or with what you proposed."


def _worded(said: str, options: tuple[str, ...]) -> str:
    """The answer; a number alone is the option of that number."""
    if said.isdecimal() and 1 <= int(said) <= len(options):
        return f"The user chose: {options[int(said) - 1]}"
    return f"The user answered: {said}"
