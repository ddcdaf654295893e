"""Secrets of known shapes out of what leaves this machine: exports, notifications, telemetry. Knows no value, no door.

Only shapes that nothing else has: an assignment such as `pad_token = eos_token` is no secret, and code must stay code.
"""

import re

LABEL = "[secret]"

_SHAPES = (
    r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}",
    r"(?<![A-Za-z0-9])hf_(?:oauth|jwt)_[A-Za-z0-9._-]{20,}",
    # OpenAI, Anthropic, OpenRouter, DeepSeek: https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml
    r"(?<![A-Za-z0-9])sk-(?:[A-Za-z0-9]{20,}|(?:ant|proj|or|svcacct|admin|live|test)-[A-Za-z0-9_-]{20,})",
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,}",
    r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{36,}",
    r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}",
    r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{16,}",
    r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}",
    r"(?<![A-Za-z0-9])(?:pypi-AgE|npm_)[A-Za-z0-9_-]{30,}",
    r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}",
    r"(?<![A-Za-z0-9])(?:[Bb]earer|BEARER) (?=[A-Za-z0-9._~+/-]*[0-9])[A-Za-z0-9._~+/-]{20,}=*",
    # A password inside a URL: https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1
    r"(?<=://)[^\s/@:\"'\\]+:[^\s/@\"'\\]+(?=@)",
    # Whole, or cut off: then what still looks like its lines, also where JSON spells out their ends.
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|(?:\s*[A-Za-z0-9+/=]|\\+[nr])*)",
)
_TEXT = re.compile("|".join(_SHAPES), re.DOTALL)
_BYTES = re.compile("|".join(_SHAPES).encode(), re.DOTALL)


def redact(text: str) -> str:
    """`text` with everything that has the shape of a secret replaced by `LABEL`."""
    return _TEXT.sub(LABEL, text)


def redact_bytes(data: bytes) -> bytes:
    """The same for bytes of any encoding that writes ASCII as ASCII."""
    return _BYTES.sub(LABEL.encode(), data)
