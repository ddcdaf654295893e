import asyncio
import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from ml_intern.base.errors import SandboxError
from ml_intern.sandbox import lock
from ml_intern.sandbox.commands import Commands, Ended, Running, Spec
from ml_intern.sandbox.limits import Limits
from tests.sandbox.yard import QUICK, Yard, alive, make_yard


async def until(condition, timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_command_answers_with_its_output_and_its_exit_code(yard: Yard):
    ended, text = await yard.run("echo hello; exit 7")
    assert (ended.reason, ended.exit_code, text) == ("exited", 7, "hello\n")
    assert ended.output_path.read_bytes() == b"hello\n"
    assert (ended.output_bytes, ended.dropped_bytes, ended.note) == (6, 0, "")


async def test_standard_output_and_error_arrive_in_the_order_they_were_written(yard: Yard):
    _, text = await yard.run("for n in 1 2 3 4 5 6 7 8 9; do echo o$n; echo e$n >&2; done")
    assert text == "".join(f"o{n}\ne{n}\n" for n in range(1, 10))


async def test_a_signal_ends_a_command_with_the_code_a_shell_gives(yard: Yard):
    ended, _ = await yard.run("kill -SEGV $$")
    assert (ended.reason, ended.exit_code) == ("exited", 128 + signal.SIGSEGV)


async def test_a_broken_pipe_ends_the_writer_quietly_as_in_any_shell(yard: Yard):
    ended, text = await yard.run("yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert (ended.exit_code, text) == (0, f"y\n{128 + signal.SIGPIPE}\n")


async def test_a_command_gets_its_environment_its_folder_no_input_and_no_open_file(yard: Yard):
    _, text = await yard.run("env -u _ -u SHLVL -u PWD | sort; pwd; wc -c; ls /proc/$$/fd; true")
    lines = text.split("\n")
    assert lines[:3] == ["HOME=" + str(yard.workspace), "LC_ALL=C", "PATH=/usr/bin:/bin"]
    assert lines[3:5] == [str(yard.workspace), "0"]
    assert set(lines[5:-1]) == {"0", "1", "2"}


async def test_output_is_seen_while_the_command_runs(yard: Yard):
    first = asyncio.Event()
    run = asyncio.create_task(
        yard.commands().run(yard.spec("echo now; while [ ! -e go ]; do sleep 0.02; done"), lambda _: first.set())
    )
    async with asyncio.timeout(5):
        await first.wait()
    assert not run.done()
    (yard.workspace / "go").touch()
    assert (await run).exit_code == 0


async def test_at_the_deadline_the_whole_tree_ends(yard: Yard):
    command = "setsid sleep 4711.25 & (setsid nohup sleep 4711.25 >/dev/null 2>&1 &) ; sleep 4711.25"
    begun = time.monotonic()
    ended, _ = await yard.run(command, deadline_s=0.4)
    assert ended.reason == "deadline"
    assert 0.4 <= ended.duration_s <= 2
    assert time.monotonic() - begun < 3
    assert alive("4711.25") == []


async def test_stop_lets_a_command_tidy_up_within_the_grace(yard: Yard):
    spec = yard.spec("trap 'echo tidy > done; exit 5' TERM; touch ready; while :; do sleep 0.05; done")
    run = asyncio.create_task(yard.commands().run(spec, lambda _: None))
    await until((yard.workspace / "ready").exists)
    await yard.commands().stop(spec.key)
    ended = await run
    assert (ended.reason, ended.exit_code) == ("stopped", 5)
    assert (yard.workspace / "done").read_text() == "tidy\n"


async def test_stop_kills_what_does_not_listen(yard: Yard):
    child = "trap '' TERM; setsid bash -c 'sleep 4712.25; :' & wait"
    command = f'trap "" TERM; touch ready; bash -c "{child}"; sleep 4712.25'
    spec = yard.spec(command)
    run = asyncio.create_task(yard.commands().run(spec, lambda _: None))
    await until((yard.workspace / "ready").exists)
    await yard.commands().stop(spec.key)
    ended = await run
    assert (ended.reason, ended.exit_code) == ("stopped", 137)
    assert alive("4712.25") == []


@pytest.mark.parametrize(
    "survivor", ["setsid sleep 4713.25 &", "(setsid nohup sleep 4713.25 &)", "sleep 4713.25 & disown"]
)
async def test_nothing_outlives_the_command_that_left_it_behind(yard: Yard, survivor: str):
    ended, _ = await yard.run(f"{survivor}\nsleep 0.1; exit 0")
    assert (ended.reason, ended.exit_code) == ("exited", 0)
    assert ended.duration_s < 2
    assert alive("4713.25") == []


async def test_output_beyond_the_limit_is_counted_and_the_command_goes_on(yard: Yard):
    seen: list[int] = []
    commands = yard.commands(Limits(output_bytes=1_000_000))
    command = "yes | head -c 200000000; echo finished > witness"
    ended = await commands.run(yard.spec(command), lambda chunk: seen.append(len(chunk)))
    assert (ended.reason, ended.exit_code) == ("exited", 0)
    assert (ended.output_bytes, ended.dropped_bytes) == (1_000_000, 199_000_000)
    assert sum(seen) == ended.output_path.stat().st_size == 1_000_000
    assert (yard.workspace / "witness").exists()
    assert "1000000 bytes" in ended.note


async def test_a_key_has_one_effect_however_often_it_is_started(yard: Yard):
    spec = yard.spec("echo x >> witness; sleep 0.3; echo done")
    starts = [Commands(yard.session, yard.level, limits=QUICK).run(spec, lambda _: None) for _ in range(8)]
    together = await asyncio.gather(*starts)
    later = await yard.commands().run(spec, lambda _: None)
    assert {ended.exit_code for ended in together} == {0}
    assert set(together) == {later}
    assert (yard.workspace / "witness").read_text() == "x\n"


async def test_starting_returns_as_soon_as_the_supervisor_owns_the_command_and_never_starts_it_twice(yard: Yard):
    spec = yard.spec("echo begun >> log; until [ -e go ]; do sleep 0.02; done; exit 3")
    first = await yard.commands().start(spec)
    assert isinstance(first, Running)
    assert await yard.commands().start(spec) == first == await yard.commands().find(spec.key)
    assert await yard.commands().running() == (spec.key,)
    (yard.workspace / "go").touch()
    ended = await yard.commands().attach(spec.key, lambda _: None)
    assert (ended.exit_code, await yard.commands().start(spec)) == (3, ended)
    assert (yard.workspace / "log").read_text() == "begun\n"


async def test_what_is_made_just_before_the_start_is_made_once_and_off_the_loop(yard: Yard):
    made: list[int] = []

    def spec() -> Spec:
        made.append(threading.get_ident())
        return yard.spec("echo x >> witness", key="made-late")

    ended = await yard.commands().run(spec, lambda _: None)
    assert (ended.exit_code, (yard.workspace / "witness").read_text()) == (0, "x\n")
    assert len(made) == 1
    assert made[0] != threading.get_ident()
    assert await yard.commands().start(spec) == ended
    assert (yard.workspace / "witness").read_text() == "x\n"


async def test_what_cannot_be_started_is_refused_when_it_is_started(yard: Yard):
    await yard.run("true")
    (yard.session / "commands" / "barred").write_text("a file stands where its folder would")
    with pytest.raises(SandboxError):
        await yard.commands().start(yard.spec("true", key="barred"))


async def test_being_cancelled_does_not_stop_a_command(yard: Yard):
    spec = yard.spec("touch ready; sleep 0.4; echo end")
    run = asyncio.create_task(yard.commands().run(spec, lambda _: None))
    await until((yard.workspace / "ready").exists)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert isinstance(await yard.commands().find(spec.key), Running)
    assert await yard.commands().running() == (spec.key,)
    seen: list[bytes] = []
    ended = await yard.commands().attach(spec.key, seen.append)
    assert (ended.exit_code, b"".join(seen)) == (0, b"end\n")


def client_script(yard: Yard) -> str:
    return textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from ml_intern.sandbox.levels import Level
        from tests.sandbox.yard import Yard, make_yard
        from ml_intern.sandbox.paths import Root, Roots
        session, workspace = Path({str(yard.session)!r}), Path({str(yard.workspace)!r})
        yard = Yard(session, workspace, Level({yard.level.value}), {yard.roots!r})
        command = "for n in 1 2 3 4 5 6 7 8; do echo line $n; echo x >> witness; sleep 0.1; done"
        asyncio.run(yard.commands().run(yard.spec(command, "kept"), lambda _: None))
    """)


async def test_a_command_outlives_the_kill_of_its_client_and_of_its_group(yard: Yard):
    root = Path(__file__).parents[2]
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", client_script(yard), cwd=root, start_new_session=True
    )
    await until((yard.workspace / "witness").exists)
    os.killpg(client.pid, signal.SIGKILL)
    await client.wait()
    seen: list[bytes] = []
    ended = await yard.commands().attach("kept", seen.append)
    assert (ended.reason, ended.exit_code) == ("exited", 0)
    assert b"".join(seen).decode() == "".join(f"line {n}\n" for n in range(1, 9))
    assert (yard.workspace / "witness").read_text() == "x\n" * 8


async def test_the_commands_of_a_killed_supervisor_die_and_are_lost(yard: Yard):
    spec = yard.spec("echo begun; touch ready; setsid sleep 4714.25 & sleep 4714.25")
    run = asyncio.create_task(yard.commands().run(spec, lambda _: None))
    await until((yard.workspace / "ready").exists)
    supervisor = lock.holder(str(yard.session))
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    ended = await run
    assert (ended.reason, ended.exit_code) == ("lost", None)
    assert ended.output_path.read_text() == "begun\n"
    await until(lambda: not alive("4714.25"))
    assert await yard.commands().find(spec.key) == ended
    again, text = await yard.run("echo a new supervisor")
    assert (again.exit_code, text) == (0, "a new supervisor\n")
    assert (await yard.commands().run(spec, lambda _: None)).reason == "lost"


async def test_close_ends_every_command_and_the_supervisor(yard: Yard):
    specs = [yard.spec(f"touch ready{n}; sleep 4715.25") for n in range(3)]
    runs = [asyncio.create_task(yard.commands().run(spec, lambda _: None)) for spec in specs]
    for n in range(3):
        await until((yard.workspace / f"ready{n}").exists)
    supervisor = lock.holder(str(yard.session))
    await yard.commands().close()
    assert {(await run).reason for run in runs} == {"closed"}
    assert lock.holder(str(yard.session)) is None
    await until(lambda: not Path(f"/proc/{supervisor}").exists())
    assert alive("4715.25") == []
    await yard.commands().close()


async def test_close_ends_a_supervisor_that_is_stopped(yard: Yard):
    commands = yard.commands(Limits(grace_s=-9.0))
    spec = yard.spec("touch ready; sleep 4716.25")
    run = asyncio.create_task(commands.run(spec, lambda _: None))
    await until((yard.workspace / "ready").exists)
    supervisor = lock.holder(str(yard.session))
    assert supervisor
    os.kill(supervisor, signal.SIGSTOP)
    await commands.close()
    assert lock.holder(str(yard.session)) is None
    assert (await run).reason == "lost"
    await until(lambda: not alive("4716.25"))


async def test_an_idle_supervisor_ends_itself_and_the_next_command_starts_another(yard: Yard):
    commands = yard.commands(Limits(idle_s=0.2))
    first = await commands.run(yard.spec("echo one"), lambda _: None)
    await until(lambda: lock.holder(str(yard.session)) is None)
    second = await commands.run(yard.spec("echo two"), lambda _: None)
    assert (first.exit_code, second.exit_code) == (0, 0)


async def test_what_ended_can_be_read_without_a_supervisor(yard: Yard):
    ended, _ = await yard.run("echo kept", key="kept")
    await yard.commands().close()
    seen: list[bytes] = []
    assert await yard.commands().find("kept") == ended
    assert await yard.commands().attach("kept", seen.append) == ended
    assert seen == [b"kept\n"]
    assert lock.holder(str(yard.session)) is None


async def test_an_unknown_key_is_none_and_cannot_be_followed(yard: Yard):
    assert await yard.commands().find("never") is None
    with pytest.raises(SandboxError, match="never"):
        await yard.commands().attach("never", lambda _: None)


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "/etc", ".hidden", "a" * 101, "naïve", "a\nb"])
async def test_a_key_that_is_no_plain_name_is_refused(yard: Yard, key: str):
    with pytest.raises(SandboxError):
        await yard.commands().run(Spec(key, ("true",), "/", {}, 1, yard.roots), lambda _: None)


async def test_a_program_that_does_not_exist_failed_to_start(yard: Yard):
    spec = yard.spec("")
    ended = await yard.commands().run(
        Spec("missing", ("/no/such/program",), spec.cwd, spec.env, 5, spec.roots), lambda _: None
    )
    assert (ended.reason, ended.exit_code) == ("failed_to_start", None)
    told = ended.note + ended.output_path.read_text()
    assert "/no/such/program" in told
    assert "No such file" in told


async def test_a_folder_that_does_not_exist_inside_failed_to_start(yard: Yard):
    spec = yard.spec("")
    ended = await yard.commands().run(Spec("nowhere", ("true",), "/nowhere", spec.env, 5, spec.roots), lambda _: None)
    assert ended.reason == "failed_to_start"


async def test_a_session_folder_deeper_than_a_socket_address_works(machine_level, tmp_path: Path):
    yard = make_yard(tmp_path / ("deep" * 20) / ("deeper" * 20), machine_level)
    ended, text = await yard.run("echo far down")
    await yard.commands().close()
    assert (ended.exit_code, text) == (0, "far down\n")


async def test_many_commands_run_side_by_side(yard: Yard):
    specs = [yard.spec(f"sleep 0.2; echo {n}") for n in range(24)]
    commands = yard.commands()
    outputs: list[list[bytes]] = [[] for _ in specs]
    all_ended: list[Ended] = await asyncio.gather(
        *(commands.run(spec, seen.append) for spec, seen in zip(specs, outputs, strict=True))
    )
    assert [b"".join(seen) for seen in outputs] == [f"{n}\n".encode() for n in range(24)]
    assert {ended.reason for ended in all_ended} == {"exited"}
