from pathlib import Path

import pytest

from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile
from ml_intern.sandbox.seatbelt import profile_text

GOLDEN = Path(__file__).with_name("seatbelt.sb")
ROOTS = Roots(
    (
        Root("/usr", "/usr", "read"),
        Root("/bin", "/bin", "read"),
        Root("/opt/homebrew", "/opt/homebrew", "read"),
        Root("/tmp", "/Users/me/Library/Application Support/ml-intern/sessions/1/tmp", "write"),
        Root("/Users/me/work", "/Users/me/work", "write"),
    ),
    ("/Users/me/work/.git/hooks", "/Users/me/work/.git/config", "/Users/me/work/.ml-intern"),
    workspace="/Users/me/work",
)


def test_the_profile_is_the_golden_one():
    assert profile_text(ROOTS, Profile.WORK) == GOLDEN.read_text()


def test_what_is_protected_is_denied_after_the_workspace_is_allowed():
    text = profile_text(ROOTS, Profile.WORK)
    assert text.index("(allow file-write*") < text.index("(deny file-write*")
    assert '(literal "/Users/me/work/.git")' in text[text.index("(deny file-write-unlink") :]
    assert '(literal "/Users/me/work")' not in text[text.index("(deny file-write-unlink") :]


@pytest.mark.parametrize("profile", list(Profile))
def test_everything_is_denied_first_and_no_profile_has_a_network(profile: Profile):
    lines = profile_text(ROOTS, profile).splitlines()
    assert lines[:2] == ["(version 1)", "(deny default)"]
    assert not [line for line in lines if "network" in line]


def test_exploring_writes_nothing_and_only_training_opens_a_graphics_card():
    assert "file-write*" not in profile_text(ROOTS, Profile.EXPLORE)
    assert [p for p in Profile if "iokit-open" in profile_text(ROOTS, p)] == [Profile.TRAIN]


def test_a_name_cannot_break_out_of_its_quotes():
    hostile = '/w") (allow default) ("\\'
    text = profile_text(Roots((Root(hostile, hostile, "write"),), ()), Profile.WORK)
    assert '(subpath "/w\\") (allow default) (\\"\\\\")' in text
    with pytest.raises(ValueError, match="cannot stand"):
        profile_text(Roots((Root("/\udcff", "/\udcff", "write"),), ()), Profile.WORK)
