"""Runs shell commands in the session's sandbox. Knows no policy; the walls are the sandbox's."""

import asyncio
import codecs
import contextlib
from collections.abc import Callable, Mapping
from typing import Annotated

from msgspec import Meta, Struct

from ml_intern.base.errors import SandboxError, StoreFailed, ToolFailed
from ml_intern.base.text import one_line
from ml_intern.record.display import LogDisplay
from ml_intern.record.effects import Effect, Executes, Reaches
from ml_intern.record.events import Outcome, ToolStarted
from ml_intern.record.facts import FileChange
from ml_intern.record.folds.files import Files
from ml_intern.sandbox import files, repositories
from ml_intern.sandbox.commands import Commands, Ended, Running, Spec
from ml_intern.sandbox.egress import refused_during
from ml_intern.sandbox.paths import Roots, place, protected_again
from ml_intern.sandbox.ports import ports
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools import background, marks, pushes
from ml_intern.tools.endings import ending
from ml_intern.tools.marks import Mark
from ml_intern.tools.output import SHOWN_CHARS, cleaned, ends, for_people, shortened
from ml_intern.tools.scripts import Script, Scripts
from ml_intern.tools.texts import text_of
from ml_intern.tools.walls import walls_in
from ml_intern.tools.workspace import Before, changed_since, changes, look

DEFAULT_TIMEOUT_S = 120
MOST_TIMEOUT_S = 36_000
# Linux takes at most 128 KiB as one argument (execve(2), MAX_ARG_STRLEN).
_MOST_COMMAND_BYTES = 100_000
_LIVE_CHARS = 16_384
_END_WITHIN_S = 15.0


class BashArgs(Arguments, frozen=True):
    """What the model sends."""

    command: Annotated[str, Meta(min_length=1, description="The command line.")]
    timeout: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MOST_TIMEOUT_S,
                description=f"Deadline in seconds (default {DEFAULT_TIMEOUT_S}, in the background "
                f"{background.DEFAULT_TIMEOUT_S}).",
            ),
        ]
        | None
    ) = None
    description: Annotated[str, Meta(description="What it is for, in a few words.")] = ""
    background: Annotated[bool, Meta(description="Leave it running and answer at once with its id.")] = False
    work_dir: Annotated[str, Meta(description="Folder to start in, if not the workspace.")] = ""
    hub: Annotated[
        tuple[str, ...],
        Meta(max_length=8, description="What it writes to the Hub: 'create OWNER/NAME', 'push OWNER/NAME'."),
    ] = ()


class _Planned(Struct, frozen=True):
    command: str
    timeout_s: int
    cwd: str
    scripts: tuple[Script, ...]
    background: bool
    description: str
    pushes: tuple[str, ...] = ()


class _Left(Struct, frozen=True):
    output: str
    facts: tuple[FileChange, ...]
    notes: list[str]
    traps: list[str]


class Bash:
    """See bash.md. `environ` is the whole environment of commands; `after` says how to look after one left running."""

    name = "bash"
    args = BashArgs

    def __init__(
        self,
        commands: Commands,
        roots: Roots,
        blobs: Blobs,
        scripts: Scripts,
        environ: Mapping[str, str],
        *,
        after: str = "",
    ) -> None:
        self._commands = commands
        self._roots = roots
        self._blobs = blobs
        self._scripts = scripts
        self._environ = environ
        self._after = after
        self._walled: object = None
        self.text = text_of(
            __file__,
            default=DEFAULT_TIMEOUT_S,
            most=MOST_TIMEOUT_S,
            shown=SHOWN_CHARS,
            longer=background.DEFAULT_TIMEOUT_S,
            at_once=background.MOST_AT_ONCE,
        )

    async def prepare(self, args: BashArgs, context: Context) -> Prepared:
        """The command, the scripts it runs, and whether packages are fetched for them.

        Raises:
            PathRefused: a folder outside the roots.
            ToolFailed: no folder, or no command.
            EnvironmentFailed: a script's header cannot be understood.
        """
        if "\0" in args.command or not args.command.strip():
            raise ToolFailed("The command is empty or holds a NUL character.", "Send a command line.")
        if len(args.command.encode()) > _MOST_COMMAND_BYTES:
            raise ToolFailed("The command is too long for a shell.", "Write it to a file, and run that.")
        cwd, scripts = await asyncio.to_thread(self._look, args)
        wanted = pushes.understood(args.hub, self._commands.reach)
        effects: list[Effect] = [Executes(args.command, folder=args.work_dir), *pushes.effects(wanted)]
        if any(script.packages for script in scripts):
            effects.append(Reaches("the package index", known=True))
        told = tuple(push.text for push in wanted)
        return Prepared(
            effects=tuple(effects),
            display=LogDisplay(args.command, args.description),
            replay="findable",
            payload=_Planned(args.command, _timeout(args), cwd, scripts, args.background, args.description, told),
            inputs=tuple((script.path, script.sha) for script in scripts),
        )

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Build what its scripts need, run it to its end, and tell what it printed and changed.

        Raises:
            EnvironmentFailed: a script's packages cannot be installed.
            SandboxError: the command cannot be started.
        """
        planned: _Planned = prepared.payload
        if planned.background:
            await background.require_room(self._commands)
        found = await self._scripts.build(planned.scripts, context.key, context.live)
        seen: list[Before] = []

        def spec() -> Spec:
            seen.append(self._before())
            return self._spec(context.key, planned, found)

        try:
            if planned.background:
                ended = await background.begin(self._commands, context.key, spec, _live(context.live))
            else:
                ended = await self._commands.run(spec, _live(context.live))
        except asyncio.CancelledError:
            for before in seen:  # None where not even that was looked at.
                await asyncio.shield(asyncio.ensure_future(self._end(context.key, before)))
            raise
        (before,) = seen
        if ended is None:
            return await self._left_running(planned, before, context)
        return await self._result(planned.command, ended, before, context.view.files)

    async def recover(self, args: BashArgs, started: ToolStarted, context: Context) -> Result | None:
        """How the command ended, waiting for it if it still runs; None if it never began.

        Raises:
            SandboxError: it cannot be followed.
        """
        before = await asyncio.to_thread(look, self._roots, begun=True)
        match await self._commands.find(context.key):
            case None:
                return None
            case Ended() as ended:
                return await self._result(args.command, ended, before, context.view.files)
            case Running() if args.background:
                planned = _Planned(args.command, _timeout(args), "", (), background=True, description=args.description)
                return await self._left_running(planned, before, context)
            case Running():
                pass
        try:
            ended = await self._commands.attach(context.key, _live(context.live))
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._end(context.key, before)))
            raise
        return await self._result(args.command, ended, before, context.view.files)

    async def _left_running(self, planned: _Planned, before: Before, context: Context) -> Result:
        folder, key = self._commands.folder, context.key
        found = await self._commands.find(key)
        if found is not None:
            await asyncio.to_thread(background.remember, found.output_path.parent, before)
        mark = Mark(context.lane, one_line(planned.command, background.TITLE_CHARS), planned.description)
        await asyncio.to_thread(marks.leave, folder, key, mark)
        text = f"It runs in the background as command {key}, for {planned.timeout_s:,} s at most. {self._after}"
        listening = await asyncio.to_thread(ports, folder)
        rows = [text.strip(), *background.port_lines(listening)]
        title, where = background.with_ports(planned.command, listening), f"in the background as {key}"
        shown = where if title == planned.command else f"{planned.command}\n{where}"
        return Result("\n".join(rows), LogDisplay(title, shown), ours=True)

    def _spec(self, key: str, planned: _Planned, found: Mapping[str, str]) -> Spec:
        return Spec(
            key=key,
            argv=("/bin/bash", "-c", planned.command),
            cwd=planned.cwd,
            env={**self._environ, **found},
            deadline_s=planned.timeout_s,
            roots=self._roots,
            pushes=planned.pushes,
        )

    def _look(self, args: BashArgs) -> tuple[str, tuple[Script, ...]]:
        cwd = self._start_folder(args.work_dir)
        return cwd, self._scripts.look(args.command, cwd)

    def _before(self) -> Before:
        """The workspace; what has appeared in it since the last command and must be walled is walled from now on."""
        before = look(self._roots)
        if before.walled != self._walled:
            self._roots = protected_again(self._roots, before.seen.protected if before.seen else ())
            self._walled = before.walled
        return before

    def _start_folder(self, work_dir: str) -> str:
        found = place(self._roots, work_dir or ".", self._roots.workspace, write=False)
        facts = files.stat(found)
        if facts is None or facts.kind != "folder":
            raise ToolFailed(f"{found.inside} is {'no folder' if facts else 'not there'}.", "Name an existing folder.")
        return found.inside

    async def _end(self, key: str, before: Before) -> None:
        """Stop the command, wait until its whole tree is gone, undo the traps it set."""
        with contextlib.suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(_END_WITHIN_S):
                await self._commands.stop(key)
                await self._commands.attach(key, lambda _: None)
        await asyncio.to_thread(repositories.mend, self._roots, before.git)

    async def _result(self, command: str, ended: Ended, before: Before, known: Files) -> Result:
        left = await asyncio.to_thread(self._left, ended, before, known)
        text, blob = left.output.rstrip("\n"), None
        if len(text) > SHOWN_CHARS:
            try:
                blob = await self._blobs.put(left.output.encode())
                text = shortened(text, f"read blob:{blob} for all of it")
            except StoreFailed as error:
                # The command ran: what can be told of it is told.
                text = shortened(text, f"it could not be kept: {error.what}")
        notes = [*ending(ended), *left.notes]
        return Result(
            text="\n".join([text or "(no output)", *(f"[{note}]" for note in (*notes, *left.traps))]),
            display=LogDisplay(
                command,
                "\n".join([for_people(text), *(f"[{trap}]" for trap in left.traps)]),
                ended.exit_code,
                round(ended.duration_s, 3),
            ),
            outcome=_outcome(ended),
            facts=left.facts,
            blob=blob,
            # A code and "(no output)" are our own words; a note may hold a path or a host that the command chose.
            ours=not (text or ended.note or left.notes or left.traps),
        )

    def _left(self, ended: Ended, before: Before, known: Files) -> _Left:
        """What the command left behind."""
        output = _output(ended)
        traps = repositories.mend(self._roots, before.git)
        notes = changed_since(self._roots, ended.output_path.parent) if ended.reason == "lost" else []
        walls = [*refused_during(ended.output_path.parent), *walls_in(ends(output), self._roots)]
        notes += [f"A wall of the sandbox: {wall}" for wall in walls]
        after = changes(self._roots, before, ended.output_path.parent, known)
        # A name that is no UTF-8 could not stand in the record.
        told = [text.encode(errors="replace").decode() for text in (*traps, *after.told)]
        return _Left(output, after.facts, notes, told)


def _timeout(args: BashArgs) -> int:
    """What was said; else more where nobody waits for it."""
    return args.timeout or (background.DEFAULT_TIMEOUT_S if args.background else DEFAULT_TIMEOUT_S)


def _live(send: Callable[[str], None]) -> Callable[[bytes], None]:
    """Decodes what arrives in pieces, and hands on no more of each than a person could read."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def on_output(piece: bytes) -> None:
        text = decoder.decode(piece)
        if text:
            send(text[-_LIVE_CHARS:])

    return on_output


def _output(ended: Ended) -> str:
    try:
        return cleaned(ended.output_path)
    except FileNotFoundError:
        return ""


def _outcome(ended: Ended) -> Outcome:
    match ended.reason:
        case "exited":
            return "ok" if ended.exit_code == 0 else "failed"
        case "deadline" | "memory" | "failed_to_start":
            return "failed"
        case "stopped" | "closed":
            return "stopped"
        case "lost":
            return "lost"
