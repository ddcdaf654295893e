import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.policy.answer import check_schema, misfit

SCHEMA = {
    "type": "object",
    "properties": {
        "accuracy": {"type": "number", "minimum": 0, "maximum": 1},
        "files": {"type": "array", "items": {"type": "string", "pattern": "^[^/]"}, "minItems": 1, "uniqueItems": True},
        "kind": {"enum": ["linear", "tree", 1]},
        "rows": {"type": "integer", "exclusiveMinimum": 0},
        "note": {"$ref": "#/$defs/text"},
    },
    "required": ["accuracy"],
    "additionalProperties": False,
    "$defs": {"text": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]}},
}

FITS = [
    {"accuracy": 1},
    {"accuracy": 0.5, "files": ["a.py"], "kind": "tree", "rows": 2.0, "note": None},
    {"accuracy": 0, "note": "abc", "kind": 1},
]
MISFITS = {
    "accuracy": ({}, "the answer lacks 'accuracy'"),
    "a number": ({"accuracy": "1"}, "the answer.accuracy must be of type number"),
    "true is no number": ({"accuracy": True}, "must be of type number"),
    "too much": ({"accuracy": 1.5}, "must be at most 1"),
    "no items": ({"accuracy": 1, "files": []}, "have at least this many items: 1"),
    "inside a list": ({"accuracy": 1, "files": ["a", 3]}, "the answer.files[1] must be of type string"),
    "a pattern": ({"accuracy": 1, "files": ["/a"]}, "must match '^[^/]'"),
    "twice": ({"accuracy": 1, "files": ["a", "a"]}, "must not hold the same twice"),
    "a choice": ({"accuracy": 1, "kind": True}, "must be one of 'linear', 'tree', 1"),
    "more than": ({"accuracy": 1, "rows": 0}, "must be more than 0"),
    "a part of a number": ({"accuracy": 1, "rows": 1.5}, "must be of type integer"),
    "alternatives": ({"accuracy": 1, "note": "abcd"}, "fits none of the alternatives"),
    "one more": ({"accuracy": 1, "f1": 1}, "the answer.f1 may not be there"),
    "a list": ([], "must be of type object"),
}


@pytest.mark.parametrize("value", FITS, ids=repr)
def test_what_fits_is_no_misfit(value):
    assert misfit(json.dumps(SCHEMA), json.dumps(value)) == ""


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_named_with_its_place(name):
    value, said = MISFITS[name]
    assert said in misfit(json.dumps(SCHEMA), json.dumps(value))


@pytest.mark.parametrize("answer", ["", "Here it is: {}", "```json\n{}\n```", "NaN", "{}{}", "[" * 100_000])
def test_what_is_no_json_is_told(answer):
    assert misfit("{}", answer)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "3",
        '{"tipe": "object"}',
        '{"type": "text"}',
        '{"pattern": "("}',
        '{"minimum": "0"}',
        '{"properties": []}',
        '{"items": 3}',
        '{"required": "a"}',
        '{"$ref": "http://x"}',
        '{"properties": {"a": {"oneOf": []}}}',
    ],
)
def test_a_schema_that_would_not_be_checked_whole_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        check_schema(text)


def test_a_schema_that_names_itself_comes_to_an_end():
    loop = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    check_schema(json.dumps(loop))
    assert "nested too deeply" in misfit(json.dumps(loop), "1")
    assert "lacks #/$defs/b" in misfit('{"$ref": "#/$defs/b"}', "1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_every_value_fits_itself_and_the_empty_schema(value):
    answer = json.dumps(value)
    assert misfit("{}", answer) == ""
    assert misfit(json.dumps({"const": value}), answer) == ""
