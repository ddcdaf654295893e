"""Known secrets out of everything that is kept or shown. Knows only values it was given, no patterns.

A value counts in its plain, JSON-escaped, base64 and URL-quoted forms. Opaque provider state is never rewritten.
"""

import base64
import json
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

SHORTEST = 12
"""Shorter values are not looked for: they would hit ordinary text."""


class Secrets:
    """Named values, which may become more; `clean` replaces each of their forms by `[secret:NAME]`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values: dict[str, str] = {}
        self.learn(values)

    def learn(self, more: Mapping[str, str]) -> None:
        """Know `more` values from here on: a key that was fetched when it was needed."""
        known = set(self._values.values())
        fresh = {f"{name}_LOGIN" if name in self._values else name: each for name, each in more.items()}
        values = self._values = {**self._values, **{name: each for name, each in fresh.items() if each not in known}}
        forms = {
            form: f"[secret:{name}]"
            for name, value in values.items()
            if len(value) >= SHORTEST
            for form in _forms(value)
        }
        self._forms = dict(sorted(forms.items(), key=lambda pair: -len(pair[0])))
        self._labels = tuple(set(self._forms.values()))
        self._prefixes = {form[:length] for form in self._forms for length in range(1, len(form))}

    def in_text(self, text: str) -> bool:
        """Whether any form of a secret stands in `text`."""
        return any(form in text for form in self._forms)

    def labelled(self, text: str) -> bool:
        """Whether a secret stood in `text` before it was cleaned."""
        return any(label in text for label in self._labels)

    def clean(self, text: str) -> str:
        """`text` with every form of a secret replaced."""
        for form, label in self._forms.items():
            if form in text:
                text = text.replace(form, label)
        return text

    def clean_bytes(self, data: bytes) -> bytes:
        """`data` with every UTF-8 form of a secret replaced: for blobs."""
        for form, label in self._forms.items():
            data = data.replace(form.encode(), label.encode())
        return data

    def hold_back(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a secret:
        a stream waits for what follows them.
        """
        longest = min(len(text), max((len(form) for form in self._forms), default=1) - 1)
        return next((size for size in range(longest, 0, -1) if text[-size:] in self._prefixes), 0)


def _forms(value: str) -> set[str]:
    raw = value.encode()
    shifted = {base64.b64encode(b"\0" * pad + raw).decode().rstrip("=") for pad in range(3)}
    # The first and last characters of a shifted form mix with its neighbours in a longer text: only the middle is sure.
    inner = {form[4 if form.startswith("A") else 0 : -1] for form in shifted}
    encodings = {value, json.dumps(value)[1:-1], quote(value, safe=""), quote_plus(value)}
    encodings |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    encodings |= {raw.hex()} | inner
    # Text inside a call's arguments is escaped once, inside the record's line of that call twice.
    for _ in range(2):
        encodings |= {json.dumps(form, ensure_ascii=False)[1:-1] for form in encodings}
    return {form for form in encodings if len(form) >= SHORTEST}


class CleanStream:
    """Cleans a text that arrives in pieces; a secret cut by a piece's border is caught, too."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._held = ""

    def push(self, piece: str) -> str:
        """What may be shown now."""
        text = self._secrets.clean(self._held + piece)
        keep = self._secrets.hold_back(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, at the end."""
        text, self._held = self._held, ""
        return text
