from pathlib import Path

import pytest

from ml_intern.sandbox.broker.doors import PLACEHOLDER
from ml_intern.sandbox.broker.reach import Reach, Refused, Rule
from ml_intern.sandbox.network import inside, make_reach


def reach_of(tmp_path: Path, **environ: str) -> Reach:
    return make_reach({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", **environ})


def lets_through(reach: Reach, host: str, port: int = 443) -> bool:
    try:
        reach.rule(host, port)
    except Refused:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "pypi.org",
        "files.pythonhosted.org",
        "cas-bridge.xethub.hf.co",
        "cdn-lfs.huggingface.co",
        "github.com",
        "codeload.github.com",
        "objects.githubusercontent.com",
        "raw.githubusercontent.com",
    ],
)
def test_where_packages_models_and_code_come_from_may_be_reached(tmp_path: Path, host: str):
    reach = reach_of(tmp_path)
    assert lets_through(reach, host)
    assert not reach.rule(host, 443).private
    assert not lets_through(reach, host, 22)


def test_hosts_of_every_package_setting_may_be_reached_on_their_own_port_only(tmp_path: Path):
    (tmp_path / ".config" / "uv").mkdir(parents=True)
    settings = (
        '[[index]]\nurl = "https://a.example:4433/simple"\n[pip]\nextra-index-url = ["http://b.example/simple"]\n'
    )
    (tmp_path / ".config" / "uv" / "uv.toml").write_text(settings)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://me:pass@C.example:8080/simple\n")
    reach = reach_of(
        tmp_path,
        PIP_CONFIG_FILE=str(tmp_path / "pip.conf"),
        PIP_EXTRA_INDEX_URL="https://d.example/simple https://e.example/simple",
        UV_INDEX="mine=https://f.example/simple",
        UV_FIND_LINKS="/wheels,https://g.example/w",
        HF_ENDPOINT="http://hub.example:9000/",
    )
    named = [("a.example", 4433), ("b.example", 80), ("d.example", 443), ("e.example", 443), ("f.example", 443)]
    for host, port in (*named, ("g.example", 443)):
        assert reach.rule(host, port).private, host
        assert not lets_through(reach, host, port + 1)
    assert reach.hub == "http://hub.example:9000"
    assert reach.door() == ("hub.example", 9000, Rule("hub.example", (9000,), private=True))
    assert not lets_through(reach, "hub.example", 9000)


@pytest.mark.parametrize(
    "host",
    ["huggingface.co", "www.huggingface.co", "www.hf.co", "hub-ci.huggingface.co", "cas-server.xethub.hf.co"],
)
def test_the_hub_is_reached_by_its_own_door_only_whatever_the_settings_name(tmp_path: Path, host: str):
    for reach in (reach_of(tmp_path), reach_of(tmp_path, UV_FIND_LINKS=f"https://{host}/wheels")):
        with pytest.raises(
            Refused, match=r"belongs to the Hub, which is reached at \$HF_ENDPOINT \(http://127.0.0.1:313\)"
        ):
            reach.rule(host, 443)
    assert reach_of(tmp_path).door() == ("huggingface.co", 443, Rule("huggingface.co", (443,)))


def test_an_index_on_the_host_of_a_hub_of_ones_own_stays_reachable(tmp_path: Path):
    reach = reach_of(tmp_path, HF_ENDPOINT="https://art.corp/api/hf/x", PIP_INDEX_URL="https://art.corp/api/pypi/x")
    assert lets_through(reach, "art.corp")
    assert reach.door()[0] == "art.corp"


def test_an_endpoint_that_cannot_be_read_leads_nowhere(tmp_path: Path):
    reach = reach_of(tmp_path, HF_ENDPOINT="https://hub.corp:no/")
    assert lets_through(reach, "pypi.org")
    with pytest.raises(Refused):
        reach.door()


def test_an_index_of_pips_own_files_may_be_reached_and_its_credentials_go_nowhere(tmp_path: Path):
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://me:pass@C.example:8080/simple\n")
    reach = reach_of(tmp_path, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert reach.rule("c.example", 8080).private
    assert "pass" not in str(reach.rules)


def test_the_persons_proxies_are_used_but_for_the_hosts_that_go_without(tmp_path: Path):
    reach = reach_of(
        tmp_path,
        HTTPS_PROXY="http://me:pw@proxy.corp:3128",
        ALL_PROXY="proxy.corp:8080",
        NO_PROXY=".corp, localhost",
    )
    assert reach.proxy("https", "pypi.org") == "http://me:pw@proxy.corp:3128"
    assert reach.proxy("http", "pypi.org") == "http://proxy.corp:8080"
    assert reach.proxy("https", "index.corp") == ""
    assert not lets_through(reach, "proxy.corp", 3128)


def test_the_authority_that_the_person_trusts_is_trusted_for_the_hub(tmp_path: Path):
    (tmp_path / "ca.pem").touch()
    assert reach_of(tmp_path, SSL_CERT_FILE=str(tmp_path / "ca.pem")).ca_file == str(tmp_path / "ca.pem")


def test_commands_are_told_of_the_doors_and_of_no_secret():
    reach = make_reach({"HTTPS_PROXY": "http://me:secret@proxy.corp:3128"}, token="hf_real_token_of_the_person")
    found = inside(reach)
    assert found["HF_TOKEN"] == PLACEHOLDER
    assert found["HTTPS_PROXY"] == found["http_proxy"] == "http://127.0.0.1:312"
    assert "secret" not in str(found)
    assert "hf_real" not in str(found)
    assert "HF_TOKEN" not in inside(make_reach({}))
    assert inside(None) == {}
