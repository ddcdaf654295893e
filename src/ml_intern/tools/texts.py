"""The words of a tool for the model: its .md beside its module, with limits filled in. Knows no tool."""

from pathlib import Path


def text_of(module: str, **limits: int) -> str:
    """The text beside `module` (its `__file__`), each limit in its place: `{name}` in the text, thousands separated."""
    text = Path(module).with_suffix(".md").read_text(encoding="utf-8")
    return text.format(**{name: f"{limit:,}".replace(",", " ") for name, limit in limits.items()}).strip()
