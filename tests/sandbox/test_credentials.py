import pytest

from ml_intern.sandbox.credentials import mask

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"Failed to fetch https://person:{SECRET}@host/simple/x",
        f"https://{SECRET}@host/simple",
        f"https://person:{SECRET}@@odd@host/simple",
        f"token {SECRET} in a sentence",
        f"https://host/simple?key={SECRET}",
    ],
)
def test_credentials_are_masked_wherever_they_stand(text):
    environ = {"PIP_INDEX_URL": f"https://host/simple?key={SECRET}", "UV_INDEX": f"mine=https://person:{SECRET}@host/"}
    assert SECRET not in mask(text, environ)
    assert mask("nothing secret", environ) == "nothing secret"


def test_credentials_in_a_url_of_unknown_origin_are_masked_too():
    assert (
        mask("fetching https://someone:else1234@host/simple/x failed", {})
        == "fetching https://***@host/simple/x failed"
    )
