"""Decoded JSON of unknown shape, read without surprises. Knows no field."""

from typing import Any, TypeGuard


def fields(value: object) -> dict[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether `value` is an object."""
    return isinstance(value, dict)


def items(value: object) -> list[Any]:
    """`value` where it is an array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def words(value: object) -> str:
    """`value` where it is a text, else an empty one."""
    return value if isinstance(value, str) else ""
