import json
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from msgspec import Meta

from ml_intern.toolkit.schema import Arguments, Invalid, parse, schema_of


class Step(Arguments, frozen=True):
    """A step; this sentence is for us."""

    id: str
    status: Literal["open", "done"]


class Given(Arguments, frozen=True):
    """What a model sends."""

    path: Annotated[str, Meta(description="The file.")]
    offset: Annotated[int, Meta(ge=1)] = 1
    ratio: float | None = None
    deep: bool = False
    steps: Annotated[tuple[Step, ...], Meta(description="The steps.")] = ()
    last: Step | None = None
    title: Annotated[str | None, Meta(description="A name.")] = None


class Loop(Arguments, frozen=True):
    """Contains itself."""

    inner: "Loop | None" = None


def told(raw: str) -> str:
    found = parse(Given, raw)
    assert isinstance(found, Invalid)
    return found.text


def fine(raw: str) -> Given:
    found = parse(Given, raw)
    assert isinstance(found, Given)
    return found


def test_the_schema_is_closed_inlined_and_without_titles_or_nulls():
    assert schema_of(Given) == snapshot(
        {
            "required": ["path"],
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "path": {"description": "The file.", "type": "string"},
                "offset": {"default": 1, "minimum": 1, "type": "integer"},
                "ratio": {"type": "number"},
                "deep": {"default": False, "type": "boolean"},
                "steps": {
                    "default": (),
                    "description": "The steps.",
                    "type": "array",
                    "items": {
                        "required": ["id", "status"],
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "id": {"type": "string"},
                            "status": {"enum": ["done", "open"], "type": "string"},
                        },
                    },
                },
                "last": {
                    "required": ["id", "status"],
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "id": {"type": "string"},
                        "status": {"enum": ["done", "open"], "type": "string"},
                    },
                },
                "title": {"description": "A name.", "type": "string"},
            },
        }
    )


def test_a_schema_is_made_once():
    assert schema_of(Given) is schema_of(Given)


def test_arguments_that_contain_themselves_are_a_programmers_error():
    with pytest.raises(ValueError, match="Loop contains itself"):
        schema_of(Loop)


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        ('{"path": "a"}', "path", "a"),
        ('{"path": "a", "offset": "5"}', "offset", 5),
        ('{"path": "a", "offset": 5.0}', "offset", 5),
        ('{"path": "a", "ratio": "0.5"}', "ratio", 0.5),
        ('{"path": "a", "deep": "true"}', "deep", True),
        ('{"path": "a", "offset": null, "title": null}', "offset", 1),
        ('"{\\"path\\": \\"a\\", \\"offset\\": 3}"', "offset", 3),
        (
            '{"path": "a", "steps": "[{\\"id\\": \\"1\\", \\"status\\": \\"done\\"}]"}',
            "steps",
            (Step(id="1", status="done"),),
        ),
        ('{"path": "two\nlines"}', "path", "two\nlines"),
        ('{"path": "[1, 2]"}', "path", "[1, 2]"),
        ('{"path": "5"}', "path", "5"),
        ('{"path": "\\ud83d\\ude00"}', "path", "😀"),
    ],
)
def test_sloppy_but_safe_json_is_understood(raw, field, value):
    assert getattr(fine(raw), field) == value


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("", "`path` is missing. The arguments are: `path`, `offset` (optional)"),
        ("{}", "`path` is missing."),
        ('{"path": 1}', "`path` is a number (1): expected `str`, got `int`."),
        ('{"path": null}', "`path` is null: expected `str`, got `null`."),
        ('{"file_path": "a"}', "There is no argument `file_path`: did you mean `path`?"),
        ('{"path": "a", "zzz": 1}', "There is no argument `zzz`."),
        ('{"path": "a", "offset": 0}', "`offset` is a number (0): expected `int` >= 1."),
        ('{"path": "a", "offset": "x"}', '`offset` is a string ("x"): expected `int`, got `str`.'),
        ('{"path": "a", "offset": 1.5}', "`offset` is a number (1.5): expected `int`, got `float`."),
        ('{"path": "a", "steps": [{"id": "1", "status": "x"}]}', "expected one of 'done', 'open'."),
        ('{"path": 1, "offset": 0}', "`path` is a number (1): expected `str`, got `int`. `offset` is a number (0)"),
        ('{"path": "a", "steps": [{"id": "1"}]}', "`steps[0].status` is missing."),
        ('{"path": "a", "steps": [{"id": "1", "state": "done"}]}', "`steps[0].state`: did you mean `status`?"),
        ('{"path": "a", "steps": "[1"}', '`steps` is a string ("[1"): expected `array`, got `str`.'),
        ("[1]", "The arguments must be one JSON object, not a list."),
        ('"\\"text\\""', "The arguments must be one JSON object, not a string."),
        ('{"path": "a" "b"}', "The arguments are not valid JSON: Expecting ',' delimiter at line 1, column 14, near '"),
        ('{"path": "a"} {"path": "b"}', "The arguments are not valid JSON: Extra data at line 1, column 15"),
        ('{"path": "a', "The arguments end too early, after …'{\"path\": \"a': they are not complete JSON"),
        ('{"path": "a"', "The arguments end too early"),
        ('{"path": "\\ud800"}', "it holds half of a surrogate pair"),
        ("[" * 100_000, "The arguments are not usable JSON: maximum recursion depth"),
        ("9" * 5_000, "The arguments are not usable JSON: Exceeds the limit"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_so_that_it_can_be_mended(raw, sentence):
    assert sentence in told(raw)


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["path", "offset", "steps", "x"]), inner),
    ).map(json.dumps)
)
def test_nothing_a_model_writes_raises(raw):
    found = parse(Given, raw)
    assert isinstance(found, (Given, Invalid))
    if isinstance(found, Invalid):
        assert found.text.encode()
