import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ml_intern.app.options import OPTIONS
from ml_intern.app.settings import Flags, Launch, make_launch
from ml_intern.app.sources import read_source
from ml_intern.app.standing import loosening, rows, settled, stand, trust_of
from ml_intern.base.errors import BadSettings
from ml_intern.record.events import RuleGiven


class Machine:
    """A user's settings file and a workspace with one."""

    def __init__(self, place: Path) -> None:
        self.user = place / "user.toml"
        self.workspace = place / "work"
        self.own = self.workspace / ".ml-intern" / "settings.toml"
        self.own.parent.mkdir(parents=True)
        self.user.write_text("")
        self.environ = {"ML_INTERN_CONFIG": str(self.user), "ML_INTERN_DATA": str(place / "data")}

    def launch(self, resumed: bool = False, environ: dict[str, str] | None = None, **flags: Any) -> Launch:
        launch = make_launch(Flags(cwd=str(self.workspace), **flags), {**self.environ, **(environ or {})})
        return settled(launch, stand(self.workspace, self.environ), resumed=resumed)

    def note(self) -> str:
        return stand(self.workspace, self.environ).note

    def trust(self) -> None:
        source = read_source(self.own, "workspace")
        assert source is not None
        trust_of(self.environ).give(self.own, source.sha)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_flag_wins_over_a_variable_over_the_workspace_over_the_user(machine: Machine):
    machine.user.write_text("max_steps = 40\nmax_time = '4h'\n[budget]\nsession = 4.00\n")
    machine.own.write_text("max_steps = 30\n[budget]\nsession = 3.00\n")
    variables = {"ML_INTERN_BUDGET": "2.00"}
    assert machine.launch(environ=variables, budget="1.00").budget == 1_000_000
    assert machine.launch(environ=variables).budget == 2_000_000
    assert machine.launch().budget == 3_000_000
    assert (machine.launch().max_steps, machine.launch().max_time_s) == (30, 14_400)
    assert machine.note() == ""


LOOSE = {
    "mode = 'yolo'": "mode",
    "mode = 'auto'": "mode",
    "model = 'openai/gpt-5'": "model",
    "base_url = 'http://127.0.0.1:1/v1'": "base_url",
    "price = '0/0'": "price",
    "bill_to = 'acme'": "bill_to",
    "max_steps = 301": "max_steps",
    "append_system = 'obey'": "append_system",
    "tools = ['read', 'bash']": "tools",
    "[budget]\nsession = 5.01": "budget.session",
    "[rules]\nallow = ['publish *']": "rules.allow",
}


@pytest.mark.parametrize("text", LOOSE)
def test_what_a_workspace_loosens_counts_only_when_its_very_bytes_are_trusted(machine: Machine, text: str):
    machine.user.write_text("tools = ['read', 'write']\nmode = 'ask'\n")
    without = machine.launch()
    machine.own.write_text(text)
    assert machine.launch() == without
    assert f"ignored: {LOOSE[text]} in {machine.own}" in machine.note()
    assert f"ml-intern trust {machine.own}" in machine.note()
    machine.trust()
    assert machine.note() == ""
    assert machine.launch() != without
    machine.own.write_text(f"# one byte more\n{text}")
    assert machine.launch() == without


@pytest.mark.parametrize(
    "text",
    [
        "mode = 'plan'",
        "mode = 'ask'",
        "on_ask = 'hold'",
        "max_steps = 300",
        "max_time = '1h'",
        "tools = ['read']",
        "offline = true",
        "[budget]\nsession = 0.5",
        "[rules]\ndeny = ['write *.lock']\nask = ['execute rm *']",
    ],
)
def test_what_a_workspace_tightens_needs_no_trust(machine: Machine, text: str):
    without = machine.launch()
    machine.own.write_text(text)
    assert machine.note() == ""
    assert machine.launch() != without


def test_trust_belongs_to_the_place_too(machine: Machine, tmp_path: Path):
    machine.own.write_text("mode = 'yolo'")
    machine.trust()
    other = tmp_path / "other"
    shutil.copytree(machine.workspace, other)
    assert "mode" in stand(other, machine.environ).note
    assert trust_of(machine.environ).revoke(machine.own)
    assert "mode" in machine.note()


def test_an_address_and_a_price_stay_with_the_model_they_were_written_for(machine: Machine):
    machine.user.write_text("model = 'openai-compatible/m'\nbase_url = 'http://127.0.0.1:1/v1'\nprice = '0/0'\n")
    mine = machine.launch()
    assert (mine.model, mine.base_url, mine.price) == ("openai-compatible/m", "http://127.0.0.1:1/v1", "0/0")
    other = machine.launch(model="openai/gpt-5")
    assert (other.base_url, other.price) == (None, None)


def test_two_names_of_the_main_model_in_one_file_must_say_the_same(machine: Machine):
    machine.user.write_text("model = 'a'\n\n[models]\nmain = ['b', 'a']\n")
    with pytest.raises(BadSettings, match=r"user.toml:4 models.main and \S+user.toml:1 model say different things"):
        machine.launch()
    machine.user.write_text("model = 'a'\n\n[models]\nmain = ['a', 'b']\n")
    assert (machine.launch().model, machine.launch().fallback) == ("a", ("b",))


def test_a_chain_of_one_place_is_not_mixed_with_that_of_another(machine: Machine):
    machine.user.write_text("model = 'x'\nfallback = ['y']\n")
    machine.own.write_text("[models]\nmain = ['a', 'b']\n")
    machine.trust()
    assert (machine.launch().model, machine.launch().fallback) == ("a", ("b",))
    flagged = machine.launch(main_model="c")
    assert (flagged.model, flagged.fallback) == ("c", ())


def test_a_session_that_goes_on_takes_only_the_rules_of_files(machine: Machine):
    machine.user.write_text("max_steps = 40\nmode = 'plan'\n[rules]\ndeny = ['write *.lock']\n")
    launch = machine.launch(resumed=True)
    assert (launch.max_steps, launch.mode) == (None, None)
    assert launch.rules == (RuleGiven("deny", "write *.lock", "user"),)


def test_offline_is_said_by_flag_variable_and_files_and_reaches_a_session_that_goes_on(machine: Machine):
    off, on = {"ML_INTERN_OFFLINE": "1"}, {"ML_INTERN_OFFLINE": "no"}
    assert not machine.launch().offline
    assert machine.launch(environ=off).offline
    assert not machine.launch(environ=off, offline=False).offline
    machine.own.write_text("offline = false")
    machine.user.write_text("offline = true")
    assert f"ignored: offline in {machine.own}" in machine.note()
    assert machine.launch().offline
    assert machine.launch(resumed=True).offline
    assert not machine.launch(environ=on).offline
    found = rows(stand(machine.workspace, machine.environ), {})
    assert ("offline", "true") in [(row.option.name, row.shown) for row in found]
    with pytest.raises(BadSettings, match="ML_INTERN_OFFLINE perhaps is neither true nor false"):
        machine.launch(environ={"ML_INTERN_OFFLINE": "perhaps"})


def test_a_text_can_stand_in_a_file_beside_the_settings(machine: Machine):
    machine.user.write_text("append_system = '@house.md'")
    machine.user.with_name("house.md").write_text("Be brief.")
    assert machine.launch().append_system == "Be brief."


WRONG = {
    "modl = 'x'": (":1: there is no setting 'modl'", "Did you mean model?"),
    "# first\nmode = 'yollo'": (":2 mode", "Did you mean yolo?"),
    "budget = 3": ("no setting 'budget'", "[budget] and below it session = "),
    "day = 3\nsession = 3": ("no setting 'day'", ""),
    "[budget]\nsesion = 3": (":2: there is no setting 'budget.sesion'", "Did you mean budget.session?"),
    "[budget]\n\nsession = true": (":3: budget.session takes USD", ""),
    "[budget]\nsession = 'lots'": ("'lots' is not an amount", ""),
    "max_steps = 0": ("max_steps 0 leaves nothing to do", ""),
    "max_time = 'soon'": ("max_time soon is not a length of time", ""),
    "model = ''": ("model is empty", ""),
    "tools = [1]": ("tools takes names", ""),
    "offline = 'soon'": ("offline soon is neither true nor false", "Write true or false"),
    "max_steps = true": ("max_steps takes number", ""),
    "mode": ("is no TOML", "Correct it there"),
    "[rules]\nalow = ['publish *']": ("no setting 'rules.alow'", "Did you mean rules.allow?"),
    "[rules]\nallow = ['publsh *']": (":2: The rule 'publsh *' begins with no verb: did you mean 'publish'?", ""),
    "[rules]\nallow = [3]": ("a rule is a text", ""),
    "[rules]\nallow = [{rule = 'publish hub:me/*', example = []}]": ("a rule has no 'example'", "examples"),
    "[rules]\ndeny = [{rule = 'write *.lock', examples = ['uv.lock', 'x.py']}]": ("its example 'x.py'", ""),
    "[rules]\nallow = [{rule = 'publish *', counter = ['hub:you/x']}]": ("its counter-example", ""),
    "[rules]\nallow = [{rule = 'publish *', examples = 'hub:me'}]": ("examples is a list", ""),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_name_or_value_is_told_with_its_line_and_the_nearest(machine: Machine, text: str):
    machine.own.write_text(text)
    what, remedy = WRONG[text]
    with pytest.raises(BadSettings) as told:
        stand(machine.workspace, machine.environ)
    assert what in told.value.what
    assert str(machine.own) in told.value.what
    assert told.value.remedy
    assert remedy in told.value.remedy


def test_what_is_no_file_is_told_at_once(machine: Machine):
    os.mkfifo(machine.own)
    with pytest.raises(BadSettings, match="is no settings file"):
        stand(machine.workspace, machine.environ)
    machine.own.unlink()
    machine.own.symlink_to("/dev/zero")
    with pytest.raises(BadSettings, match="is no settings file"):
        stand(machine.workspace, machine.environ)


def test_a_settings_file_that_was_named_must_be_there(machine: Machine):
    machine.user.unlink()
    with pytest.raises(BadSettings, match="which is not there"):
        stand(machine.workspace, machine.environ)


def test_every_setting_is_shown_with_where_it_was_said(machine: Machine):
    machine.user.write_text("\nmax_steps = 40\n")
    variables = {"ML_INTERN_MODE": "plan"}
    found = {
        row.option.name: (row.shown, row.origin) for row in rows(stand(machine.workspace, machine.environ), variables)
    }
    assert set(found) == {option.name for option in OPTIONS}
    assert found["max_steps"] == ("40", f"{machine.user}:2")
    assert found["mode"] == ("plan", "ML_INTERN_MODE")
    assert found["budget.session"] == ("$5.00", "default")


def test_a_limit_that_nobody_set_cannot_be_loosened(machine: Machine):
    machine.own.write_text("max_time = '100h'\ntools = ['read']")
    source = read_source(machine.own, "workspace")
    assert source is not None
    assert loosening(source, {}) == ()


def test_a_variable_of_others_is_shown_as_the_place_where_it_was_said(machine: Machine):
    machine.user.write_text("bill_to = 'acme'\n")
    assert machine.launch().bill_to == "acme"
    assert machine.launch(resumed=True).bill_to is None
    found = {row.option.name: row for row in rows(stand(machine.workspace, machine.environ), {"HF_BILL_TO": "globex"})}
    assert (found["bill_to"].shown, found["bill_to"].origin) == ("globex", "HF_BILL_TO")
