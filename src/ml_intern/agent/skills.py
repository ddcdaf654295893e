"""Skills of the Agent Skills format (agentskills.io/specification): what the head of a `SKILL.md` says, and the lines
by which a model is told of them. Pure; knows no folder and no tool.

Of YAML it reads what heads are written in: `key: text`, quoted texts, blocks (`>` and `|`); other values are skipped.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from msgspec import Struct

from ml_intern.base.text import one_line, visible_line

FILE = "SKILL.md"
NAME_CHARS = 64
DESCRIPTION_CHARS = 1_024
COMPATIBILITY_CHARS = 500

_KEY = re.compile(r"([A-Za-z][\w-]*)[ \t]*:(?:[ \t]+(.*))?$")
_BLOCK = re.compile(r"([>|])([+-]?)\d?([+-]?)$")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "/": "/", "0": "", "r": ""}
_COMMENT = re.compile(r"(?:^|\s)#.*$")


class Skill(Struct, frozen=True):
    """One that can be used. `path` is where a model finds its `SKILL.md`; `source` says whose it is."""

    name: str
    description: str
    path: str
    source: str


class Fault(Struct, frozen=True):
    """Why a folder is no skill, in one sentence; `path` is the file or folder."""

    path: str
    what: str


def read_skill(text: str, folder: str, path: str, source: str) -> Skill | Fault:
    """The skill that `text`, the `SKILL.md` at `path` in a folder called `folder`, describes."""
    head = _head(text)
    if head is None:
        return Fault(path, "It does not begin with a head between two lines of ---.")
    wrong = next(_wrong(head, folder), "")
    if wrong:
        return Fault(path, wrong)
    return Skill(_normal(head["name"]), " ".join(head["description"].split()), path, source)


def _wrong(head: dict[str, str], folder: str) -> Iterator[str]:
    """Sentences on what does not fit the format, the first ones first."""
    for key in ("name", "description"):
        if not head.get(key, "").strip():
            yield f"Its head has no {key}."
    name, description = _normal(head.get("name", "")), head.get("description", "")
    shown = one_line(visible_line(name), NAME_CHARS)
    if len(name) > NAME_CHARS:
        yield f"Its name has {len(name)} characters; at most {NAME_CHARS} fit."
    if name != name.lower() or not all(each.isalnum() or each == "-" for each in name):
        yield f"Its name {shown!r} may only hold lower-case letters, digits and hyphens."
    if name.startswith("-") or name.endswith("-") or "--" in name:
        yield f"Its name {shown!r} may not begin or end with a hyphen, nor hold two in a row."
    if name != _normal(folder):
        yield f"Its name {shown!r} is not that of its folder, {one_line(visible_line(folder), NAME_CHARS)!r}."
    if len(description.strip()) > DESCRIPTION_CHARS:
        yield f"Its description has {len(description.strip()):,} characters; at most {DESCRIPTION_CHARS:,} fit."
    if len(head.get("compatibility", "")) > COMPATIBILITY_CHARS:
        yield f"What it says of compatibility is longer than {COMPATIBILITY_CHARS} characters."


def _normal(name: str) -> str:
    return unicodedata.normalize("NFKC", name.strip())


def listed(skills: Sequence[Skill], limit: int) -> str:
    """A line for each skill within `limit` bytes: whole lines first, then names and paths alone, then a count."""
    long = [
        f"- {one_line(visible_line(each.name), NAME_CHARS)} ({visible_line(each.path)}): {_said(each)}"
        for each in skills
    ]
    short = [line.partition(": ")[0] for line in long]
    spare, lines = limit, list[str]()
    for index, line in enumerate(long):
        later = sum(len(each.encode()) + 1 for each in short[index + 1 :])
        fits = len(line.encode()) + 1 + later <= spare
        kept = line if fits else short[index]
        if len(kept.encode()) + 1 > spare:
            lines.append(f"[{len(long) - index} more skills are left out here]")
            break
        lines.append(kept)
        spare -= len(kept.encode()) + 1
    return "\n".join(lines)


def _said(skill: Skill) -> str:
    return one_line(visible_line(skill.description), DESCRIPTION_CHARS)


def _head(text: str) -> dict[str, str] | None:
    """The texts of the head by key; None where there is no head."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != "---":
        return None
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    return None if end is None else dict(_pairs(lines[1:end]))


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    starts = [number for number, line in enumerate(lines) if _KEY.match(line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        found = _KEY.match(lines[start])
        assert found is not None
        value = _value((found[2] or "").strip(), lines[start + 1 : end])
        if value is not None:
            yield found[1], value


def _value(first: str, rest: list[str]) -> str | None:
    """The text of a value; None where it is a list or a table."""
    if block := _BLOCK.match(_COMMENT.sub("", first)):
        return _block(block[1], rest)
    below = [line.strip() for line in rest if line.strip() and not line.lstrip().startswith("#")]
    is_nested = not first and below and (below[0].startswith("- ") or _KEY.match(below[0]) is not None)
    if first[:1] in {"[", "{"} or is_nested:
        return None
    text = " ".join([first, *below]).strip()
    if text[:1] == '"':
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text[1 : text.rfind('"')])
    if text[:1] == "'":
        return text[1 : text.rfind("'")].replace("''", "'")
    return _COMMENT.sub("", text).strip()


def _block(style: str, lines: list[str]) -> str:
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    plain = [line[indent:].rstrip() for line in lines]
    if style == "|":
        return "\n".join(plain).strip()
    return re.sub(r"\n+", lambda found: "\n" * (len(found[0]) - 1) or " ", "\n".join(plain).strip())
