import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_intern.policy.redact import LABEL, redact, redact_bytes

A = "abcdefghijKLMNOPQRST0123456789uvwxYZ"
KEY = "-----BEGIN {0}PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\nAbCd+/9=\n-----END {0}PRIVATE KEY-----"

SECRETS = [
    f"hf_{A}",
    f"hf_oauth_{A}.{A}",
    f"sk-{A}",
    f"sk-ant-api03-{A}-{A}",
    f"sk-proj-{A}_{A}",
    f"sk-or-v1-{A}",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    f"ghp_{A}",
    f"ghs_{A}",
    f"github_pat_{A}_{A}",
    "glpat-ABCDEFGHIJ0123456789",
    "xoxb-123456789012-abcdefABCDEF",
    f"AIza{A[:35]}",
    f"eyJ{A}.eyJ{A}.{A}",
    KEY.format(""),
    KEY.format("OPENSSH "),
    KEY.format("RSA ").replace("\n", "\\n"),
    KEY.format("").partition("\n-----END")[0],
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:16])
@pytest.mark.parametrize("around", ["{}", "KEY={} \n", '"{}",', "token_{}", "({})", "export T='{}'"])
def test_a_secret_of_a_known_shape_is_replaced_wherever_it_stands(secret, around):
    text = around.format(secret)
    assert redact(text) == around.format(LABEL)
    assert redact_bytes(text.encode()) == around.format(LABEL).encode()


def test_of_a_header_or_an_address_only_the_secret_goes():
    assert redact(f"Authorization: Bearer {A}") == f"Authorization: {LABEL}"
    assert redact("postgres://me:pa55word@db.example/x") == f"postgres://{LABEL}@db.example/x"


@pytest.mark.parametrize(
    "code",
    [
        "tokenizer.pad_token = tokenizer.eos_token",
        "from sk_learn import sk-learn-compatible-estimators-for-tests",
        "git show 0123456789abcdef0123456789abcdef01234567",
        "sha256:" + "ab" * 32,
        "hf_hub_download(repo_id='org/name', filename='config.json')",
        "hf_model_name_that_is_rather_long_but_no_token",
        "https://user@host.example/path:with@signs",
        "password = getpass()",
        "the bearer of_this_message_is_trusted",
        "task-abcdefghijklmnopqrstuvwxyz",
        "AKIA",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_code_and_names_stay_as_they_are(code):
    assert redact(code) == code


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.sampled_from(SECRETS), st.text(max_size=80))
def test_nothing_that_was_replaced_can_be_read_in_what_is_left(before, secret, after):
    left = redact(f"{before} {secret} {after}")
    assert secret not in left
    assert redact(left) == left or LABEL in left
