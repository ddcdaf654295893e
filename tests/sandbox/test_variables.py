from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ml_intern.sandbox import variables
from ml_intern.sandbox.variables import ca_files, inside

ALLOWED = {
    *variables.LOCALE, *variables.CERTIFICATES, *variables.ACCELERATORS, *variables.INDEXES, *variables.FIXED,
    "HOME", "PATH",
}  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(sorted(ALLOWED)),
    st.sampled_from(
        ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "LC_SECRET", "SSH_AUTH_SOCK", "PIP_PASSWORD"]
    ),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12),
)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(NAMES, VALUES))
def test_no_variable_outside_the_list_ever_passes(environ):
    found = inside(environ, "/private", ["/a", "/b"])
    assert set(found) <= ALLOWED
    assert found["HOME"] == "/private"
    assert found["PATH"] == "/a:/b"
    assert variables.FIXED.items() <= found.items()


@given(st.sampled_from(variables.INDEXES), st.text("abcXYZ019-._~!$&", min_size=1, max_size=20), st.booleans())
def test_no_index_setting_with_credentials_passes(name, secret, lone):
    user = secret if lone else f"user:{secret}"
    for value in (
        f"https://{user}@host/simple",
        f"https://ok/simple\nhttps://{user}@host/",
        f"mine=https://{user}@host/",
    ):
        assert name not in inside({name: value}, "/h", [])


def test_index_settings_without_credentials_and_certificates_stay():
    environ = {
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "UV_INDEX": "mine=https://mirror.example/simple https://other.example/simple",
        "UV_FIND_LINKS": "/srv/wheels,https://x.example/w",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "CUDA_VISIBLE_DEVICES": "1",
        "LANG": "de_DE.UTF-8",
    }
    found = inside(environ, "/h", [])
    assert {name: found.get(name) for name in environ} == environ


def test_a_query_in_an_index_setting_may_be_a_token_and_does_not_pass():
    assert "PIP_INDEX_URL" not in inside({"PIP_INDEX_URL": "https://host/simple?token=abc"}, "/h", [])


def test_a_terminal_of_the_person_does_not_pass():
    assert inside({"TERM": "xterm-256color", "PAGER": "less"}, "/h", [])["TERM"] == "dumb"
    assert inside({"PAGER": "less"}, "/h", [])["PAGER"] == "cat"


def test_the_files_that_certificate_variables_name_are_offered_as_roots(tmp_path: Path):
    (tmp_path / "a.pem").write_text("x")
    (tmp_path / "certs").mkdir()
    environ = {
        "SSL_CERT_FILE": str(tmp_path / "a.pem"),
        "SSL_CERT_DIR": f"{tmp_path / 'certs'}:/nowhere",
        "PIP_CERT": "relative.pem",
        "HOME": str(tmp_path),
    }
    assert ca_files(environ) == (str(tmp_path / "a.pem"), str(tmp_path / "certs"))
