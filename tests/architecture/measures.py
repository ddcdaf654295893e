"""How large a function or class is, measured on its syntax tree. Knows no limit."""

import ast

from tests.architecture.tree import FUNCTIONS, Function, dotted

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith)
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, *FUNCTIONS)


def statements(function: Function) -> int:
    """Statements in the body, nested functions included, the docstring not."""
    inside = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return inside - (ast.get_docstring(function) is not None)


def complexity(function: Function) -> int:
    """McCabe as ruff counts it (C901): one, and one for every branch and nested function.

    A `match` counts its cases but for the one that takes all the rest; expressions count nothing.
    """
    return sum(_branches(node) for node in ast.walk(function))


def _branches(node: ast.AST) -> int:
    match node:
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):
            return 0
        case ast.match_case():
            return 1
        case ast.Try(orelse=[_, *_]):
            return 1
        case _:
            return isinstance(node, _BRANCHES)


def nesting(node: ast.AST) -> int:
    """The deepest chain of blocks as ruff counts it (PLR1702): a `match` is none.

    An `elif` is as deep as its `if`; a nested function starts anew.
    """
    return max((_depth(child, node) for child in ast.iter_child_nodes(node)), default=0)


def _depth(child: ast.AST, parent: ast.AST) -> int:
    if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
        return 0
    is_elif = isinstance(child, ast.If) and isinstance(parent, ast.If) and parent.orelse == [child]
    return nesting(child) + (isinstance(child, _BLOCKS) and not is_elif)


def arguments(function: Function) -> int:
    """Arguments a caller can give: all but `self` and `cls`."""
    arguments = function.args
    names = [item.arg for item in (*arguments.posonlyargs, *arguments.args)]
    own = bool(names) and names[0] in {"self", "cls"}
    return len(names) - own + len(arguments.kwonlyargs) + bool(arguments.vararg) + bool(arguments.kwarg)


def public_methods(class_: ast.ClassDef) -> int:
    """Distinct public methods and properties. Not of a Protocol: there a property declares an attribute."""
    named = [node for node in class_.body if isinstance(node, FUNCTIONS) and not node.name.startswith("_")]
    return len({node.name for node in named if not (is_protocol(class_) and _is_property(node))})


def _is_property(function: Function) -> bool:
    return any(dotted(decorator) == "property" for decorator in function.decorator_list)


def attributes(class_: ast.ClassDef) -> int:
    """What an instance holds: names set on `self`, the fields of dataclasses and structs. Frozen ones count nothing."""
    if is_frozen(class_):
        return 0
    names = {
        node.attr
        for node in ast.walk(class_)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node.value) == "self"
    }
    if any(dotted(each).endswith("dataclass") for each in class_.decorator_list) or is_struct(class_):
        names |= {dotted(node.target) for node in class_.body if isinstance(node, ast.AnnAssign)}
    return len(names)


def is_frozen(class_: ast.ClassDef) -> bool:
    """Whether the class is a dataclass or a struct made with frozen=True."""
    made = [each for each in class_.decorator_list if isinstance(each, ast.Call) and dotted(each).endswith("dataclass")]
    words = [word for each in made for word in each.keywords] + (class_.keywords if is_struct(class_) else [])
    return any(
        word.arg == "frozen" and isinstance(word.value, ast.Constant) and word.value.value is True for word in words
    )


def is_struct(class_: ast.ClassDef) -> bool:
    """Whether the class is a msgspec Struct."""
    return any(dotted(base).endswith("Struct") for base in class_.bases)


def is_protocol(class_: ast.ClassDef) -> bool:
    """Whether the class is a Protocol itself, not an implementation of one."""
    return any(dotted(base).endswith("Protocol") for base in class_.bases)
