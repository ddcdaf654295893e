import pytest

from ml_intern.record.display import TextDisplay
from ml_intern.record.events import ToolStarted
from ml_intern.toolkit.registry import Registry, Row
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result


class Nothing(Arguments, frozen=True):
    """No arguments."""


class Named:
    """A tool that has a name and does nothing."""

    text = "Does nothing."
    args: type[Arguments] = Nothing

    def __init__(self, name: str) -> None:
        self.name = name

    async def prepare(self, args: Nothing, context: Context) -> Prepared:
        return Prepared((), TextDisplay(self.name), "pure")

    async def run(self, prepared: Prepared, context: Context) -> Result:
        return Result("", TextDisplay(self.name))

    async def recover(self, args: Nothing, started: ToolStarted, context: Context) -> Result | None:
        return None


def test_tools_are_found_by_exactly_their_name_in_the_order_given():
    first, second = Named("zeta"), Named("alpha")
    registry = Registry([first, second])
    assert list(registry) == ["zeta", "alpha"]
    assert len(registry) == 2
    assert registry.find("zeta") is first
    assert registry.find("Zeta") is None


def test_models_are_told_name_text_and_schema():
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    assert Registry([Named("a")]).specs() == (Row("a", "Does nothing.", schema),)


def test_an_unknown_tool_is_answered_with_the_nearest_and_all():
    registry = Registry([Named("look"), Named("change")])
    assert registry.unknown("Looks") == "There is no tool 'Looks'. Did you mean look? The tools are: look, change."
    assert registry.unknown("zzz") == "There is no tool 'zzz'. The tools are: look, change."


def test_two_tools_of_one_name_are_a_programmers_error():
    with pytest.raises(ValueError, match="two tools are called 'a'"):
        Registry([Named("a"), Named("a")])


@pytest.mark.parametrize("name", ["", "a b", "1a", "ä", "x" * 65, "a.b"])
def test_a_name_that_providers_refuse_is_a_programmers_error(name):
    with pytest.raises(ValueError, match="is no name for a tool"):
        Registry([Named(name)])
