import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.base.errors import SandboxError
from ml_intern.sandbox import boot, lock
from ml_intern.sandbox.commands import Commands, Ended
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.limits import Limits
from ml_intern.sandbox.outcome import Outcome, load_outcome, save_outcome
from ml_intern.sandbox.processes import descendants
from tests.sandbox.yard import QUICK, Yard


def lines(yard: Yard, *requests: bytes) -> list[dict[str, object]]:
    """Talk to the supervisor as any program could; answers until it hangs up or is silent for long."""
    with contextlib.chdir(yard.session), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect("supervisor.sock")
        with connection.makefile("rb") as answers:
            connection.sendall(b"".join(request + b"\n" for request in requests))
            return [json.loads(answers.readline() or b'{"event": "hung up"}') for _ in requests]


def test_it_imports_only_the_standard_library_and_our_own():
    code = "import sys; sys.path.append(sys.argv[1]); import ml_intern.sandbox.supervisor; print(*sys.modules)"
    source = str(Path(boot.__file__).parents[2])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, source], capture_output=True, text=True, check=True)
    foreign = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert foreign <= {"ml_intern", "__main__"}
    ours = {name for name in done.stdout.split() if name.startswith("ml_intern.")}
    assert ours <= {"ml_intern.sandbox"} | {name for name in ours if name.startswith("ml_intern.sandbox.")}


async def test_a_second_start_finds_the_first(yard: Yard):
    await yard.run("true")
    first = lock.holder(str(yard.session))
    level = yard.level.name.lower()
    line = boot.command_line("ml_intern.sandbox.supervisor", str(yard.session), level, "{}")
    done = await asyncio.create_subprocess_exec(*line)
    assert await done.wait() == 0
    assert lock.holder(str(yard.session)) == first
    assert (await yard.run("true"))[0].exit_code == 0


async def test_many_first_commands_at_once_share_one_supervisor(yard: Yard):
    starts = [yard.run(f"echo {n}; readlink /proc/self/ns/net") for n in range(6)]
    texts = [text.split() for _, text in await asyncio.gather(*starts)]
    assert [text[0] for text in texts] == [str(n) for n in range(6)]
    assert len({text[1] for text in texts}) == 1


async def test_it_holds_nothing_of_our_environment_and_is_led_by_nobody(yard: Yard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ML_INTERN_PLANTED", "secret-value")
    await yard.run("true")
    supervisor = lock.holder(str(yard.session))
    assert supervisor
    assert b"secret-value" not in Path(f"/proc/{supervisor}/environ").read_bytes()
    assert os.getsid(supervisor) == supervisor
    assert os.getpgid(supervisor) != os.getpgid(0)
    parent = Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) != os.getpid()


@pytest.mark.parametrize("nonsense", [b"no json", b"{", b'{"op": "start", "key": "x"', b"\xff\xfe"])
async def test_a_client_that_talks_nonsense_is_dropped_and_harms_nobody(yard: Yard, nonsense: bytes):
    await yard.run("true")
    assert await asyncio.to_thread(lines, yard, nonsense) == [{"event": "hung up"}]
    assert (await yard.run("true"))[0].exit_code == 0


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": "dance"},
        {"op": "start"},
        {"op": "start", "key": "../x", "argv": ["true"], "walls": [], "env": {}, "cwd": "/", "deadline_s": 1},
        {"op": "start", "key": "x", "argv": [], "walls": [], "env": {}, "cwd": "/", "deadline_s": 1},
        {"op": "start", "key": "x", "argv": "true", "walls": 1, "env": {}, "cwd": "/", "deadline_s": 1},
        {"op": "start", "key": "x", "argv": ["true"], "walls": [], "env": {}, "cwd": "/", "deadline_s": "soon"},
        {"op": "start", "key": "x", "argv": ["a\0b"], "walls": [], "env": {}, "cwd": "/", "deadline_s": 1},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_in_words(yard: Yard, request_: dict[str, object]):
    await yard.run("true")
    (answer,) = await asyncio.to_thread(lines, yard, json.dumps(request_).encode())
    assert answer["event"] == "refused"
    assert answer["why"]
    assert not (yard.session / "commands" / "x").exists()


async def test_what_it_does_not_know_it_says_and_stopping_nothing_is_no_error(yard: Yard):
    await yard.run("true")
    answers = await asyncio.to_thread(lines, yard, b'{"op": "follow", "key": "none"}', b'{"op": "stop", "key": "none"}')
    assert [answer["event"] for answer in answers] == ["unknown", "stopping"]


async def test_commands_never_run_behind_fewer_walls_than_their_caller_believes(yard: Yard, machine_level: Level):
    if machine_level < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {machine_level.name}")
    await yard.run("true")
    other = Level.NONE if yard.level is Level.FULL else Level.FULL
    with pytest.raises(SandboxError, match="another level"):
        await Commands(yard.session, other, limits=QUICK).run(yard.spec("touch planted"), lambda _: None)
    assert not (yard.workspace / "planted").exists()


async def test_a_folder_that_was_made_but_never_begun_counts_as_unknown(yard: Yard):
    (yard.session / "commands" / "torn").mkdir(parents=True)
    (yard.session / "commands" / "torn" / "spec.json.new").write_text("{")
    assert await yard.commands().find("torn") is None
    ended, text = await yard.run("echo ran", key="torn")
    assert (ended.reason, text) == ("exited", "ran\n")


async def test_the_spec_is_on_disk_before_the_command_begins(yard: Yard):
    ended, _ = await yard.run(f"cat {yard.session}/commands/early/spec.json || true", key="early")
    spec = json.loads((yard.session / "commands" / "early" / "spec.json").read_text())
    assert spec["argv"][0] == "/bin/bash"
    assert ended.exit_code == 0
    if yard.level is Level.NONE:
        assert json.loads(ended.output_path.read_text()) == spec


async def test_that_a_command_was_begun_is_on_disk_before_it_begins(yard: Yard, tmp_path: Path):
    if not shutil.which("strace"):
        pytest.skip("there is no strace on this machine")
    level = yard.level.name.lower()
    line = boot.command_line("ml_intern.sandbox.supervisor", str(yard.session), level, json.dumps(QUICK._asdict()))
    trace = tmp_path / "trace"
    calls = "trace=fsync,execve,rename"
    tracer = await asyncio.create_subprocess_exec("strace", "-f", "-qq", "-y", "-e", calls, "-o", str(trace), *line)
    async with asyncio.timeout(20):
        while not (yard.session / "supervisor.sock").exists():
            await asyncio.sleep(0.02)
    ended, _ = await yard.run("exit 0", key="traced")
    await yard.commands().close()
    await tracer.wait()
    assert ended.exit_code == 0
    steps = trace.read_text().splitlines()
    named = next(n for n, step in enumerate(steps) if "rename(" in step and "traced/spec.json" in step)
    flushed = next(n for n, step in enumerate(steps) if "fsync(" in step and "/commands/traced>" in step)
    begun = next(n for n, step in enumerate(steps) if "execve(" in step and n > named)
    assert named < flushed < begun


@pytest.mark.parametrize("left", [b"", bytes(120)])
async def test_an_outcome_whose_contents_a_loss_of_power_took_counts_as_lost(yard: Yard, left: bytes):
    folder = yard.session / "commands" / "cut"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_bytes(left)
    (folder / "output").write_text("half")
    (folder / "exit.json").write_bytes(left)
    found = await yard.commands().find("cut")
    assert isinstance(found, Ended)
    assert (found.reason, found.output_bytes) == ("lost", 4)
    await yard.run("true")
    ended, text = await yard.run("touch planted", key="cut")
    assert (ended.reason, text) == ("lost", "half")
    assert not (yard.workspace / "planted").exists()


async def supervisor_of(yard: Yard) -> int:
    await yard.run("true")
    supervisor = lock.holder(str(yard.session))
    assert supervisor
    return supervisor


def waiting(yard: Yard) -> list[int]:
    """The children of a supervisor without commands, but for what will be the broker: that stands outside the pod."""
    supervisor = lock.holder(str(yard.session))
    children = descendants(supervisor) if supervisor else []
    return children if yard.level is not Level.FULL else [pid for pid in children if not is_outside(pid)]


def is_outside(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
    return True


async def one_waits(yard: Yard) -> int:
    async with asyncio.timeout(10):
        while not waiting(yard):
            await asyncio.sleep(0.02)
    (pid,) = waiting(yard)
    return pid


async def test_the_process_of_the_next_command_waits_and_becomes_it(yard: Yard):
    await yard.run("true")
    pid = await one_waits(yard)
    running = asyncio.create_task(yard.run("touch begun; while [ ! -e go ]; do sleep 0.02; done", key="next"))
    async with asyncio.timeout(10):
        while not (yard.workspace / "begun").exists():
            await asyncio.sleep(0.02)
    assert Path(f"/proc/{pid}").exists()
    assert descendants(pid)
    (yard.workspace / "go").touch()
    assert (await running)[0].exit_code == 0
    assert await one_waits(yard) != pid


async def test_a_waiting_process_that_was_killed_is_replaced(yard: Yard):
    await yard.run("true")
    os.kill(await one_waits(yard), signal.SIGKILL)
    ended, text = await yard.run("echo ran")
    assert (ended.reason, ended.exit_code, text) == ("exited", 0, "ran\n")


async def test_a_waiting_process_ends_with_its_supervisor_and_on_close(yard: Yard):
    await yard.run("true")
    pid = await one_waits(yard)
    supervisor = lock.holder(str(yard.session))
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)
    await yard.run("true")
    pid = await one_waits(yard)
    await yard.commands().close()
    assert not Path(f"/proc/{pid}").exists()


async def test_a_waiting_process_that_somebody_stopped_does_not_hold_the_close_back(yard: Yard):
    await yard.run("true")
    pid = await one_waits(yard)
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(5):
        await yard.commands().close()
    assert not Path(f"/proc/{pid}").exists()


async def test_what_is_told_not_to_have_started_has_not(yard: Yard):
    files = len(os.listdir(f"/proc/{await supervisor_of(yard)}/fd")) + 1
    await yard.commands().close()
    commands = yard.commands(Limits(grace_s=0.5, files=files))
    runs: list[asyncio.Task[Ended]] = []
    for n in range(12):
        spec = yard.spec(f"touch began-{n}; sleep 1", key=f"crowd-{n}")
        runs.append(asyncio.create_task(commands.run(spec, lambda _: None)))
        await asyncio.sleep(0.15)
    refused = 0
    for n, ended in enumerate(await asyncio.gather(*runs, return_exceptions=True)):
        began = isinstance(ended, Ended) and ended.reason == "exited"
        assert (yard.workspace / f"began-{n}").exists() == began, ended
        refused += not began
    assert refused


_FULL_DISK = """
import asyncio, sys
from pathlib import Path
from ml_intern.base.errors import SandboxError
from ml_intern.sandbox.levels import Level
from tests.sandbox.yard import make_yard

def fill(path):
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass

async def main():
    place = Path(sys.argv[1])
    yard = make_yard(place, Level[sys.argv[2]])
    commands = yard.commands()
    spec = yard.spec("touch ready; while [ -e ready ]; do sleep 0.02; done; echo heard; exit 3", key="through")
    run = asyncio.create_task(commands.run(spec, lambda _: None))
    while not (yard.workspace / "ready").exists():
        await asyncio.sleep(0.02)
    fill(place / "filling")
    (yard.workspace / "ready").unlink()
    ended = await run
    print(ended.reason, ended.exit_code, ended.note)
    print((await commands.attach("through", lambda _: None)) == ended)
    try:
        await commands.run(yard.spec("true", key="refused"), lambda _: None)
    except SandboxError as refused:
        print(refused.what)
    (place / "filling").unlink()
    print((await commands.run(yard.spec("exit 5", key="refused"), lambda _: None)).exit_code)
    await commands.close()
    print((await commands.attach("through", lambda _: None)) == ended)

asyncio.run(main())
"""


async def test_a_full_disk_ends_no_command_and_hides_no_end(yard: Yard, tmp_path: Path):
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("only root can make a small disk, with unshare")
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=1m,mode=700 none "$1" && exec "$2" -c "$3" "$1" "$4"'
    line = ["unshare", "-m", "sh", "-c", script, "sh", str(small), sys.executable, _FULL_DISK, yard.level.name]
    process = await asyncio.create_subprocess_exec(
        *line, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert out.decode().splitlines() == [
        "exited 3 output could not be written: No space left on device",
        "True",
        "The command was refused: OSError: [Errno 28] No space left on device.",
        "5",
        "True",
    ], err.decode()


async def test_a_waiting_process_keeps_no_connection_open(yard: Yard):
    await yard.run("true")
    pid = await one_waits(yard)
    async with asyncio.timeout(10):
        while len(os.listdir(f"/proc/{pid}/fd")) > 8:
            await asyncio.sleep(0.02)
    assert not [name for name in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()) if "socket:" in name]


async def test_a_command_inherits_its_three_descriptors_and_no_other(yard: Yard):
    for _ in range(2):  # The first has a process made at once, the second one that waited.
        # One is open only while the shell lists them.
        _, told = await yard.run("for each in /proc/$$/fd/*; do [ -e $each ] && echo ${each##*/}; done")
        assert told.split() == ["0", "1", "2"]


async def test_a_supervisor_that_cannot_start_says_why(tmp_path: Path, yard: Yard):
    (yard.session / "commands").write_text("a file where a folder should be")
    with pytest.raises(SandboxError) as refused:
        await yard.run("true")
    assert "commands" in refused.value.what
    assert "supervisor.log" in refused.value.remedy
    (yard.session / "commands").unlink()


async def test_a_stranger_socket_in_its_place_is_replaced(yard: Yard):
    with contextlib.chdir(yard.session), socket.socket(socket.AF_UNIX) as stale:
        stale.bind("supervisor.sock")
    assert (await yard.run("true"))[0].exit_code == 0


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path):
    written = Outcome("deadline", 143, 10, 2, 1.5, "a note")
    assert load_outcome(str(tmp_path)) is None
    save_outcome(str(tmp_path), written)
    assert load_outcome(str(tmp_path)) == written
    assert [path.name for path in tmp_path.iterdir()] == ["exit.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"reason": "whim"}', '{"reason": "exited", "output_bytes": "many"}'])
def test_an_outcome_that_is_not_ours_is_not_believed(tmp_path: Path, text: str):
    (tmp_path / "exit.json").write_text(text)
    with pytest.raises(ValueError, match=r"reason|Expecting|invalid literal"):
        load_outcome(str(tmp_path))
