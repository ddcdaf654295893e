"""What a Python script says of the packages that it needs. Knows no command line and no installer.

Source: https://peps.python.org/pep-0723/.
"""

import re

import msgspec
from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.sandbox.credentials import mask

# The reference regular expression of the specification.
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_START = re.compile(r"(?m)^# /// script$")
_EXAMPLE = 'Write it as: # /// script, then # dependencies = ["numpy"], then # ///.'
_OTHER_SOURCES = (
    "sources",
    "index",
    "index-url",
    "extra-index-url",
    "find-links",
    "no-binary",
    "override-dependencies",
)


class _Written(Struct, frozen=True, rename={"requires_python": "requires-python"}):
    """The header as written. Of `tool.uv` only the names are looked at."""

    dependencies: list[str] = []
    requires_python: str = ""
    tool: dict[str, dict[str, object]] = {}


class Header(Struct, frozen=True):
    """What a script asks for: normalised requirements, sorted, and the Python versions it runs on ("" = any)."""

    dependencies: tuple[str, ...] = ()
    requires_python: str = ""


def header(script_text: str) -> Header | None:
    """The header of a script; None if it has none.

    Raises:
        EnvironmentFailed: two blocks, an open one, bad TOML, or requirements that are no names of an index.
    """
    text = script_text.replace("\r\n", "\n")
    blocks = [
        found for found in _BLOCK.finditer(text if text.endswith("\n") else text + "\n") if found["type"] == "script"
    ]
    if len(blocks) > 1:
        raise EnvironmentFailed("The script has two `# /// script` blocks.", "Keep one.")
    if not blocks:
        if _START.search(text):
            raise EnvironmentFailed("The `# /// script` block has no end, or a line without `#`.", _EXAMPLE)
        return None
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
    )
    import tomllib  # 3 ms at the start of every session, for scripts only

    try:
        return _checked(msgspec.convert(tomllib.loads(content), _Written))
    except tomllib.TOMLDecodeError as error:
        raise EnvironmentFailed(f"The script's header is no TOML: {error}.", _EXAMPLE) from error
    except msgspec.ValidationError as error:
        raise EnvironmentFailed(f"The script's header has a wrong type: {error}.", _EXAMPLE) from error


def _checked(written: _Written) -> Header:
    for name in _OTHER_SOURCES:
        if name in written.tool.get("uv", {}):
            raise EnvironmentFailed(
                f"The script's header sets tool.uv.{name}, which is not used here.",
                "Name packages of the configured indexes in `dependencies` alone.",
            )
    dependencies = sorted({_requirement(item) for item in written.dependencies})
    return Header(tuple(dependencies), _versions(written.requires_python))


def _versions(value: str) -> str:
    try:
        return str(SpecifierSet(value))
    except InvalidSpecifier as error:
        what, remedy = "requires-python names no versions.", 'Write for example ">=3.11". It says:'
        raise EnvironmentFailed(what, remedy, quoted=value) from error


def _requirement(text: str) -> str:
    remedy = "Name a package and its versions, for example scikit-learn>=1.5: only wheels of indexes are installed."
    if text.strip().startswith("-"):
        raise EnvironmentFailed("A dependency is an option, not a requirement.", f"{remedy} It says:", quoted=text)
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        what = "A dependency is no requirement: a path, or badly written."
        raise EnvironmentFailed(what, f"{remedy} It says:", quoted=mask(text, {})) from error
    if found.url:
        raise EnvironmentFailed(f"{found.name} is asked for from a URL or a path.", remedy)
    found.name = canonicalize_name(found.name)
    return str(found)
