"""A server of OpenAI-compatible chat completions, scripted by a file, with a ledger. Imports nothing of the product.

python tests/doubles/openai_server.py --port 0 --script FILE --ledger FILE [--prices IN/OUT] [--announce FILE] ...
In a test: `async with Double(script) as double: double.url`.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run by its path: the folder above tests/ is not on the module path then
    sys.path[0] = str(Path(__file__).parents[2])

from tests.doubles.completions import Completions, Terms, check_key
from tests.doubles.http1 import Answer, Connection, Request
from tests.doubles.ledger import Exchange, Ledger, Rates
from tests.doubles.protocol import Refused
from tests.doubles.script import load

_CREATED = 1_767_225_600  # 2026-01-01: a model list needs a date, and one that never changes


class Double:
    """The server. `prices` is IN/OUT[/CACHED] in dollars per million tokens, `window` in tokens.

    `key` refuses every other one; `models` refuses every other one and is what /v1/models lists; `whole` answers with
    one JSON object, whether or not a stream is asked for. Without a `ledger` path the ledger is a temporary file, which
    is gone when the double is.
    """

    def __init__(
        self,
        script: Path | Sequence[Mapping[str, Any]],
        *,
        ledger: Path | None = None,
        prices: str = "0/0",
        window: int | None = None,
        key: str | None = None,
        models: Sequence[str] = (),
        whole: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="double-") if ledger is None else None
        self.ledger = Ledger(ledger or Path(self._folder.name if self._folder else "") / "ledger.jsonl")
        self._terms = Terms(Rates.parse(prices), window, key, models, whole)
        self._completions = Completions(load(script), self.ledger, self._terms)
        self._connections: set[Connection] = set()
        self._failures: list[BaseException] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Double":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The base URL that a client is given."""
        assert self._server is not None, "the double is not started"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request so far, in order of arrival; with a shared ledger, those of the other servers, too."""
        return self.ledger.exchanges()

    async def start(self, port: int = 0) -> "Double":
        """Listen on this machine only."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port, backlog=1024)
        return self

    async def stop(self) -> None:
        """End every connection.

        Raises:
            ExceptionGroup: the double itself has failed at some request.
        """
        assert self._server is not None, "the double is not started"
        self._server.close()
        for connection in list(self._connections):
            connection.stop()
        while self._connections:
            await asyncio.sleep(0.001)
        self.ledger.close()
        if self._folder:
            self._folder.cleanup()
        if self._failures:
            raise BaseExceptionGroup("the double has failed", self._failures)

    def answer(self, request: Request) -> Answer:
        """What to send for a request."""
        if request.path == "/v1/chat/completions":
            return self._completions.answer(request)
        try:
            check_key(request, self._terms.key)
            return Answer(body=json.dumps(self._models(request)).encode())
        except Refused as refused:
            return Answer(status=refused.status, body=refused.body())

    def entered(self, connection: Connection) -> None:
        """A connection was opened."""
        self._connections.add(connection)

    def left(self, connection: Connection, failure: BaseException | None) -> None:
        """A connection is closed."""
        self._connections.discard(connection)
        if failure:
            self._failures.append(failure)

    def ended(self, answer: Answer, how: str, chunks: int, silent_ms: float | None) -> None:
        """An answer is over."""
        if answer.exchange:
            facts = {"chunks": chunks} | ({"silent_ms": round(silent_ms, 1)} if silent_ms is not None else {})
            self.ledger.ended(answer.exchange, how, facts)

    def _models(self, request: Request) -> dict[str, Any]:
        # openai/types/model.py:11-26 and openai/pagination.py (SyncPage: data, object)
        # vLLM adds max_model_len (vllm/entrypoints/openai/protocol.py, ModelCard).
        window = {} if self._terms.window is None else {"max_model_len": self._terms.window}
        known = {
            name: {"id": name, "object": "model", "created": _CREATED, "owned_by": "double", **window}
            for name in self._terms.models
        }
        if request.method == "GET" and request.path == "/v1/models":
            return {"object": "list", "data": [*known.values()]}
        name = request.path.removeprefix("/v1/models/")
        if request.method == "GET" and name in known:
            return known[name]
        raise Refused(f"Invalid URL ({request.method} {request.path})", status=404)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A scripted server of OpenAI-compatible chat completions.")
    parser.add_argument("--script", type=Path, required=True, help="the rules, a JSON file")
    parser.add_argument("--ledger", type=Path, required=True, help="where requests and their cost are noted")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--prices", default="0/0", metavar="IN/OUT[/CACHED]", help="dollars per million tokens")
    parser.add_argument("--window", type=int, help="tokens of prompt and reply together")
    parser.add_argument("--require-key", metavar="KEY", help="refuse every other key")
    parser.add_argument("--models", nargs="*", default=[], help="the models it has")
    parser.add_argument("--announce", type=Path, help="write {url, pid} here once it listens")
    return parser.parse_args()


async def _main(arguments: argparse.Namespace) -> None:
    double = Double(
        arguments.script,
        ledger=arguments.ledger,
        prices=arguments.prices,
        window=arguments.window,
        key=arguments.require_key,
        models=arguments.models,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await double.start(arguments.port)
    try:
        if arguments.announce:
            _announce(arguments.announce, double.url)
        print(double.url, flush=True)
        await stopped.wait()
    finally:
        await double.stop()


def _announce(path: Path, url: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    draft.replace(path)


if __name__ == "__main__":
    asyncio.run(_main(_arguments()))
