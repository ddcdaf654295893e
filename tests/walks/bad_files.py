"""Bad inputs, the other half: variables, settings files, commands about sessions, what lies in the data folder."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping

from tests.walks.bad_inputs import (
    BINARY,
    GOOD,
    HUGE,
    Row,
    file,
    folder,
    link,
    pipe,
    put,
    settings,
    settings_of,
    workspace,
)
from tests.walks.walk import Walk


def variable(name: str, value: str, says: str, code: int = 2) -> Row:
    return Row(GOOD, says, code, env={name: value})


def said(text: str | bytes, says: str) -> Row:
    """The user's settings file says this; all that reads it tells the same."""
    return Row(GOOD, says, made=settings(text))


VARIABLES: dict[str, Row] = {
    "a data folder below a file": variable("ML_INTERN_DATA", "/dev/null/x", "/dev/null cannot be used", code=1),
    "a settings file that is not there": variable("ML_INTERN_CONFIG", "/nowhere/x.toml", "ML_INTERN_CONFIG names"),
    "a settings file that is a folder": variable("ML_INTERN_CONFIG", "/etc", "/etc cannot be read"),
    "a model": Row(("go",), "ML_INTERN_MODEL is empty", env={"ML_INTERN_MODEL": " "}),
    "two main models": Row(
        ("go",),
        "ML_INTERN_MAIN_MODEL and ML_INTERN_MODEL say different",
        env={"ML_INTERN_MODEL": "openai-compatible/m", "ML_INTERN_MAIN_MODEL": "openai-compatible/n"},
    ),
    "an address": Row(
        ("go", "-m", "openai-compatible/m"), "is not a base URL", env={"ML_INTERN_BASE_URL": "not a url"}
    ),
    "a price": variable("ML_INTERN_PRICE", "cheap", "cheap"),
    "a payer": variable("ML_INTERN_BILL_TO", "my org", "ML_INTERN_BILL_TO"),
    "a mode": variable("ML_INTERN_MODE", "wild", "There is no mode 'wild' (ML_INTERN_MODE)"),
    "an answer to asks": variable("ML_INTERN_ON_ASK", "shrug", "ML_INTERN_ON_ASK shrug is not known"),
    "a budget": variable("ML_INTERN_BUDGET", "nan", "ML_INTERN_BUDGET: 'nan' is not an amount"),
    "a day budget": variable("ML_INTERN_DAY_BUDGET", "-1", "ML_INTERN_DAY_BUDGET: '-1' is not an amount"),
    "steps": variable("ML_INTERN_MAX_STEPS", "0", "ML_INTERN_MAX_STEPS 0 leaves nothing to do"),
    "time": variable("ML_INTERN_MAX_TIME", "soon", "ML_INTERN_MAX_TIME soon is not a length of time"),
    "storage": variable("ML_INTERN_STORAGE_MAX", "much", "ML_INTERN_STORAGE_MAX much is not a size"),
    "tools": Row(GOOD, "There is no tool 'raed'", env={"ML_INTERN_TOOLS": "raed"}, begins=True),
    "a text": variable("ML_INTERN_APPEND_SYSTEM", "@nowhere", "nowhere cannot be read"),
    "offline": variable("ML_INTERN_OFFLINE", "perhaps", "ML_INTERN_OFFLINE perhaps is neither"),
    "a level": variable("ML_INTERN_LEVEL", "wild", "level"),
    "a slip in a name": Row(
        ("go",), "Did you mean ML_INTERN_MODE or ML_INTERN_MODEL?", env={"ML_INTERN_MODLE": "x"}, lines=5
    ),
}

TOML: dict[str, Row] = {
    "half a line": said("model = ", "is no TOML"),
    "a line without meaning": said("use the best model\n", "is no TOML"),
    "a name twice": said("mode = 'ask'\nmode = 'plan'\n", "is no TOML"),
    "bytes": said(BINARY, "is no TOML"),
    "too much": said("# " + "x" * HUGE, "is no settings file"),
    "an unknown name": said("modle = 'x'\n", "settings.toml:1: there is no setting 'modle'"),
    "an unknown table": said("[budgets]\nsession = 1\n", "there is no setting"),
    "a name without its table": said("session = 5\n", "[budget]"),
    "a number for a model": Row(("go",), "'3.5' is not provider/model", made=settings("model = 3.5\n")),
    "a truth value for a mode": said("mode = true\n", "mode takes"),
    "a list for a mode": said("mode = ['ask']\n", "mode takes"),
    "a table for steps": said("[max_steps]\nmost = 3\n", "max_steps takes"),
    "words for steps": said("max_steps = 'few'\n", "max_steps few leaves nothing"),
    "half a step": said("max_steps = 1.5\n", "max_steps"),
    "words for a budget": said("[budget]\nsession = 'lots'\n", "'lots' is not an amount"),
    "no number for a budget": said("[budget]\nsession = nan\n", "nan"),
    "no end to a budget": said("[budget]\nday = inf\n", "inf"),
    "a negative budget": said("[budget]\nsession = -1\n", "'-1' is not an amount"),
    "a date for time": said("max_time = 2026-01-01\n", "max_time takes"),
    "words for time": said("max_time = 'soon'\n", "is not a length of time"),
    "words for storage": said("[storage]\nmax = 'much'\n", "is not a size"),
    "numbers for tools": said("tools = [1, 2]\n", "tools takes"),
    "no tools": said("tools = []\n", "names no tool"),
    "an unknown tool": Row(GOOD, "There is no tool 'raed'", made=settings("tools = ['raed']\n"), begins=True),
    "words for offline": said("offline = 'perhaps'\n", "offline"),
    "a text file that is not there": said("append_system = '@nowhere'\n", "nowhere"),
    "an empty text": said("append_system = ''\n", "is empty"),
    "a rule of nonsense": said("[rules]\nallow = ['frobnicate x']\n", "settings.toml:2"),
    "a rule that is a number": said("[rules]\nallow = [1]\n", "a rule is a text"),
    "an unknown kind of rule": said("[rules]\npermit = ['write *']\n", "there is no setting 'rules.permit'"),
    "a rule with an unknown key": said("[rules]\nallow = [{rule = 'write *', why = 'so'}]\n", "a rule has no 'why'"),
    "a rule whose example does not fit": said(
        "[rules]\nallow = [{rule = 'write *.txt', examples = ['a.csv']}]\n", "settings.toml:2"
    ),
    "a folder": Row(GOOD, "settings.toml cannot be read", made=lambda walk: settings_of(walk).mkdir(parents=True)),
    "a pipe": Row(GOOD, "is no settings file", made=pipe(settings_of)),
    "a shut file": Row(GOOD, "cannot be read", made=lambda walk: put(settings_of(walk), "x", 0), bound=True),
    "a workspace's half a line": Row(GOOD, "is no TOML", made=workspace("model = ")),
    "a workspace's unknown name": Row(GOOD, "there is no setting 'modle'", made=workspace("modle = 'x'\n")),
    "a workspace's rule of nonsense": Row(GOOD, "settings.toml:2", made=workspace("[rules]\ndeny = ['x y z']\n")),
    "the same, shown": Row(("settings",), "is no TOML", made=settings("model = ")),
    "the same, trusted": Row(("trust", "--yes"), "is no TOML", made=workspace("model = ")),
}

VERBS: dict[str, Row] = {
    "an unknown verb": Row(("sessions", "frob"), "No such command 'frob'"),
    "no sessions at all": Row(("sessions", "--limit", "0"), "--limit"),
    "fewer sessions than none": Row(("sessions", "--limit=-1"), "--limit"),
    "sessions in words": Row(("sessions", "--limit", "few"), "'few' is not a valid integer"),
    "rename: no such session": Row(("sessions", "rename", "nope", "x"), "There is no session 'nope'"),
    "rename: no title": Row(("sessions", "rename", "last"), "Missing argument 'TITLE...'"),
    "rename: a title of spaces": Row(("sessions", "rename", "last", "  "), "title"),
    "compact: no such session": Row(("sessions", "compact", "nope"), "There is no session 'nope'"),
    "undo: no such session": Row(("sessions", "undo", "nope"), "There is no session 'nope'"),
    "undo: no turns": Row(("sessions", "undo", "last", "-n", "0"), "0"),
    "undo: negative turns": Row(("sessions", "undo", "last", "--turns=-1"), "-1"),
    "undo: more than there are": Row(("sessions", "undo", "last", "-n", "99"), "99"),
    "undo: turns in words": Row(("sessions", "undo", "last", "-n", "two"), "'two' is not a valid integer"),
    "fork: no such session": Row(("sessions", "fork", "nope", "--budget", "1"), "There is no session 'nope'"),
    "fork: no budget": Row(("sessions", "fork", "last"), "Missing option '--budget'"),
    "fork: a budget in words": Row(("sessions", "fork", "last", "--budget", "lots"), "'lots' is not an amount"),
    "fork: a negative budget": Row(("sessions", "fork", "last", "--budget=-1"), "'-1' is not an amount"),
    "fork: up to nothing": Row(("sessions", "fork", "last", "--budget", "1", "--upto", "0"), "0"),
    "fork: up to less than nothing": Row(("sessions", "fork", "last", "--budget", "1", "--upto=-5"), "-5"),
    "fork: up to what is not there": Row(("sessions", "fork", "last", "--budget", "1", "--upto", "9999"), "9999"),
    "fork: up to a word": Row(
        ("sessions", "fork", "last", "--budget", "1", "--upto", "x"), "'x' is not a valid integer"
    ),
    "delete: no such session": Row(("sessions", "delete", "nope", "--yes"), "There is no session 'nope'"),
    "delete: one of two is not there": Row(("sessions", "delete", "last", "nope", "--yes"), "no session 'nope'"),
    "delete: nobody to ask": Row(("sessions", "delete", "last"), "Say it with --yes"),
    "delete: nothing": Row(("sessions", "delete"), "Missing argument"),
    "export: no such session": Row(("sessions", "export", "nope"), "There is no session 'nope'"),
    "export: over a file": Row(("sessions", "export", "last", "a"), "a is there already", made=file("a", "kept")),
    "export: over a folder": Row(("sessions", "export", "last", "a"), "a is there already", made=folder("a")),
    "export: into no folder": Row(("sessions", "export", "last", "no/a"), "cannot be written"),
    "export: into a shut folder": Row(
        ("sessions", "export", "last", "shut/a"), "cannot be written", made=folder("shut", 0o555), bound=True
    ),
    "export: over a link that leads nowhere": Row(
        ("sessions", "export", "last", "l"), "l is there already", made=link("l")
    ),
    "export: a name without end": Row(("sessions", "export", "last", "x" * 300), "cannot be written"),
    "import: no file": Row(("sessions", "import", "nowhere"), "nowhere cannot be read"),
    "import: a folder": Row(("sessions", "import", "."), ". holds no session_"),
    "import: a link that leads nowhere": Row(("sessions", "import", "l"), "l cannot be read", made=link("l")),
    "import: a shut file": Row(("sessions", "import", "a"), "a cannot be read", made=file("a", "x", 0), bound=True),
    "import: nothing": Row(("sessions", "import", "a"), "a", made=file("a", "")),
    "import: bytes": Row(("sessions", "import", "a"), "a", made=file("a", BINARY)),
    "import: words": Row(("sessions", "import", "a"), "a", made=file("a", "Dear diary,\n")),
    "import: other JSON": Row(("sessions", "import", "a"), "a", made=file("a", '{"a": 1}\n')),
    "import: a list": Row(("sessions", "import", "a"), "a", made=file("a", "[1, 2]\n")),
    "import: a line without end": Row(("sessions", "import", "a"), "a", made=file("a", "x" * 3_000_000)),
    "import: nested without end": Row(("sessions", "import", "a"), "a", made=file("a", "[" * 100_000)),
    "import: nothing on stdin": Row(("sessions", "import", "-"), "-"),
    "import: into no folder": Row(
        ("sessions", "import", "a", "--cwd", "no"), "'no' does not exist", made=file("a", "")
    ),
    "gc: no days": Row(("sessions", "gc", "--days", "0"), "--days"),
    "gc: days in words": Row(("sessions", "gc", "--days", "old"), "--days"),
    "gc: days that are no number": Row(("sessions", "gc", "--days", "nan"), "--days"),
    "show: no such session": Row(("show", "nope"), "There is no session 'nope'; the nearest: "),
    "show: an empty name": Row(("show", ""), "There is no session ''"),
    "show: an output that is not kept": Row(("show", "last", "--blob", "0" * 64), "No output is kept under", code=1),
    "show: an output of another place": Row(("show", "--blob", "../../x"), "No output is kept under", code=1),
    "show: an empty output": Row(("show", "--blob", ""), "No output is kept under", code=1),
    "resume: no such session": Row(("resume", "nope"), "There is no session 'nope'; the nearest: "),
    "resume: no such call": Row(("resume", "last", "--approve", "nope"), "No call nope waits", begins=True),
    "resume: no such call to refuse": Row(("resume", "last", "--deny", "nope"), "No call nope waits", begins=True),
    "resume: a rule of nonsense": Row(("resume", "last", "--deny", "frobnicate x"), "--deny"),
    "resume: a message of spaces": Row(("resume", "last", "  "), "The message is empty", begins=True),
    "resume: less than what is spent": Row(("resume", "last", "--budget", "nan"), "'nan' is not an amount"),
    "run: no such session": Row((*GOOD, "--resume", "nope"), "There is no session 'nope'; the nearest: "),
    "say: no such session": Row(("say", "nope", "hi"), "There is no session 'nope'"),
    "say: to nobody": Row(("say",), "Missing argument"),
    "stop: no such session": Row(("stop", "nope"), "There is no session 'nope'"),
    "skills: no folder": Row(("skills", "--cwd", "nowhere"), "there is no such folder"),
    "memory: no folder": Row(("memory", "--cwd", "nowhere"), "there is no such folder"),
    "memory: two things at once": Row(("memory", "--edit", "--clear"), "--edit and --clear do not go together"),
    "trust: no file": Row(("trust",), "There is no"),
    "trust: not there": Row(("trust", "nowhere", "--yes"), "There is no"),
    "trust: a folder": Row(("trust", ".", "--yes"), "cannot be read"),
    "trust: bytes": Row(("trust", "a", "--yes"), "is no TOML", made=file("a", BINARY)),
    "trust: too much": Row(("trust", "a", "--yes"), "is no settings file", made=file("a", "#" * HUGE)),
    "trust: what is not trusted": Row(("trust", "a", "--revoke"), "is not trusted", made=file("a", "")),
    "settings: no folder": Row(("settings", "--cwd", "nowhere"), "there is no such folder"),
    "settings: a word too much": Row(("settings", "x", "y"), "x"),
    "settings: an import of nothing": Row(("settings", "import", "nowhere"), "nowhere cannot be read"),
    "login: nobody": Row(("login",), "No provider was named"),
    "login: an unknown provider": Row(("login", "opnai"), "Did you mean openai?"),
    "login: no key": Row(("login", "openai"), "No key was given"),
    "login: a key of two words": Row(("login", "openai"), "That is no key", stdin=b"sk-a sk-b\n"),
    "logout: an unknown provider": Row(("logout", "opnai"), "Did you mean openai?"),
    "logout: what is not stored": Row(("logout", "openai"), "No key of OpenAI is stored", code=2),
    "models: none at all": Row(("models", "--limit", "0"), "--limit"),
    "models: an unknown provider": Row(("models", "--provider", "opnai"), "Did you mean openai?"),
    "forward: no such session": Row(("forward", "nope", "80"), "There is no session 'nope'"),
    "forward: no such port": Row(("forward", "last", "99999"), "99999 is no port"),
    "doctor: a word too much": Row(("doctor", "x"), "unexpected extra argument"),
    "doctor: an unknown flag": Row(("doctor", "--cure"), "No such option"),
    "demo: a negative seed": Row(("demo", "--seed=-1"), "--seed -1 is no seed", lines=4),
    "demo: a seed in words": Row(("demo", "--seed", "x"), "'x' is not a valid integer"),
    "demo: a file for a workspace": Row(("demo", "--workspace", "a"), "--workspace", made=file("a", ""), lines=4),
}


@contextlib.contextmanager
def database(walk: Walk):
    connection = sqlite3.connect(walk.data / "sessions.db")
    with contextlib.closing(connection), connection:
        yield connection


def event(body: str) -> Callable[[Walk], object]:
    """The session's last event is this."""

    def spoil(walk: Walk) -> None:
        with database(walk) as connection:
            connection.execute("UPDATE events SET body = ? WHERE seq = (SELECT max(seq) FROM events)", (body,))

    return spoil


def version(walk: Walk) -> None:
    with database(walk) as connection:
        connection.execute("PRAGMA user_version = 99")


def letter(walk: Walk) -> None:
    put(walk.data / "sessions.db", b"this is a letter\n" * 1000)


def cut(walk: Walk) -> None:
    path = walk.data / "sessions.db"
    path.write_bytes(path.read_bytes()[:5000])


def shut(walk: Walk) -> None:
    (walk.data / "sessions.db").chmod(0)


SPOILT: Mapping[str, tuple[Callable[[Walk], object], str]] = {
    "a letter for a database": (letter, "is damaged"),
    "half a database": (cut, "damaged"),
    "a database of a later version": (version, "written by a newer version of ml-intern (schema 99"),
    "a shut database": (shut, "sessions.db"),
}
"""What is wrong with the data folder, and what each command about a session says of it (exit 1)."""
DAMAGED: Mapping[str, Callable[[Walk], object]] = {
    "an event that is no JSON": event("{"),
    "an event of another kind": event(json.dumps({"seq": 1, "event": {"kind": "dreamt"}})),
    "an event that is nothing": event(""),
}
"""What is wrong with the one session."""


def left(walk: Walk) -> list[tuple[str, bytes]]:
    """The records and outputs of all sessions, by place: what must be the same after a bad input."""
    kept = [path for path in walk.data.glob("sessions/*/blobs/**/*") if path.is_file()]
    files = [(str(path.relative_to(walk.data)), path.read_bytes()) for path in sorted(kept)]
    with database(walk) as connection:
        rows = connection.execute(
            "SELECT session, seq, CAST(body AS BLOB) FROM events ORDER BY session, seq"
        ).fetchall()
    return [*files, *((f"{session} {seq}", bytes(body)) for session, seq, body in rows)]
