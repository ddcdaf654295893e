import logging

from ml_intern.app.traces import traces_kept
from ml_intern.record.secrets import Secrets

SECRET = "hunter2hunter2hunter2"


def fail(text: str) -> None:
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logging.getLogger("ml_intern.agent.road").exception("the tool of call %s broke", "c1")


def test_a_trace_goes_to_the_file_without_secrets_and_not_to_the_person(tmp_path, capfd):
    path = tmp_path / "errors.log"
    with traces_kept(path, Secrets({"HF_TOKEN": SECRET})):
        assert not path.exists()
        fail(f"no room for {SECRET} \ud800")
    text = path.read_text()
    assert "ERROR ml_intern.agent.road: the tool of call c1 broke" in text
    assert "Traceback" in text
    assert "no room for [secret:HF_TOKEN]" in text
    assert SECRET not in text
    assert capfd.readouterr() == ("", "")


def test_afterwards_everything_is_as_it_was(tmp_path, caplog):
    with traces_kept(tmp_path / "errors.log", Secrets({})):
        pass
    fail("later")
    assert not (tmp_path / "errors.log").exists()
    assert "the tool of call c1 broke" in caplog.text
