"""Bad inputs, all of them: what is typed, what is found there, what is said. Knows no test.

`{work}`, `{home}` and `{data}` stand for the walk's folders, `{id}` for the one session that its data hold.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.walks.walk import MODEL, Walk

NOWHERE = ("--base-url", "http://127.0.0.1:9/v1")
GOOD = ("go", *MODEL, *NOWHERE)
HUGE = 300_000
"""Bytes that are more than any settings file or added text may have."""


@dataclass(frozen=True)
class Row:
    """One bad input. `bound`: as a user whom permissions bind, where root hides the fault. `begins`: a session is begun
    before it is seen.
    """

    words: tuple[str, ...]
    says: str
    code: int = 2
    made: Callable[[Walk], object] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    bound: bool = False
    lines: int = 3
    begins: bool = False


def flagged(says: str, *words: str, **more: object) -> Row:
    """A good run but for these flags."""
    return Row((*GOOD, *words), says, **more)  # type: ignore[arg-type]


def settings_of(walk: Walk) -> Path:
    return walk.home / ".config" / "ml-intern" / "settings.toml"


def settings(text: str | bytes) -> Callable[[Walk], object]:
    """The user's settings file holds this."""
    return lambda walk: put(settings_of(walk), text)


def workspace(text: str | bytes) -> Callable[[Walk], object]:
    """The workspace's settings file holds this."""
    return lambda walk: put(walk.workspace / ".ml-intern" / "settings.toml", text)


def file(name: str, text: str | bytes, mode: int = 0o644) -> Callable[[Walk], object]:
    """A file of the workspace holds this."""
    return lambda walk: put(walk.workspace / name, text, mode)


def put(path: Path, text: str | bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def folder(name: str, mode: int = 0o755) -> Callable[[Walk], object]:
    def make(walk: Walk) -> None:
        (walk.workspace / name).mkdir()
        (walk.workspace / name).chmod(mode)

    return make


def link(name: str, to: str = "nowhere") -> Callable[[Walk], object]:
    """A link that leads nowhere."""
    return lambda walk: (walk.workspace / name).symlink_to(to)


def pipe(path: Callable[[Walk], Path]) -> Callable[[Walk], object]:
    def make(walk: Walk) -> None:
        path(walk).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path(walk))

    return make


BINARY = bytes(range(256)) * 4

FLAGS: dict[str, Row] = {
    "an unknown flag": flagged("No such option", "--nonsense"),
    "two prompts": flagged("unexpected extra argument", "and more"),
    "a price in words": flagged("cheap", "--price", "cheap"),
    "half a price": flagged("'1'", "--price", "1"),
    "a price of three": flagged("'2/3' is not an amount", "--price", "1/2/3"),
    "a negative price": flagged("'-1' is not an amount", "--price=-1/2"),
    "a price that is no number": flagged("nan", "--price", "nan/nan"),
    "a price without end": flagged("inf", "--price", "1/inf"),
    "an empty price": flagged("--price is empty", "--price", ""),
    "no budget": flagged("budget", "--budget", "0", "--price", "1/1", code=3, lines=4),
    "a negative budget": flagged("'-1' is not an amount", "--budget=-1"),
    "a budget that is no number": flagged("'nan' is not an amount", "--budget", "nan"),
    "a budget without end": flagged("'inf' is not an amount", "--budget", "inf"),
    "a budget beyond reason": flagged("'1e30' is not an amount", "--budget", "1e30"),
    "a budget in words": flagged("'lots' is not an amount", "--budget", "lots"),
    "an empty budget": flagged("--budget: '' is not an amount", "--budget", ""),
    "a day budget in words": flagged("--day-budget: 'lots' is not an amount", "--day-budget", "lots"),
    "a negative day budget": flagged("--day-budget: '-1' is not an amount", "--day-budget=-1"),
    "no storage": flagged("--storage-max 0 is not a size", "--storage-max", "0"),
    "storage in words": flagged("--storage-max much is not a size", "--storage-max", "much"),
    "negative storage": flagged("is not a size", "--storage-max=-5GB"),
    "storage that is used up": flagged("more than the 1.0 kB that storage.max allows", "--storage-max", "1KB", code=1),
    "an unknown mode": flagged("There is no mode 'wild'", "--mode", "wild"),
    "a misspelt mode": flagged("Did you mean plan?", "--mode", "plam"),
    "an empty mode": flagged("There is no mode ''", "--mode", ""),
    "an unknown answer to asks": flagged("--on-ask shrug is not known", "--on-ask", "shrug"),
    "no steps": flagged("--max-steps 0 leaves nothing to do", "--max-steps", "0"),
    "negative steps": flagged("--max-steps -1 leaves nothing to do", "--max-steps=-1"),
    "steps in words": flagged("'few' is not a valid integer", "--max-steps", "few"),
    "half a step": flagged("'1.5' is not a valid integer", "--max-steps", "1.5"),
    "no time": flagged("--max-time 0 is not a length of time", "--max-time", "0"),
    "time in words": flagged("--max-time soon is not a length of time", "--max-time", "soon"),
    "a negative time": flagged("is not a length of time", "--max-time=-5s"),
    "time that is no number": flagged("is not a length of time", "--max-time", "nan"),
    "no such hour": flagged("25:00", "--until", "25:00"),
    "until in words": flagged("tomorrow", "--until", "tomorrow"),
    "until nothing": flagged("--until", "--until", ""),
    "for no time": flagged("--for 0 is not a length of time", "--for", "0"),
    "for a negative time": flagged("is not a length of time", "--for=-1h"),
    "for in words": flagged("--for ever is not a length of time", "--for", "ever"),
    "for all time": flagged("--for 99999999h is longer than a year", "--for", "99999999h"),
    "two deadlines": flagged("--until", "--until", "06:00", "--for", "1h"),
    "an unknown effort": flagged("There is no effort 'much'", "--effort", "much"),
    "no model for research": flagged("--research-model names no model", "--research-model", " "),
    "an unknown effort for research": flagged("There is no effort 'much'", "--research-effort", "much"),
    "no model for compaction": flagged("--compaction-model names no model", "--compaction-model", " "),
    "an unknown effort for compaction": flagged("There is no effort 'much'", "--compaction-effort", "much"),
    "no model for title": flagged("--title-model names no model", "--title-model", " "),
    "an unknown effort for title": flagged("There is no effort 'much'", "--title-effort", "much"),
    "no model for judge": flagged("--judge-model names no model", "--judge-model", " "),
    "an unknown effort for judge": flagged("There is no effort 'much'", "--judge-effort", "much"),
    "a main model of nothing": flagged("--main-model names no model", "--main-model", " "),
    "two main models": flagged("--main-model and --model say different", "--main-model", "openai-compatible/other"),
    "a fallback of nothing": flagged("--fallback names no model", "--fallback", " "),
    "a fallback without a key": Row(
        ("go", *MODEL, "--base-url", "http://127.0.0.1:9/v1", "--fallback", "openai/gpt-5"),
        "openai/gpt-5 (main): OpenAI wants a key",
    ),
    "a share that is none": flagged("--compact-at 2 is no share", "--compact-at", "2"),
    "a share in words": flagged("--compact-at", "--compact-at", "half"),
    "no repeats": flagged("--guard-repeats 0 is neither", "--guard-repeats", "0"),
    "a stall in words": flagged("--guard-stall never is neither", "--guard-stall", "never"),
    "a plan that may be": flagged("--guard-plan maybe is neither", "--guard-plan", "maybe"),
    "what cannot join": flagged("nothing that is called 'x' can join", "--join", "x"),
    "an unknown tool": flagged("There is no tool 'raed'", "--tools", "raed", begins=True),
    "no tools": flagged("--tools names no tool", "--tools", ""),
    "commas for tools": flagged("--tools names no tool", "--tools", ",,"),
    "an empty rule": flagged("--allow", "--allow", ""),
    "a rule of nonsense": flagged("--allow", "--allow", "frobnicate x"),
    "a rule about nothing": flagged("--allow", "--allow", "publish"),
    "an empty denial": flagged("--deny", "--deny", " "),
    "a denial of nonsense": flagged("--deny", "--deny", "frobnicate x"),
    "a payer of two words": flagged("is no name of an organisation", "--bill-to", "my org"),
    "a picture that is not there": flagged("--image", "--image", "nowhere"),
    "a picture that is a folder": flagged("--image", "--image", "."),
    "a picture of nothing": flagged("--image b: it is no picture", "--image", "b", made=file("b", "")),
    "a picture of bytes": flagged("--image b: it is no picture", "--image", "b", made=file("b", BINARY)),
    "a picture that is shut": flagged("--image", "--image", "b", made=file("b", "x", 0), bound=True),
    "an unknown level": flagged("level", "--level", "wild"),
    "no level": flagged("nobody watches", "--level", "none"),
    "an unknown output": flagged("'xml' is not one of", "--output-format", "xml"),
    "a value for a switch": flagged("does not take a value", "--quiet=yes"),
    "an empty prompt": Row(("", *MODEL, *NOWHERE), "There is no prompt"),
    "a prompt of spaces": Row(("  \n ", *MODEL, *NOWHERE), "There is no prompt"),
    "an empty stdin": Row((*MODEL, *NOWHERE), "There is no prompt"),
    "a stdin of spaces": Row((*MODEL, *NOWHERE), "There is no prompt", stdin=b" \n\n"),
    "a dash and no stdin": Row(("-", *MODEL, *NOWHERE), "There is no prompt"),
}

PLACES: dict[str, Row] = {
    "a workspace that is not there": flagged("there is no such folder", "--cwd", "nowhere"),
    "a workspace that is a file": flagged("there is no such folder", "--cwd", "/etc/passwd"),
    "a workspace that leads nowhere": flagged("there is no such folder", "--cwd", "gone", made=link("gone")),
    "a workspace of itself": flagged("--cwd", "--cwd", "loop", made=link("loop", "loop")),
    "a workspace beyond a file name": flagged("--cwd", "--cwd", "x" * 5000),
    "the root as workspace": flagged("The workspace / ", "--cwd", "/"),
    "the home as workspace": flagged("holds your whole home folder", "--cwd", "{home}"),
    "a folder around the home": flagged("holds your whole home folder", "--cwd", "{home}/.."),
    "a system folder": flagged("lies in /etc, which stays read-only", "--cwd", "/etc"),
    "the shared /tmp": flagged("The workspace ", "--cwd", "/tmp"),
    "our own data": flagged("our own data", "--cwd", "{data}/sessions"),
    "a workspace that may not be written": flagged("shut", "--cwd", "shut", made=folder("shut", 0o555), bound=True),
    "a workspace that may not be entered": flagged("shut", "--cwd", "shut", made=folder("shut", 0o000), bound=True),
}

MODELS: dict[str, Row] = {
    "no model": Row(("go",), "No model was named", lines=4),
    "an empty model": flagged("--model is empty", "--model", " "),
    "an unknown provider": Row(("go", "--model", "depseek/chat"), "Did you mean deepseek/chat?"),
    "a model without provider": Row(("go", "--model", "gpt-5"), "Did you mean openai/gpt-5?"),
    "a provider without model": Row(("go", "--model", "openai/"), "names no model of OpenAI"),
    "no key": Row(("go", "--model", "openai/gpt-5"), "OpenAI wants a key"),
    "no key for Anthropic": Row(("go", "--model", "anthropic/claude-sonnet-4-5"), "Anthropic wants a key"),
    "a key of two lines": Row(
        ("go", "--model", "openai/gpt-5"), "OPENAI_API_KEY holds", env={"OPENAI_API_KEY": "sk-a\nsk-b"}
    ),
    "a key with a space": Row(
        ("go", "--model", "openai/gpt-5"), "OPENAI_API_KEY holds", env={"OPENAI_API_KEY": "sk-a sk-b"}
    ),
    "a model without price": Row(
        ("go", "--model", "openai/gpt-5-mimi"), "--price IN/OUT", env={"OPENAI_API_KEY": "sk-aaaaaaaaaaaaaaaaaaaa"}
    ),
    # The address is one for documentation (RFC 5737); nothing is sent before the price is known.
    "no price": Row(("go", *MODEL, "--base-url", "http://192.0.2.1/v1"), "--price IN/OUT"),
    "no address": Row(("go", *MODEL), "names no address"),
    "an address that is none": Row(("go", *MODEL, "--base-url", "not a url"), "is not a base URL"),
    "an empty address": Row(("go", *MODEL, "--base-url", ""), "--base-url is empty"),
    "an address of another protocol": Row(("go", *MODEL, "--base-url", "ftp://127.0.0.1/"), "is not a base URL"),
    "a port too many": Row(("go", *MODEL, "--base-url", "http://127.0.0.1:99999/"), "is not a base URL"),
    "a port in words": Row(("go", *MODEL, "--base-url", "http://127.0.0.1:http/"), "is not a base URL"),
    "half an IPv6 address": Row(("go", *MODEL, "--base-url", "http://[::1/v1"), "is not a base URL"),
    "a password in an address": Row(("go", *MODEL, "--base-url", "http://a:b@127.0.0.1/"), "may hold no password"),
}

TEXTS: dict[str, Row] = {
    "an empty text": flagged("--append-system is empty", "--append-system", ""),
    "a text file that is not there": flagged("cannot be read", "--append-system", "@nowhere"),
    "a text file without name": flagged("cannot be read", "--append-system", "@"),
    "a text file that is a folder": flagged("cannot be read", "--append-system", "@."),
    "a text file that leads nowhere": flagged("cannot be read", "--append-system", "@gone", made=link("gone")),
    "a text file of bytes": flagged("cannot be read", "--append-system", "@b", made=file("b", BINARY)),
    "a text file too long": flagged("longer than", "--append-system", "@b", made=file("b", "x" * HUGE)),
    "a text file without text": flagged("b holds nothing", "--append-system", "@b", made=file("b", " \n")),
    "a text file that is shut": flagged("cannot be read", "--append-system", "@b", made=file("b", "x", 0), bound=True),
    "a text file that is a pipe": flagged(
        "b holds nothing", "--append-system", "@b", made=pipe(lambda walk: walk.workspace / "b")
    ),
    "a text file of a user": flagged("cannot be read", "--append-system", "@~nobodyhome/x"),
    "a schema that is not there": flagged("cannot be read", "--output-schema", "nowhere"),
    "a schema without name": flagged("cannot be read", "--output-schema", ""),
    "a schema that is a folder": flagged("cannot be read", "--output-schema", "."),
    "a schema that leads nowhere": flagged("cannot be read", "--output-schema", "gone", made=link("gone")),
    "a schema of bytes": flagged("cannot be read", "--output-schema", "b", made=file("b", BINARY)),
    "a schema too long": flagged("longer than", "--output-schema", "b", made=file("b", "x" * HUGE)),
    "an empty schema": flagged("b holds nothing", "--output-schema", "b", made=file("b", "")),
    "a schema of words": flagged("--output-schema b", "--output-schema", "b", made=file("b", "an object, please")),
    "a schema that is a list": flagged("--output-schema b", "--output-schema", "b", made=file("b", "[1]")),
    "a schema of an unknown type": flagged(
        "--output-schema b", "--output-schema", "b", made=file("b", '{"type": "thing"}')
    ),
    "a schema of an unknown keyword": flagged(
        "--output-schema b", "--output-schema", "b", made=file("b", '{"if": {"type": "object"}}')
    ),
    "a schema with half a pattern": flagged(
        "--output-schema b", "--output-schema", "b", made=file("b", '{"type": "string", "pattern": "("}')
    ),
    "a schema nested without end": flagged(
        "--output-schema b", "--output-schema", "b", made=file("b", '{"not":' * 9_000 + "{}" + "}" * 9_000)
    ),
    "a schema that is shut": flagged("cannot be read", "--output-schema", "b", made=file("b", "{}", 0), bound=True),
}
