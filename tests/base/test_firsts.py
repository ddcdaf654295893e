from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.firsts import Firsts


@given(st.lists(st.tuples(st.integers(0, 4), st.lists(st.sampled_from("abcdef")), st.integers(1, 3))))
def test_every_version_stays_as_it_was_whichever_grows(steps):
    versions, plain, numbers = [Firsts()], [dict[str, int]()], [0]
    for which, keys, more in steps:
        at = which % len(versions)
        numbers.append(numbers[at] + more)
        versions.append(versions[at].plus(keys, numbers[-1]))
        plain.append({**dict.fromkeys(keys, numbers[-1]), **plain[at]})
        for version, known in zip(versions, plain, strict=True):
            assert {key: version.get(key) for key in version} == known
            assert len(version) == len(known)
            assert [key in version for key in "abcdefg"] == [key in known for key in "abcdefg"]


def test_versions_are_equal_where_they_hold_the_same():
    one, other = Firsts().plus("ab", 1), Firsts().plus("ab", 1)
    assert one == other
    assert one != other.plus("c", 2)
    assert repr(one) == "Firsts(['a', 'b'])"
