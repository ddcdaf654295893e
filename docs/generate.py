"""Writes docs/reference/ from the program itself (`make docs`); a test fails where a page is stale."""

import inspect
import json
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ml_intern.agent.subagent import Lanes
from ml_intern.app.options import OPTIONS, Workspace
from ml_intern.headless.exits import Exit
from ml_intern.headless.report import Tally, as_json
from ml_intern.record import display, effects, events, facts, messages
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import View
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.paths import Roots
from ml_intern.store.blobs import Blobs
from ml_intern.toolkit.registry import Registry
from ml_intern.tools import Workshop, make_tools

FOLDER = Path(__file__).parent / "reference"
_MADE = "Made by `make docs` from the program itself.\n"
_INTRO = """\
A session is its entries, in order. `--output-format stream-json` and `ml-intern show --json` print one a line:

```json
{{"seq": 7, "at": 1795318776808, "lane": "main", "event": {{"type": "user_said", "...": "..."}}, "v": 1}}
```

`seq` counts from 1 without gaps, `at` is milliseconds since 1970 (UTC), `lane` is the agent that it belongs to, `v` is
the version of the schema, now {version}. Old entries are read for ever. Money is in micro-dollars (USD x 1e-6).
"""
_COMMAND = re.compile(r"^  ([a-z][a-z-]*)(?:  .*)?$")


def commands() -> str:
    """Every command's `--help`."""
    top = shown()
    helps = {"ml-intern": top, **_below((), top)}
    parts = [f"## {name}\n\n```text\n{text.strip()}\n```\n" for name, text in helps.items()]
    return "\n".join(["# Commands\n", _MADE, *parts, "## Exit codes\n", *_exit_rows(), "", *_result()])


def _below(command: tuple[str, ...], text: str) -> dict[str, str]:
    """The help of every command that `text`, the help of `command`, lists, and of those below them."""
    found: dict[str, str] = {}
    for line in text.partition("Commands:\n")[2].splitlines():
        if match := _COMMAND.match(line):
            words = (*command, match[1])
            found[" ".join(("ml-intern", *words))] = shown(*words)
            found |= _below(words, found[" ".join(("ml-intern", *words))])
    return found


def shown(*command: str) -> str:
    """What `ml-intern [command] --help` prints, 100 columns wide."""
    code = "from ml_intern.cli.main import main; main()"
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    return re.sub(r"^Usage: -c", "Usage: ml-intern", result.stdout)


def _exit_rows() -> Iterator[str]:
    source = inspect.getsource(Exit)
    yield "| code | name | when |\n|---|---|---|"
    for member in Exit:
        said = re.search(rf'^    {member.name} = .*\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
        yield f"| {int(member)} | {member.name.lower()} | {' '.join(said[1].split()) if said else ''} |"


def _result() -> Iterator[str]:
    yield "## The result\n"
    yield "`--output-format json` prints one object, `stream-json` prints it as its last line:\n"
    sample = json.loads(as_json(View(), Tally(text="the answer"), Exit.DONE, 1.5))
    yield f"```json\n{json.dumps(sample, indent=2)}\n```\n"


def record() -> str:
    """Every event, and what stands inside one."""
    kinds = typing.get_args(events.Event)
    inner = [
        *typing.get_args(facts.Fact),
        *typing.get_args(effects.Effect),
        *typing.get_args(display.Display),
        display.PlanItem,
        *typing.get_args(messages.ReplyPart),
        messages.Reply,
        messages.Opaque,
        messages.Image,
        messages.Usage,
        messages.Prices,
    ]
    grammar, _, closing = (inspect.getdoc(events) or "").partition("In one lane:")[2].strip().partition("\n\n")
    rules = f"## Order\n\nIn one lane:\n\n```text\n{inspect.cleandoc(grammar)}\n```\n\n{closing}\n"
    parts = [
        "# Events\n",
        _MADE,
        _INTRO.format(version=events.VERSION),
        rules,
        "## Events\n",
        *map(_described, kinds),
        "## Inside\n",
        *map(_described, inner),
    ]
    return "\n".join(parts)


def _described(kind: type[msgspec.Struct]) -> str:
    hints = typing.get_type_hints(kind)
    rows = [f"| `{name}` | {_type_name(hints[name])} |" for name in kind.__struct_fields__]
    table = "\n| field | type |\n|---|---|\n" + "\n".join(rows) + "\n" if rows else ""
    return f"### `{kind.__struct_config__.tag or kind.__name__}`\n\n{inspect.getdoc(kind)}\n{table}"


def _type_name(hint: object) -> str:
    origin, given = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " \\| ".join(f'`"{value}"`' for value in given)
    if origin is tuple and given and given[-1] is Ellipsis:
        return f"list of {_type_name(given[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_type_name, given))}]"
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(map(_type_name, given))
    if hint is type(None):
        return "null"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true/false"}.get(
        getattr(hint, "__name__", ""), f"`{getattr(hint, '__name__', hint)}`"
    )


def tools() -> str:
    """What models are told of each tool."""
    parts = ["# Tools\n", _MADE, "What a model is told of each tool, and the JSON Schema of its arguments.\n"]
    for row in Registry(make_tools(_workshop())).specs():
        schema = json.dumps(row.parameters, indent=2)
        parts.append(f"## {row.name}\n\n{row.text.strip()}\n\n```json\n{schema}\n```\n")
    return "\n".join(parts)


def _workshop() -> Workshop:
    """Nothing of it is used: a tool's words and arguments do not depend on its session."""
    folder, secrets = Path("session"), Secrets({})
    commands, blobs = Commands(folder, Level.FULL), Blobs(folder, secrets)
    return Workshop(
        Roots((), ()), commands, blobs, folder, environ={}, folder=folder, history=_Nothing(), spawn=Lanes()
    )


class _Nothing:
    async def lines(self, after: int = 0) -> list[bytes]:
        return []


def schema() -> str:
    """The JSON Schema of an entry, for programs that read records."""
    return json.dumps(msgspec.json.schema(events.Entry), indent=1) + "\n"


_SETTINGS = """\
What a flag says wins over its variable, that over the workspace's file (`.ml-intern/settings.toml`), that over the
user's (`ml-intern/settings.toml` in the configuration folder, or the file that `ML_INTERN_CONFIG` names), that over the
default. A session that goes on keeps what it had; flags and variables change it, and of the files only the rules do.

A workspace only tightens. What loosens counts after `ml-intern trust` of the file, as long as it stays as it was shown.
"""
_RULES = """\
## Rules

```toml
[rules]
allow = ["publish hub:me/*, private", "spend me, up to 2.50"]
ask = ["reach *.example.org"]
deny = [{ rule = "write *.lock", examples = ["uv.lock"], counter = ["uv.toml"] }]
```

A rule is a verb (read, write, execute, reach, spend, publish, destroy, notify) and a glob over its target; `*` covers
`/`, too. `, private` and `, up to USD` bound what an `allow` grants. The strictest rule that matches wins, in every
mode. No rule and no mode allows what only a person may, each time: leaving the sandbox, making something public,
deleting on a server, another payer. A rule on `execute` reads the text of a command: it is a reminder, the sandbox is
the wall. Examples are checked when the rule is read. `--allow` and `--deny` give rules to one session.
"""
_HOOKS = """\

## Hooks

Commands of your own that are told what happens, as JSON on their standard input. They run as you would run them, in the
workspace and outside the sandbox, from your settings file, or from a workspace's once you trust it (`ml-intern trust`).

```toml
[[hooks]]
name = "no-friday"
event = "before_call"            # or after_call, before_turn, after_turn, held, answered
command = "python3 ~/bin/no_friday.py"
effects = ["publish", "execute git push*"]  # as in rules; without it every call
tools = ["ba*"]                  # by the name that you see; without it every tool
timeout = "10s"                  # at most 10m
on_error = "ask"                 # or ignore
```

A hook that runs a script of the workspace runs what the agent has made of it: `ml-intern trust` holds the settings file
to its bytes, not the files that a command in it names. Keep such scripts outside of workspaces, or in `.ml-intern/`
there, which stays read-only to the agent; `ml-intern doctor` warns of others.

Before a call it is told `event`, `session`, `workspace`, `lane`, `call` (id, tool, arguments), `effects`, `display`,
`quote` and `payer`, and may answer `{"decision": "deny", "reason": "...", "note": "..."}`. `deny` and `ask` tighten;
`allow`, or nothing, leaves the call to the rules as ever. The note is told to the model. Where it ends with another
code than 0, says something else, or takes too long, the call asks, and you are told why. It may be asked again after
a crash or your yes.

What a hook leaves running in the background ends with it.

The other events are told, and waited for at the end of the run only: `after_call` with `outcome` and `text`,
`before_turn` with `text`, `after_turn` with `reason`, `held` with `reason` and `quote`, `answered` with `approve`. Each
run is in the record (`hook_ran`). To hear of a held call on your desktop: `event = "held"`,
`command = "notify-send ml-intern 'a call waits'"`.

## Places that a text named

Files, pages, data, logs and outputs reach the model framed as data. A place that such a text named first and you did
not (a repository, a host, an address, a package index) is asked for before anything is sent there, in every mode,
whatever a rule with a glob allows: name it in your message, in a rule of its own (`--allow 'publish hub:me/model,
private'`), or say yes to the held call. Reading it is free.
"""
_GUARDS = """\
## Guards

```toml
[guards]
repeats = 5
stall = "off"
plan = false
```

Guards look at a turn between its steps. `repeats`: the same call with the same result, or the same round of 2 to 5
calls, so many times in a row; results that change, other arguments and calls that waited ten seconds or more are none.
`stall`: so many steps without a changed file or plan and without a result that was not there before. The model is told
first. If it goes on like that, the turn waits for you where `on_ask` is `hold` (exit code 5; `ml-intern resume` lets it
go on), and ends with exit code 4 and its reason where it is `deny`. `plan`: open items of a plan of this turn are named
once when the model would end, unless it asks you something or tells what failed. Always on: a reply that was cut is
asked for in smaller parts (twice in a row ends the turn), and an empty one is asked for again.
"""
_WORKSPACE: dict[Workspace, str] = {
    "free": "yes",
    "trusted": "when trusted",
    "stricter": "plan, ask",
    "lower": "to lower it",
    "fewer": "to name fewer",
    "on": "to switch it on",
}


def settings() -> str:
    """The table of settings."""
    head = "| setting | takes | default | variable | flag | a workspace may set it | |\n|---|---|---|---|---|---|---|"
    rows = (
        f"| `{each.name}` | {each.form} | {each.default or '(none)'} | `{each.variable}` | `{each.flag}` "
        f"| {_WORKSPACE[each.workspace]} | {each.about} |"
        for each in OPTIONS
    )
    return "\n".join(["# Settings\n", _MADE, _SETTINGS, head, *rows, "", _RULES, _GUARDS, _HOOKS])


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "events.md": record,
    "events.schema.json": schema,
    "settings.md": settings,
    "tools.md": tools,
}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())
        print(f"wrote docs/reference/{name}")
