"""The documents say what is so: generated pages are fresh, links lead somewhere, named targets and files exist."""

import re
import runpy
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
_TARGET = re.compile(r"`(?:\$ )?make ([a-z][a-z-]*)|^make ([a-z][a-z-]*)", re.MULTILINE)
_FILE = re.compile(r"`((?:src|tests|bench|docs|\.ci)/[\w./-]+)`")


_GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.mark.parametrize("name", list(_GENERATE["PAGES"]))
def test_a_generated_page_is_what_the_program_says_now(name):
    assert (ROOT / "docs" / "reference" / name).read_text() == _GENERATE["PAGES"][name](), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_targets_and_files_of_a_page_exist(page):
    assert dangling(page, page.read_text()) == []


def dangling(page: Path, text: str) -> list[str]:
    """Links, make targets and files that a page names and that are not there."""
    makefile = (ROOT / "Makefile").read_text()
    targets = [one or other for one, other in _TARGET.findall(text)]
    return [
        *(link for link in _LINK.findall(text) if not (page.parent / link).exists()),
        *(f"make {target}" for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)),
        *(file for file in _FILE.findall(text) if not (ROOT / file).exists()),
    ]


@pytest.mark.parametrize(
    "text", ["[x](docs/none.md)", "run `make nothing`", "```\nmake nothing\n```", "see `src/none.py`"]
)
def test_a_planted_falsehood_is_found(text):
    assert len(dangling(ROOT / "README.md", text)) == 1


@pytest.mark.parametrize(
    "text", ["[x](pyproject.toml)", "[x](https://example.org)", "`make test`", "`tests/conftest.py`"]
)
def test_what_is_there_is_left_alone(text):
    assert dangling(ROOT / "README.md", text) == []


def test_every_target_of_the_makefile_says_what_it_does():
    makefile = (ROOT / "Makefile").read_text()
    public = re.findall(r"^([a-z-]+):(.*)$", makefile, re.MULTILINE)
    assert [name for name, rest in public if "## " not in rest and not name.endswith("-venv")] == []
