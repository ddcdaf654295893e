import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.trail import Trail


@given(st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(), max_size=3)), max_size=25))
def test_versions_behave_like_tuples_whichever_is_continued(steps):
    versions: list[tuple[Trail[int], tuple[int, ...]]] = [(Trail(), ())]
    for parent, more in steps:
        trail, model = versions[parent % len(versions)]
        versions.append((trail.plus(*more), (*model, *more)))
    for trail, model in versions:
        assert tuple(trail) == model
        assert len(trail) == len(model)
        assert [trail[at] for at in range(-len(model), len(model))] == [
            model[at] for at in range(-len(model), len(model))
        ]
        assert trail.since(2) == list(model[2:])
        assert trail == Trail(model)


def test_appending_to_the_newest_version_copies_nothing():
    first = Trail(range(1000))
    second = first.plus(1)
    third = first.plus(2)
    assert second._items is first._items
    assert third._items is not first._items
    assert (second[-1], third[-1], len(first)) == (1, 2, 1000)


def test_outside_of_a_trail_there_is_nothing():
    for at in (0, -1, 5):
        with pytest.raises(IndexError):
            Trail()[at]
    with pytest.raises(TypeError):
        hash(Trail())
    assert Trail([1]) != [1]
    assert repr(Trail([1])) == "Trail([1])"
