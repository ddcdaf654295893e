import pytest

from ml_intern.base.text import size, size_of


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("812", 812), ("1 kB", 1000), ("1.5GB", 1_500_000_000), ("20g", 20 * 10**9), ("3 TB", 3 * 10**12)],
)
def test_a_size_is_read_as_people_write_it(text, count):
    assert size_of(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1 XB", "1e9", "GB"])
def test_what_is_no_size_is_none(text):
    assert size_of(text) is None


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (812, "812 B"), (1_234, "1.2 kB"), (123_456, "123 kB"), (9_990_000_000, "10.0 GB")]
)
def test_a_size_is_shown_in_few_digits(count, text):
    assert size(count) == text
