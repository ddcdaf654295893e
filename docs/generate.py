"""Writes docs/reference/cli.md from the program's own help (`make docs`); a test fails where the page is stale."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "reference" / "cli.md"
_HEAD = """# Commands

Made by `make docs` from the program's own help.
"""
_COMMAND = re.compile(r"^  ([a-z][a-z-]*)(?:  .*)?$")


def page() -> str:
    """The page as it should be now."""
    top = shown()
    commands = [match[1] for line in top.partition("Commands:\n")[2].splitlines() if (match := _COMMAND.match(line))]
    helps = {"ml-intern": top, **{f"ml-intern {command}": shown(command) for command in commands}}
    return _HEAD + "".join(f"\n## {name}\n\n```text\n{text.strip()}\n```\n" for name, text in helps.items())


def shown(*command: str) -> str:
    """What `ml-intern [command] --help` prints, 100 columns wide."""
    code = "from ml_intern.cli.main import main; main()"
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    return re.sub(r"^Usage: -c", "Usage: ml-intern", result.stdout)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(Path.cwd())}" if PAGE.is_relative_to(Path.cwd()) else f"wrote {PAGE}")
