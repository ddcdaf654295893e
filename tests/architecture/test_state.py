"""No module holds state that changes: what is shared has an owner that is made and handed on."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import FUNCTIONS, Source, dotted, source, sources

_MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_MAKERS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict", "WeakValueDictionary"}
_MAKERS |= {"WeakSet", "WeakKeyDictionary", "Queue", "Lock", "RLock", "Event", "Semaphore", "Condition", "ContextVar"}
_CHANGES = {"append", "add", "update", "setdefault", "pop", "popitem", "clear", "extend", "insert", "remove", "discard"}


def shared_state(file: Source) -> Iterator[str]:
    constants = {name for name, _ in _assigned(file.tree)}
    for name, value in _assigned(file.tree):
        if name != "__all__" and not name.strip("_").isupper() and _is_mutable(value):
            yield f"{file.path}:{value.lineno}: {name} can be changed by anyone"
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Global):
            yield f"{file.path}:{node.lineno}: global {', '.join(node.names)}"
    for function in ast.walk(file.tree):
        if isinstance(function, FUNCTIONS):
            yield from (f"{file.path}:{line}: {name} is changed" for line, name in _changes(function, constants))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((dotted(target), value) for target in targets)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield dotted(target), value
            case _:
                pass


def _is_mutable(value: ast.expr) -> bool:
    return isinstance(value, _MUTABLE) or (isinstance(value, ast.Call) and dotted(value).rpartition(".")[2] in _MAKERS)


def _changes(function: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _CHANGES:
                changed = name
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                changed = name
            case _:
                continue
        if changed in names and changed not in _locals(function):
            yield node.lineno, changed


def _locals(function: ast.AST) -> set[str]:
    assigned = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return assigned | {n.arg for n in ast.walk(function) if isinstance(n, ast.arg)}


def test_no_module_holds_state_that_changes():
    assert [found for file in sources() for found in shared_state(file)] == []


@pytest.mark.parametrize(
    "text",
    [
        "cache = {}",
        "_seen: list[str] = []",
        "jobs = collections.defaultdict(list)",
        "lock = asyncio.Lock()",
        "x = 0\ndef f():\n    global x\n    x = 1",
        "SEEN = set()\ndef f(a):\n    SEEN.add(a)",
        "TABLE = {}\nclass C:\n    def f(self, a):\n        TABLE[a] = 1",
    ],
)
def test_planted_state_is_found(text):
    assert len(list(shared_state(source("x.py", text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "TABLE = {'a': 1}",
        "__all__ = ['f']",
        "words = ('a', 'b')",
        "NAMES = frozenset({'a'})",
        "items = ()\ndef f(items):\n    items.append(1)",
        "adapter = TypeAdapter(int)",
    ],
)
def test_constants_and_locals_are_left_alone(text):
    assert list(shared_state(source("x.py", text))) == []
