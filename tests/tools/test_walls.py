import os
import socket
from pathlib import Path

import pytest

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.tools.read import Read
from ml_intern.tools.walls import walls_in
from ml_intern.tools.write import Write
from tests.tools.bench import Bench, make_bench

WRITES = "A wall of the sandbox: only "
OUTSIDE = "lies outside what this session may see"
NETWORK = "A wall of the sandbox: commands have no network"
RIGHTS = "A wall of the sandbox: the sandbox forbids mounts"


@pytest.mark.parametrize(
    ("command", "wall"),
    [
        ("echo x > /usr/x", WRITES),
        ("echo x >> /etc/passwd", WRITES),
        ("touch /etc/new", WRITES),
        ("echo x > .git/hooks/pre-commit", WRITES),
        ("echo x >> .git/config", WRITES),
        ("mv .git elsewhere", WRITES),
        ("cat /root/.ssh/id_rsa", OUTSIDE),
        ("cat /etc/shadow", OUTSIDE),
        ("python3 -c \"open('/root/.netrc')\"", OUTSIDE),
        ("cat link", "is a link to /root/.ssh/id_rsa"),
        ("echo x > /srv/x", OUTSIDE),
        ("python3 -c \"import socket; socket.create_connection(('192.0.2.1', 80), 3)\"", NETWORK),
        ("python3 -c \"import urllib.request as u; u.urlopen('http://example.com')\"", NETWORK),
        ("mount -t tmpfs none /tmp", RIGHTS),
        ("unshare -m true", RIGHTS),
    ],
)
async def test_an_escape_fails_and_the_answer_names_the_wall(shell, command, wall):
    (shell.bench.workspace / "link").symlink_to("/root/.ssh/id_rsa")
    result = await shell.run(command)
    assert result.outcome == "failed"
    assert wall in result.text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    git = tmp_path / "work" / ".git"
    (git / "hooks").mkdir(parents=True)
    (git / "config").write_text("[core]\n")
    return make_bench(tmp_path)


async def test_a_secret_beside_the_workspace_is_seen_by_no_tool(shell, tmp_path):
    secret = tmp_path / "home-secret"
    secret.write_text("planted-secret")
    bash = await shell.run(
        f"cat {secret} ../home-secret; grep -r planted {tmp_path} /root /home /var; env; cat /proc/*/environ"
    )
    assert "planted-secret" not in bash.text
    read = Read(shell.bench.roots, shell.bench.blobs)
    for path in (str(secret), "../home-secret"):
        with pytest.raises(ToolFailed, match="does not exist"):
            await shell.bench.call(read, path=path)


async def test_the_host_s_localhost_is_not_reached(shell):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = await shell.run(f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 3)\"")
        assert result.outcome == "failed"
        assert "ConnectionRefusedError" in result.text


async def test_commands_and_file_tools_give_the_same_verdict_on_writes(shell):
    write = Write(shell.bench.roots)
    for path in ("/usr/x", "/etc/new", "/var/x", ".git/hooks/pre-commit", "/root/x"):
        assert (await shell.run(f"echo x > {path}")).outcome == "failed"
        with pytest.raises(PathRefused):
            await shell.bench.prepare(write, path=path, content="x")
    for path in ("a", "~/a", "/tmp/ml-intern-test-a"):
        assert (await shell.run(f"echo x > {path}")).outcome == "ok"
    assert not os.path.exists("/tmp/ml-intern-test-a")


@pytest.mark.parametrize(
    "output",
    ["", "Permission denied is what the log says", "cat: nothing: No such file or directory", "Operation complete"],
)
def test_ordinary_output_names_no_wall(bench, output):
    assert walls_in(output, bench.roots) == ()


def test_a_path_inside_that_does_not_exist_is_no_wall(bench):
    assert walls_in(f"cat: {bench.path('none')}: No such file or directory", bench.roots) == ()


def test_too_many_processes_are_told(bench):
    (told,) = walls_in("bash: fork: retry: Resource temporarily unavailable", bench.roots)
    assert told == "the command reached its limit of processes. Start fewer at a time."
