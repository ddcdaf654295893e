import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from ml_intern.base.errors import Unreachable
from ml_intern.model.apart import MOST_KEPT, Apart
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.record.messages import Reply, Text


@dataclass
class Access:
    """Keeps who asked by it."""

    sessions: list[str] = field(default_factory=list)
    closed: int = 0
    fails: bool = False
    asked_closed: bool = False

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        self.sessions.append(request.session)
        for _ in range(ord(request.session[-1]) % 7 + 1):
            await asyncio.sleep(0)
            self.asked_closed = self.asked_closed or bool(self.closed)
        if self.fails:
            raise Unreachable("It broke.", "Again.")
        yield Finished(Reply((Text("x"),)), None, "stop")

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


def set_up() -> tuple[Apart, list[Access]]:
    made = [Access()]

    def make() -> Access:
        made.append(Access())
        return made[-1]

    return Apart(made[0], make), made


async def ask(apart: Apart, session: str) -> None:
    async for _ in apart.ask(Request("", (), (), 1, session)):
        pass


async def test_each_conversation_has_an_access_of_its_own_and_the_first_is_not_wasted():
    apart, made = set_up()
    for session in ("a", "b", "a", "b", "a"):
        await ask(apart, session)
    assert [each.sessions for each in made] == [["a"] * 3, ["b"] * 2]


async def test_side_by_side_they_do_not_mix():
    apart, made = set_up()
    await asyncio.gather(*(ask(apart, str(number)) for number in range(8)))
    await asyncio.gather(*(ask(apart, str(number)) for number in range(8)))
    assert sorted(each.sessions for each in made) == sorted([str(number)] * 2 for number in range(8))


async def test_those_that_were_not_used_for_long_are_closed():
    apart, made = set_up()
    for number in range(MOST_KEPT + 5):
        await ask(apart, str(number))
    assert [each.closed for each in made] == [1] * 5 + [0] * MOST_KEPT
    await ask(apart, "0")
    assert made[-1].sessions == ["0"]


async def test_those_that_end_in_the_same_moment_close_each_access_once_and_none_that_is_asked_by_again():
    apart, made = set_up()
    many = 3 * MOST_KEPT
    for _ in range(3):
        await asyncio.gather(*(ask(apart, str(number)) for number in range(many)))
        assert all(each.closed <= 1 for each in made)
        assert sum(not each.closed for each in made) == MOST_KEPT
    assert sum(len(each.sessions) for each in made) == 3 * many
    assert all(len(set(each.sessions)) == 1 for each in made)
    assert not any(each.asked_closed for each in made)


async def test_at_the_end_all_are_closed_once():
    apart, made = set_up()
    for number in range(3):
        await ask(apart, str(number))
    await apart.aclose()
    assert [each.closed for each in made] == [1, 1, 1]
    unused, alone = set_up()
    await unused.aclose()
    assert alone[0].closed == 1


async def test_a_failure_comes_through_and_the_access_stays():
    apart, made = set_up()
    made[0].fails = True
    with pytest.raises(Unreachable):
        await ask(apart, "a")
    made[0].fails = False
    await ask(apart, "a")
    assert [each.sessions for each in made] == [["a", "a"]]
