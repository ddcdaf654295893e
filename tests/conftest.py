"""What every test gets: no network, a home of its own, no credentials; on request a watch on its event loop."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.event_loop import LoopWatch
from tests.network import refuse_the_network

_CREDENTIAL = re.compile(r"TOKEN|API_?KEY|ACCESS_KEY|SECRET|PASSWORD|CREDENTIAL")
_OURS = ("ML_INTERN_", "HF_", "OPENAI_", "ANTHROPIC_", "OPENROUTER_")
_HOMES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")

sys.addaudithook(refuse_the_network)


def _uv_cache() -> str:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    return os.environ.get("UV_CACHE_DIR") or str(default)


@pytest.fixture(autouse=True)
def private_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Wheels that were fetched once serve every test: uv's cache is the one thing of the real home that is kept.
    monkeypatch.setenv("UV_CACHE_DIR", _uv_cache())
    for name in os.environ:
        if _CREDENTIAL.search(name) or name.startswith(_OURS):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in _HOMES:
        folder = home / name.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    return home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("watch_loop"):
            item.fixturenames.insert(0, "loop_watch")


@pytest.fixture
async def loop_watch(request: pytest.FixtureRequest):
    marker = request.node.get_closest_marker("watch_loop")
    watch = LoopWatch(limit_s=marker.kwargs.get("limit_s", 0.2) if marker else 0.2)
    watch.start()
    yield watch
    watch.stop()
    if watch.blocks:
        pytest.fail(f"the event loop stood still for more than {watch.limit_s} s:\n{watch.report()}", pytrace=False)
