import pytest

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.sandbox.header import Header, header

HEADER = '# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n#   "tiny",\n# ]\n# ///\n'


def script(*dependencies: str, more: str = "") -> str:
    listed = ", ".join(f'"{item}"' for item in dependencies)
    return f"# /// script\n# dependencies = [{listed}]\n{more}# ///\nprint(1)\n"


def test_a_header_is_read_and_normalised():
    text = "#!/usr/bin/env python\n" + script(
        "Scikit_Learn >= 1.5, <2", "b[y,x]; python_version > '3'", "scikit-learn<2,>=1.5"
    )
    assert header(text) == Header(('b[x,y]; python_version > "3"', "scikit-learn<2,>=1.5"), "")
    assert header(HEADER) == Header(("tiny",), ">=3.11")
    assert header(HEADER.replace("\n", "\r\n")) == Header(("tiny",), ">=3.11")
    assert header("print(1)\n") is None
    assert header("# /// other\n# x = 1\n# ///\n") is None
    assert header("# /// script\n#\n# ///") == Header()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "\n\n" + HEADER, "two `# /// script` blocks"),
        ("# /// script\n# dependencies = []\n", "has no end"),
        ("# /// script\n# dependencies = [\n\n# ]\n# ///\n", "has no end"),
        ("# /// script\n# dependencies = [\n# ///\n", "no TOML"),
        (
            '# /// script\n# dependencies = "numpy"\n# ///\n',
            "The script's header has a wrong type: Expected `array`, got `str` - at `$.dependencies`.",
        ),
        ("# /// script\n# requires-python = 3\n# ///\n", "Expected `str`, got `int` - at `$.requires-python`."),
        (script("numpy").replace("# dep", '# requires-python = "three"\n# dep'), "names no versions"),
        (script("numpy", more='# [tool.uv.sources]\n# numpy = {git = "https://x/y"}\n'), "tool.uv.sources"),
        (script("numpy", more='# [[tool.uv.index]]\n# url = "https://x"\n'), "tool.uv.index"),
        (script("./local"), "a path, or badly written"),
        (script("/abs/x.whl"), "a path, or badly written"),
        (script("x @ file:///abs/x.whl"), "x is asked for from a URL"),
        (script("x @ git+https://host/x.git"), "x is asked for from a URL"),
        (script("x @ https://host/x-1-py3-none-any.whl"), "x is asked for from a URL"),
        (script("git+https://host/x.git"), "a path, or badly written"),
        (script("-e ."), "is an option"),
        (script("--index-url=https://evil/simple"), "is an option"),
        (script("numpy>=1 --hash=sha256:00"), "badly written"),
        (script(r"numpy\n--index-url https://evil"), "badly written"),
    ],
)
def test_what_no_wheel_of_an_index_can_give_is_refused_in_words(text, words):
    with pytest.raises(EnvironmentFailed) as failed:
        header(text)
    assert words in failed.value.what
    assert failed.value.remedy


def test_credentials_in_a_refused_requirement_are_not_repeated():
    with pytest.raises(EnvironmentFailed) as failed:
        header(script("https://user:hunter2@host/x.whl"))
    assert "hunter2" not in str(failed.value)
