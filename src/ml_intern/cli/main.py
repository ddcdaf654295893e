"""`ml-intern`: the commands and their flags. Every door is imported when its command runs: start-up time is a promise.

Knows no session, tool or provider.
"""

import gc
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, Literal

import click

from ml_intern import __version__
from ml_intern.cli.joining import memory, skills

RUN = "run"

Format = Literal["text", "json", "stream-json"]


class Commands(click.Group):
    """A first word that is no command is a prompt: `ml-intern "train a classifier"`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` before anything that does not name a command or ask for help or the version."""
        own = {"--help", "-h", "--version"}
        if not (args and (args[0] in self.commands or args[0] in own)) and (args or not sys.stdin.isatty()):
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Ctrl+C before a run listens for it leaves with the code of Ctrl+C. Of a wrong flag usage is told, always."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        except KeyboardInterrupt:
            sys.exit(130)


class Verbs(click.Group):
    """The commands of `ml-intern sessions` stand in cli/sessions.py, imported when one of them is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of their module."""
        from ml_intern.cli.sessions import COMMANDS

        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        from ml_intern.cli.sessions import COMMANDS

        return COMMANDS.get(cmd_name)


def _flags(command: Any) -> Any:
    """The flags that every run takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_LIKE_MAIN = (("research", "default: as main"), ("compaction", "default: as main"))
_OPTIONS = (
    click.option("--model", "-m", metavar="ID", help="provider/model, or org/name on the Hugging Face router."),
    click.option("--fallback", multiple=True, metavar="ID", help="A model to ask where the last one fails for good."),
    click.option("--main-model", metavar="IDS", help="The model and its fallbacks at once, with commas between."),
    click.option("--effort", metavar="EFFORT", help="To think: off, minimal, low, medium, high, xhigh or max."),
    *(
        option
        for role, without in (*_LIKE_MAIN, ("title", "default: first words"), ("judge", "not asked yet"))
        for option in (
            click.option(f"--{role}-model", metavar="IDS", help=f"Models of the role {role} ({without})."),
            click.option(f"--{role}-effort", metavar="EFFORT", help=f"Effort of the role {role} (default: --effort)."),
        )
    ),
    click.option("--base-url", metavar="URL", help="Endpoint of an OpenAI-compatible server."),
    click.option("--price", metavar="IN/OUT", help="USD per million tokens, where the price is not known."),
    click.option("--bill-to", metavar="ORG", help="Organisation of the Hub that pays for models of the router."),
    click.option("--mode", metavar="MODE", help="plan (only look), ask, auto (default) or yolo."),
    click.option("--on-ask", metavar="WHAT", help="A call that needs a person: deny (default) or hold."),
    click.option("--budget", metavar="USD", help="Hard cap of the session (default: 5.00)."),
    click.option("--day-budget", metavar="USD", help="Hard cap of a day over all sessions (default: none)."),
    click.option("--storage-max", metavar="SIZE", help="Most disk space of all sessions: 800MB, 20GB (default: none)."),
    click.option("--max-steps", type=int, metavar="N", help="Most model replies of a turn (default: 300)."),
    click.option("--compact-at", metavar="SHARE", help="Share of the window at which old parts are summed up (0.8)."),
    click.option("--max-time", metavar="TIME", help="Most time of a turn: 90s, 15m, 2h (default: none)."),
    click.option("--until", metavar="HH:MM", help="Deadline: the model is told what is left and saves in time."),
    click.option("--for", "lasting", metavar="TIME", help="The same, as a length of time: 90m, 10h."),
    click.option("--guard-repeats", metavar="N|off", help="Equal calls until a guard speaks up (default: 3)."),
    click.option("--guard-stall", metavar="N|off", help="Steps without anything new until one does (default: 30)."),
    click.option("--guard-plan", metavar="on|off", help="Remind of open items of the plan at the end (default: on)."),
    click.option("--tools", metavar="NAMES", help="The only tools that the model sees, with commas between."),
    click.option(
        "--allow", multiple=True, metavar="RULE", help="Allow beforehand: 'publish hub:me/*, private, 3 times'."
    ),
    click.option("--append-system", metavar="TEXT|@FILE", help="Text that follows the system prompt."),
    click.option(
        "--join", metavar="NAMES", help="What joins the prompt: instructions,skills,memory (default), or none."
    ),
    click.option("--output-schema", metavar="FILE", help="A JSON Schema that the answer must fit, else exit code 1."),
    click.option(
        "--output-format",
        "output",
        type=click.Choice(["text", "json", "stream-json"]),
        default="text",
        show_default=True,
        help="What goes to stdout: the answer, one JSON object, or every event as a line of JSON.",
    ),
    click.option("--image", multiple=True, metavar="FILE", help="A PNG, JPEG, GIF or WebP that goes with the prompt."),
    click.option("--offline/--online", default=None, help="Commands reach no host; packages come from the cache."),
    click.option("--level", metavar="LEVEL", help="Sandbox level: full, or walls (default: the best there is)."),
    click.option("--quiet", "-q", is_flag=True, help="No progress on stderr."),
    click.option("--take-over", is_flag=True, help="Take a session from a process that hangs."),
)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 bad settings, 3 budget, 4 limit, 5 held, 6 denied, 129 hung up, "
    "130 interrupted, 143 terminated.",
)
@click.version_option(__version__, prog_name="ml-intern")
@click.pass_context
def cli(context: click.Context) -> None:
    """An autonomous ML engineer: reads, trains, evaluates; in a sandbox, under a hard budget, with nothing lost.

    \b
    ml-intern "PROMPT" [FLAGS]    do a task (see `ml-intern run --help` for the flags)
    ml-intern demo                the main job without key, account or network
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(RUN)
@click.argument("prompt", required=False)
@click.option("--cwd", metavar="FOLDER", help="The workspace: the folder the agent may write (default: here).")
@click.option("--resume", metavar="ID|last", help="Say the prompt in this session instead of a new one.")
@click.option("--deny", multiple=True, metavar="RULE", help="Deny beforehand: 'write *.lock'.")
@_flags
def run(prompt: str | None, resume: str | None, output: Format, quiet: bool, take_over: bool, **flags: Any) -> None:
    """Do PROMPT (or what stdin says) unattended; the answer goes to stdout, progress to stderr.

    What no flag says is taken from ML_INTERN_* variables and settings files: `ml-intern settings` lists them all.
    ML_INTERN_DATA is the folder that holds the sessions.
    """
    with _uncollected():
        from ml_intern.cli import start

    sys.exit(start.run(prompt, resume, start.Output(output, quiet), take_over, flags))


@cli.command()
@click.argument("session", default="last", metavar="[ID|last]")
@click.argument("message", required=False)
@click.option("--approve", multiple=True, metavar="CALL|all", help="Allow a held call.")
@click.option("--deny", multiple=True, metavar="CALL|all", help="Refuse a held call; or a RULE, as in `run`.")
@click.option("--times", type=click.IntRange(1, 999_999), metavar="N", help="With --approve: and the next N like it.")
@click.option("--always-this-session", "always", is_flag=True, help="With --approve: and every further one like it.")
@click.option("--reason", default="", help="What the model is told with it: the answer to a question, why not.")
@_flags
def resume(session: str, message: str | None, output: Format, quiet: bool, take_over: bool, **flags: Any) -> None:
    """Go on with a session from the very step where it stopped; answer its held calls; say MESSAGE in it."""
    with _uncollected():
        from ml_intern.cli import start

    given = {name: flags.pop(name) for name in ("approve", "deny", "reason", "times", "always")}
    answers = start.Answers(**given)
    sys.exit(start.resume(session, message, answers, start.Output(output, quiet), take_over, flags))


@cli.command()
@click.argument("session", metavar="ID|last")
@click.argument("text", required=False)
@click.option("--after", is_flag=True, help="Not before the turn is over: it opens the next one.")
@click.option("--id", "name", default="", metavar="NAME", help="Send it once, however often this is called with NAME.")
def say(session: str, text: str | None, after: bool, name: str) -> None:
    """Say TEXT (or what stdin says) to a session that another process is running: the model hears it at the next step.

    It answers no held call. To a session that is not running, `ml-intern resume` says it.
    """
    from ml_intern.cli import steer

    sys.exit(steer.say(session, steer.Word(text, after, name)))


@cli.command()
@click.argument("session", default="last", metavar="[ID|last]")
@click.option("--commands", is_flag=True, help="Also end all that it left running in the background.")
def stop(session: str, commands: bool) -> None:
    """Stop what a session is doing that another process is running, as Ctrl+C there does.

    Commands of the present step end, those it left in the background, too. Those that earlier steps left running go on,
    up to their own deadline; `resume` finds them again, `--commands` ends them.
    """
    from ml_intern.cli import steer

    sys.exit(steer.stop(session, commands=commands))


@cli.group(cls=Verbs, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option(
    "--limit", "-n", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first."
)
@click.pass_context
def sessions(context: click.Context, as_json: bool, limit: int) -> None:
    """List the sessions of this machine, newest first; or do one of the commands below to one of them."""
    if context.invoked_subcommand is not None:
        return
    from ml_intern.cli import records

    sys.exit(records.list_sessions(as_json, limit))


@cli.command()
@click.argument("session", default="last", metavar="[ID|last]")
@click.option("--full", is_flag=True, help="All that calls showed, not the first and last lines.")
@click.option("--json", "as_json", is_flag=True, help="Every event as a line of JSON.")
@click.option("--blob", metavar="SHA", help="Write this kept output to stdout instead.")
@click.option("--egress", is_flag=True, help="What commands reached or tried to reach outside, instead.")
def show(session: str, **wanted: Any) -> None:
    """Show a session: what was said, done, spent, and what waits."""
    from ml_intern.cli import records

    sys.exit(records.show(session, records.Wanted(**wanted)))


@cli.command()
@click.argument("what", nargs=-1, metavar="[ID|last] [PORT]")
@click.option("--to", type=click.IntRange(1, 65_535), metavar="PORT", help="Port here (default: the same or the next).")
def forward(what: tuple[str, ...], to: int | None) -> None:
    """Reach a server that a command of a running session started inside the sandbox: TensorBoard, gradio, vite.

    PORT is seen at http://127.0.0.1:PORT of this machine, by your own user alone, until Ctrl+C here, or until nothing
    of the session runs any more: a stop of the session ends what its present step began, earlier commands go on until
    `ml-intern stop ID --commands`. Without PORT it lists the ports on which commands listen. Pages that you open there
    are the agent's and run in your browser, outside the sandbox: they can send what they hold anywhere, and are given
    your browser's cookies of 127.0.0.1, unless you take a private window.
    """
    from ml_intern.cli import forward as door

    sys.exit(door.forward(what, to))


@cli.group(invoke_without_command=True)
@click.option("--cwd", metavar="FOLDER", help="The workspace whose settings are shown (default: here).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_context
def settings(context: click.Context, cwd: str | None, as_json: bool) -> None:
    """Show every setting as a new session here would have it, and where it was said."""
    if context.invoked_subcommand is not None:
        return
    from ml_intern.cli import settings as door

    sys.exit(door.show(cwd, as_json))


@settings.command("import")
@click.argument("file", required=False, metavar="[FILE|-]")
@click.option("--write", is_flag=True, help="Write it to your settings file; without this it is printed.")
@click.option("--force", is_flag=True, help="Even if there is one: it is kept beside, as settings.toml.old.")
def import_settings(file: str | None, write: bool, force: bool) -> None:
    """Make settings of a config of huggingface/ml-intern (default: its cli_agent_config.json of this user).

    What has no counterpart is told on stderr. Secrets are not copied.
    """
    from ml_intern.cli import settings as door

    sys.exit(door.adopt(file, write=write, force=force))


@cli.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--revoke", is_flag=True, help="Trust the file no longer.")
@click.option("--list", "listed", is_flag=True, help="List what is trusted.")
def trust(file: str | None, yes: bool, revoke: bool, listed: bool) -> None:
    """Let a workspace's settings (default: .ml-intern/settings.toml) loosen what is allowed, as long as the file stays
    as it is shown now.
    """
    from ml_intern.cli import trust as door

    sys.exit(door.listing() if listed else door.revoke(file) if revoke else door.give(file, yes))


@cli.command()
@click.option(
    "--workspace", metavar="FOLDER", default="demo-workspace", show_default=True, help="Where files are left."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the data split and the models.")
def demo(workspace: str, seed: int) -> None:
    """Train a real model on a real data set, without key, account or network: only the decisions are scripted."""
    from ml_intern.demo import play

    sys.exit(play.demo(workspace, seed))


@cli.command()
@click.argument("words", nargs=-1, metavar="[WORDS...]")
@click.option("--provider", metavar="NAME", help="Only models of this provider: hf, openai, ollama, ...")
@click.option("--local", is_flag=True, help="Only what servers on this machine serve.")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="How many at most (default: 40; all with --json).")
@click.option("--offline", is_flag=True, help="Ask only this machine; hosted models are those of lists that were kept.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def models(words: tuple[str, ...], **wanted: Any) -> None:
    """List the models whose id or provider holds all of WORDS: window, price, abilities, who serves them, the key.

    Prices are USD per million tokens, in/out; of a router's model those of the dearest provider that is live. With a
    provider behind it (hf/ORG/NAME:PROVIDER) its own price and window hold.
    """
    from ml_intern.cli import models as door

    sys.exit(door.show(words, door.Asked(**wanted)))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--attack", is_flag=True, help="Try to break out of the sandbox, in a workspace made for it.")
def doctor(as_json: bool, attack: bool) -> None:
    """Look at this machine: sandbox, keys, servers, disk, versions; each line with what to do about it."""
    from ml_intern.cli import doctor as door

    sys.exit(door.attack(as_json) if attack else door.examine(as_json))


@cli.command()
@click.argument("provider", required=False)
@click.argument("more", nargs=-1, metavar="")
@click.option("--list", "listed", is_flag=True, help="List the keys that are found, masked, and where each lies.")
def login(provider: str | None, more: tuple[str, ...], listed: bool) -> None:
    """Keep the key of PROVIDER (openai, anthropic, hf, google, ...): in the system's keyring where there is one, else
    in a file that only you can read. It is asked for without an echo, or read from stdin. A key in the environment
    goes before it.
    """
    from ml_intern.cli import login as door

    sys.exit(door.listing() if listed else door.login(provider, more))


@cli.command()
@click.argument("provider")
def logout(provider: str) -> None:
    """Forget the key of PROVIDER that `login` kept."""
    from ml_intern.cli import login as door

    sys.exit(door.logout(provider))


cli.add_command(skills)
cli.add_command(memory)


@contextmanager
def _uncollected() -> Generator[None]:
    """What is imported stays: searching it for garbage, while it grows or later, is a waste of start-up time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def main() -> None:
    """Entry point of the console script."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Started without it: it leads nowhere, and no file that is opened later gets its number.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a terminal cannot show is spelled out, what is no text is shown as such: neither ends a run.
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")
    try:
        cli(prog_name="ml-intern")
    finally:
        _flush()


def _flush() -> None:
    """A reader that left early (`| head`) is no error, and nothing may be said of it at the very end."""
    for stream in (sys.stderr, sys.stdout):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                sys.stderr.write(f"ml-intern: stdout takes nothing ({error.strerror}).\n")
                sys.exit(1)
