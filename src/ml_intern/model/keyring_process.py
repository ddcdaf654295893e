"""A process of its own that speaks with the system's keyring: one that hangs can be ended, one that fails says why.

`get NAME` writes the key to stdout, `set NAME` reads it from stdin, `drop NAME` forgets it. Knows no provider.
"""

import sys

import keyring
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend

SERVICE = "ml-intern"
"""What the keyring files our keys under; the name there is the variable's."""
NO_KEYRING, NO_KEY = 3, 4

# What keeps nothing, or keeps it as plain text.
_NONE = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")


def _keyring() -> KeyringBackend | None:
    found = keyring.get_keyring()
    # Its property is not typed.
    rings: list[KeyringBackend] = list(found.backends) if isinstance(found, ChainerBackend) else [found]
    return next((each for each in rings if not type(each).__module__.startswith(_NONE)), None)


def main(verb: str, name: str) -> int:
    """Do it; the exit code."""
    ring = _keyring()
    if ring is None:
        return NO_KEYRING
    if verb == "set":
        ring.set_password(SERVICE, name, sys.stdin.read())  # pyright: ignore[reportUnknownMemberType] - wrapped untyped
        return 0
    value = ring.get_password(SERVICE, name)
    if value is None:
        return NO_KEY
    if verb == "drop":
        ring.delete_password(SERVICE, name)
    else:
        sys.stdout.write(value)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
