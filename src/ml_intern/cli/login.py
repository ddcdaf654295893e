"""`ml-intern login` and `logout`: a provider's key is taken without an echo, kept, listed and forgotten.

Knows no wire and asks no server.
"""

import getpass
import os
import sys

from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain
from ml_intern.model import login as kept
from ml_intern.model.catalog import PROVIDERS, Provider, find_provider
from ml_intern.model.keys import Key, find_key, given, hub_token_file, masked

_MOST_CHARS = 16_384


def login(name: str | None, more: tuple[str, ...]) -> Exit:
    """Take a key and keep it; one line says where."""
    try:
        provider = _wanted(name, more)
        variable = provider.keys[0]
        place, why = kept.keep(variable, given(provider.id, provider.title, _typed(provider)), os.environ)
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    file = kept.folder(os.environ) / variable
    where = "the system's keyring" if place == "keyring" else f"{visible_line(str(file))}, for you alone (0600)"
    sys.stdout.write(f"The key of {provider.title} is kept in {where}.\n")
    for note in (f"Not in a keyring: {visible_line(why)}." if why else "", _covered(provider), _covers(provider)):
        sys.stderr.write(f"{note}\n" if note else "")
    return Exit.DONE


def logout(name: str) -> Exit:
    """Forget the key of a provider."""
    try:
        provider = _keyed(name)
        _forget(provider)
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    sys.stdout.write(f"The key of {provider.title} is forgotten.\n")
    if _covered(provider):
        sys.stderr.write(f"{_covered(provider)}\n")
    return Exit.DONE


def listing() -> Exit:
    """Every key that is to be found, masked, and where it lies; 1 if one cannot be read."""
    rows: dict[tuple[str, str], tuple[str, str, str]] = {}
    failed = False
    for provider in PROVIDERS.values():
        try:
            key = find_key(provider.keys, os.environ)
        except BadSettings as error:
            complain(error)
            failed = True
            continue
        if key is not None:
            # A key of two providers is one row, of the first.
            rows.setdefault((key.name, key.place), (provider.id, masked(key.value), _place(key)))
    if not rows and not failed:
        sys.stdout.write("No keys. `ml-intern login PROVIDER` keeps one.\n")
    widths = [max(len(row[column]) for row in rows.values()) for column in (0, 1)] if rows else []
    for row in rows.values():
        sys.stdout.write(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {visible_line(row[2])}\n")
    for path in kept.open_to_others(os.environ):
        sys.stderr.write(f"Others can read {visible_line(str(path))}: `chmod go= {visible_line(str(path))}`\n")
    return Exit.FAILED if failed else Exit.DONE


def _wanted(name: str | None, more: tuple[str, ...]) -> Provider:
    if more:
        what = "A key on the command line stays in the shell's history and in the list of processes."
        raise BadSettings(what, "Leave it out: it is asked for, or read from stdin. Then change that key.")
    if not name:
        raise BadSettings("No provider was named.", f"Name one: {', '.join(PROVIDERS)}. --list shows your keys.")
    return _keyed(name)


def _forget(provider: Provider) -> None:
    # Every one must be tried.
    gone = [variable for variable in provider.keys if kept.drop(variable, os.environ)]
    if not gone:
        raise BadSettings(f"No key of {provider.title} is stored.", _elsewhere(provider))


def _keyed(name: str) -> Provider:
    provider = find_provider(name)
    if not provider.keys:
        raise BadSettings(f"{provider.title} takes no key.", f"It takes {provider.keyless}.")
    return provider


def _typed(provider: Provider) -> str:
    """What a person types, unseen; or what stdin says."""
    if not sys.stdin.isatty():
        return sys.stdin.read(_MOST_CHARS + 1)
    try:
        return getpass.getpass(f"Key of {provider.title} (it is not shown): ")
    except EOFError:
        sys.stderr.write("\n")
        return ""


def _place(key: Key) -> str:
    match key.place:
        case "environment":
            return f"environment: {key.name}"
        case "keyring":
            return "keyring"
        case "file":
            return f"file: {kept.folder(os.environ) / key.name}"
        case "hub":
            return f"file: {key.source} (`hf auth login`)"


def _covered(provider: Provider) -> str:
    """That a variable of the environment goes before what is stored."""
    name = next((each for each in provider.keys if os.environ.get(each, "").strip()), "")
    return f"Note: {name} is set in the environment and goes before a stored key." if name else ""


def _covers(provider: Provider) -> str:
    """That what is stored goes before the Hub's own login."""
    path = hub_token_file(os.environ)
    is_hub = provider.id == "hf" and path.is_file()
    return f"Note: it goes before {visible_line(str(path))}, which `hf auth login` keeps." if is_hub else ""


def _elsewhere(provider: Provider) -> str:
    if name := next((each for each in provider.keys if os.environ.get(each, "").strip()), ""):
        return f"It comes from the environment: unset {name}."
    if provider.id == "hf" and hub_token_file(os.environ).is_file():
        return "It comes from the Hub's own login: `hf auth logout`."
    return "`ml-intern login --list` lists what is stored."
