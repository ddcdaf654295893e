import re

from ml_intern.base import errors
from ml_intern.base.errors import MlInternError, StoreFailed


def below(kind: type[MlInternError]) -> set[str]:
    return {kind.__name__}.union(*(below(each) for each in kind.__subclasses__() if each.__module__ == errors.__name__))


def test_the_tree_that_is_drawn_is_the_tree_that_is():
    drawn = set(re.findall(r"[│├└─ ]+((?:[A-Z]\w+ *)+)", errors.__doc__ or ""))
    names = {name for group in drawn for name in group.split()}
    assert below(MlInternError) - {"MlInternError"} <= names


def test_an_error_says_what_and_what_to_do():
    error = StoreFailed("The disk is full.", "Free some space.")
    assert str(error) == "The disk is full. Free some space."
    assert (error.what, error.remedy) == ("The disk is full.", "Free some space.")
    assert str(StoreFailed("The disk is full.")) == "The disk is full."
