from ml_intern.sandbox.indexes import uv_environment, uv_options


def test_pip_settings_are_put_in_the_words_of_uv(tmp_path):
    (tmp_path / "there").mkdir()
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a.example/simple\nno_index = false\n"
        f"extra-index-url =\n  https://b.example/simple\n  file://{tmp_path}/there\n  file://{tmp_path}/gone\n"
        f"[install]\nfind-links = {tmp_path}/there\n  /gone\n  https://c.example/w\n"
    )
    environ = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(file),
        "PIP_CERT": str(file),
        "UV_COMPILE_BYTECODE": "1",
    }
    found = uv_environment(environ)
    assert found["UV_DEFAULT_INDEX"] == "https://a.example/simple"
    assert found["UV_INDEX"] == f"https://b.example/simple file://{tmp_path}/there"
    assert found["UV_FIND_LINKS"] == f"{tmp_path}/there,https://c.example/w"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["SSL_CERT_FILE"] == str(file)
    assert "UV_COMPILE_BYTECODE" not in found
    assert uv_options(environ) == ()
    assert uv_options({**environ, "PIP_NO_INDEX": "1"}) == ("--no-index",)


def test_settings_for_uv_win_over_those_for_pip(tmp_path):
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "https://pip.example/simple"}
    assert uv_environment({**environ, "UV_INDEX_URL": "https://uv.example/"}).get("UV_DEFAULT_INDEX") is None
    (tmp_path / ".config" / "uv").mkdir(parents=True)
    (tmp_path / ".config" / "uv" / "uv.toml").write_text('[[index]]\nurl = "https://uv.example/"\n')
    assert "UV_DEFAULT_INDEX" not in uv_environment(environ)
