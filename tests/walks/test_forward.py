"""`ml-intern forward` from the command line to a server that a command of a run has started inside."""

import asyncio
import os
import re
import signal
import socket
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.walks.walk import MODEL, Hearing, Running, Walk, step, until

SERVER = {"command": "echo inside > index.html; python3 -u -m http.server 8765", "background": True}


@asynccontextmanager
async def serving(walk: Walk) -> AsyncGenerator[Running]:
    """A run whose model has started a server, has seen it listen, and now thinks."""
    look = ("bash_output", {"id": r"{{answer:-1:/as command (\w+)/}}", "wait": 20, "filter": "Serving"})
    script = [step(0, ("bash", SERVER)), step(1, look), {**step(2, text="Hm."), "fault": {"hang": True}}]
    async with Hearing(script) as double:
        running = await walk.start("start it", *MODEL, "--base-url", double.url)
        await until(lambda: len(double.bodies) == 3)
        yield running
        if running.process.returncode is None:
            running.interrupt()
        assert (await running.ended()).code == 130


async def first_line(running: Running) -> str:
    assert running.process.stdout is not None
    async with asyncio.timeout(20):
        return (await running.process.stdout.readline()).decode()


def fetched(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as answer:
        return answer.read().decode()


async def test_a_server_inside_is_reached_until_ctrl_c(walk: Walk):
    async with serving(walk):
        listed = await walk.run("forward")
        assert re.fullmatch(r"port 8765: ml-intern forward \w+ 8765\n", listed.out), listed.said
        going = await walk.start("forward", "8765")
        said = await first_line(going)
        [(url, session)] = re.findall(
            r"^(http://127\.0\.0\.1:\d+) -> port 8765 of session (\w+) \(Ctrl\+C ends it\)$", said
        )
        assert await asyncio.to_thread(fetched, url) == "inside\n"
        going.interrupt()
        ended = await going.ended()
        assert (ended.code, "No longer forwarded." in ended.err, "private window" in ended.err) == (0, True, True)
        wrong = await walk.run("forward", session, "8766")
        assert (wrong.code, wrong.err) == (
            1,
            f"ml-intern: Nothing listens on port 8766 in session {session}.\nListening: 8765.\n",
        )


async def test_a_forward_ends_with_its_session_and_then_says_that_nothing_runs(walk: Walk):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    async with serving(walk) as running:
        going = await walk.start("forward", "last", "8765", "--to", str(free))
        said = await first_line(going)
        assert said.startswith(f"http://127.0.0.1:{free} -> port 8765")
        # Sent by the terminal to the run alone: what earlier steps left running goes on until it is told to end.
        os.kill(running.pid, signal.SIGINT)
        await running.process.wait()
        stopped = await walk.run("stop", "last", "--commands")
        assert stopped.code == 0, stopped.said
        ended = await going.ended()
        assert (ended.code, "have ended" in ended.err) == (0, True), ended.said
    for words in (("forward",), ("forward", "8765")):
        done = await walk.run(*words)
        assert (done.code, done.out) == (1, "")
        assert re.match(r"ml-intern: Nothing of session \w+ runs\.\n", done.err), done.said


async def test_words_that_are_no_port_or_no_session_are_told_in_a_sentence(walk: Walk):
    for words, what in (
        (("99999",), "99999 is no port"),
        (("0",), "0 is no port"),
        (("a", "b"), "'b' is no port"),
        (("a", "b", "80"), "more than one session"),
        (("nosuch", "80"), "There is no session"),
        (("80",), "There is no session"),
        ((), "There is no session"),
    ):
        done = await walk.run("forward", *words)
        assert (done.code, done.out) == (2, ""), done.said
        assert what.lower() in done.err.lower(), done.said
        assert len(done.err.splitlines()) <= 2
    done = await walk.run("forward", "80", "--to", "0")
    assert (done.code, "--to" in done.err) == (2, True)
