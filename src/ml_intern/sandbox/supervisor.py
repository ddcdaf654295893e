"""The process that owns a session's commands and outlives us: holds the pod, starts, stops and reaps.

Knows no tool, no policy and no record. Imports only the standard library (and our modules that do likewise), because it
starts as `python -I -S`. Its state is the folders `commands/<key>/`: made exclusively, spec.json, output, exit.json.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import time

from ml_intern.sandbox import limits, lock, outcome, pod
from ml_intern.sandbox.broker import grants
from ml_intern.sandbox.broker.doors import HUB_PORT, PROXY_PORT
from ml_intern.sandbox.broker.stem import Stem
from ml_intern.sandbox.capture import Capture
from ml_intern.sandbox.clients import SOCKET, Client, Clients, Message
from ml_intern.sandbox.command import Command
from ml_intern.sandbox.keeping import UNDONE, Keeping
from ml_intern.sandbox.launch import Launch, to_launch
from ml_intern.sandbox.limits import Limits
from ml_intern.sandbox.outcome import Ends, Outcome, with_note
from ml_intern.sandbox.stock import Stock

COMMANDS = "commands"
_COUNT_EVERY_S = 0.05


class Means:
    """What the supervisor has and does not change while it lives."""

    def __init__(self, folder: str, bounds: Limits, level: str) -> None:
        self.folder = f"{folder}/{COMMANDS}"
        self.ends = Ends(self.folder)
        self.level = level
        self.walled = level == "full"
        # What will be the broker must stay outside the pod that we enter.
        self.stem = Stem(folder) if self.walled else None
        self.limits = bounds
        self.stock = Stock(folder, bounds, walled=self.walled)
        # The kernel's own limit per user does not bind root.
        self.counts_processes = self.stock.bases.processes is None and os.geteuid() == 0


class Supervisor:
    """A loop over the socket, the pipes, ended children and the clock. One thread."""

    def __init__(self, means: Means, selector: selectors.BaseSelector, clients: Clients) -> None:
        self._means = means
        self._selector = selector
        self._clients = clients
        self._commands: dict[str, Command] = {}
        self._keeping = Keeping()
        self._closing = False
        self._idle_since = self._counted_at = time.monotonic()

    def close(self) -> None:
        """End every command, then the supervisor."""
        self._closing = True
        for command in self._commands.values():
            command.end("closed", self._means.limits.grace_s)

    def serve(self) -> None:
        """Until closed, or idle for long."""
        while not self._is_done():
            for chosen, _ in self._selector.select(self._timeout_s()):
                match chosen.data:
                    case Clients():
                        self._clients.accept()
                    case Client() as client:
                        self._hear(client)
                    case Command() as command:
                        self._read(command)
                    case _:
                        os.read(chosen.fd, 4096)
            self._look_after()
        self._means.ends.write_again()
        self._clients.close()
        self._means.stock.close()

    def _is_done(self) -> bool:
        if self._commands:
            return False
        return self._closing or (
            not len(self._clients) and time.monotonic() - self._idle_since > self._means.limits.idle_s
        )

    def _timeout_s(self) -> float:
        now = time.monotonic()
        moments = [command.due_at() for command in self._commands.values()]
        moments.append((self._idle_since if not self._commands else now) + self._means.limits.idle_s + 0.01)
        if (hint_at := self._clients.hint(now)) is not None:
            moments.append(hint_at)
        moments.append(self._means.stock.due_at(now))
        if self._commands and self._means.counts_processes:
            moments.append(self._counted_at + _COUNT_EVERY_S)
        return max(0.0, min(moments) - now)

    def _look_after(self) -> None:
        now = time.monotonic()
        counts = self._means.counts_processes and now >= self._counted_at + _COUNT_EVERY_S
        self._counted_at = now if counts else self._counted_at
        for command in list(self._commands.values()):
            command.reap()
            if counts:
                command.count(self._means.limits.processes)
            command.tick(now, self._means.limits.grace_s)
            if command.is_over(now):
                self._finish(command)
        self._means.stock.tend(now)
        if self._commands or len(self._clients):
            self._idle_since = now

    def _read(self, command: Command) -> None:
        pipe = command.capture.pipe
        command.capture.read()
        if not command.capture.is_open:
            self._selector.unregister(pipe)
        self._clients.note_output(command.launch.key)

    def _finish(self, command: Command) -> None:
        if command.capture.is_open:
            self._selector.unregister(command.capture.pipe)
        result = command.outcome(self._means.limits, self._means.stock.memory_bytes)
        # Before anybody hears of its end.
        grants.end(f"{self._means.folder}/{command.launch.key}")
        command.close()
        del self._commands[command.launch.key]
        if not self._commands and (changed := self._keeping.restore()):
            result = with_note(result, f"{UNDONE} {', '.join(changed)}")
        self._save(command.launch.key, result)
        self._clients.tell_end(command.launch.key, result._asdict())
        self._means.stock.leave(command.group)

    def _save(self, key: str, result: Outcome) -> None:
        # Who asks hears it from us; it is tried again when we end.
        if why := self._means.ends.keep(key, result):
            _say(f"{key}: {outcome.RESULT} could not be written: {why}")

    def _hear(self, client: Client) -> None:
        requests = client.requests()
        if requests is None:
            self._clients.drop(client)
            return
        for request in requests:
            try:
                self._clients.tell(client, self._answer(client, request))
            except (KeyError, TypeError, ValueError, OSError) as error:
                self._clients.tell(client, {"event": "refused", "why": f"{type(error).__name__}: {error}"})

    def _answer(self, client: Client, request: Message) -> Message:
        key = str(request.get("key", ""))
        match request.get("op"):
            case "hello":
                means = self._means
                return {"event": "hello", "level": means.level, "walled": means.walled, "running": list(self._commands)}
            case "start" if not self._closing:
                return self._start(client, request)
            case "follow":
                return self._follow(client, key)
            case "stop":
                if command := self._commands.get(key):
                    command.end("stopped", self._means.limits.grace_s)
                return {"event": "stopping"}
            case "network":
                self._tell_broker(str(request["reach"]))
                return {"event": "network"}
            case "forward" if self._means.walled:
                return _forward(client, int(str(request["port"])), six=bool(request.get("six")))
            case "close":
                self.close()
                return {"event": "closing"}
            case other:
                raise ValueError(f"cannot {other!r} now")

    def _tell_broker(self, reach: str) -> None:
        try:
            if self._means.stem:
                self._means.stem.tell(reach)
        except OSError as error:
            # Commands run on without a network.
            _say(f"the broker is gone: {error}")

    def _start(self, client: Client, request: Message) -> Message:
        wanted = to_launch(request)
        if wanted.level != self._means.level:
            raise ValueError("this supervisor runs at another level")
        folder = f"{self._means.folder}/{wanted.key}"
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            return self._follow(client, wanted.key)
        try:
            outcome.save_json(f"{folder}/{outcome.SPEC}", request)
            output = os.open(f"{folder}/{outcome.OUTPUT}", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
            _flush_folder(folder)
        except OSError:
            # Refused, not begun: the same key may be tried again.
            _forget(folder)
            raise
        client.key = wanted.key
        try:
            self._spawn(wanted, folder, output)
        except (OSError, ValueError) as error:
            os.close(output)
            grants.end(folder)
            client.key = ""
            if not self._commands:
                self._keeping.restore()
            failed = Outcome("failed_to_start", note=str(error))
            self._save(wanted.key, failed)
            return {"event": "ended", "result": failed._asdict()}
        return {"event": "started"}

    def _spawn(self, wanted: Launch, folder: str, output: int) -> None:
        if wanted.rules:
            self._keeping.remember(wanted.rules.kept)
        if wanted.pushes:
            grants.give(folder, wanted.token, wanted.pushes)
        # From here on it runs: nothing may fail before it is one of ours.
        process = self._means.stock.take(wanted, folder)
        capture = Capture(process.pipe, output, self._means.limits.output_bytes)
        self._commands[wanted.key] = Command(wanted, process, capture)
        self._selector.register(capture.pipe, selectors.EVENT_READ, self._commands[wanted.key])

    def _follow(self, client: Client, key: str) -> Message:
        if key in self._commands:
            client.key = key
            return {"event": "following"}
        found = self._means.ends.find(key)
        return {"event": "ended", "result": found._asdict()} if found else {"event": "unknown"}


def _forward(client: Client, port: int, *, six: bool) -> Message:
    """Give a connection to a port of the pod away; nowhere else can it lead. Never waits."""
    if port in {PROXY_PORT, HUB_PORT} or not 0 < port < 65_536:
        raise ValueError(f"{port} is no port of a command")
    try:
        client.enclose(pod.dial(port, six=six))
    except OSError as error:
        return {"event": "nobody", "why": error.strerror}
    return {"event": "forward"}


def _mark_lost(folder: str) -> None:
    """What an earlier supervisor left open is lost; what it never began is forgotten."""
    for key in os.listdir(folder):
        place = f"{folder}/{key}"
        if not os.path.exists(f"{place}/{outcome.SPEC}"):
            _forget(place)
        elif _is_open(place):
            size = os.path.getsize(f"{place}/{outcome.OUTPUT}") if os.path.exists(f"{place}/{outcome.OUTPUT}") else 0
            note = "the process that owned it was gone; how it ended is not known"
            grants.end(place)
            outcome.save_outcome(place, Outcome("lost", output_bytes=size, note=note))


def _forget(place: str) -> None:
    for name in (f"{outcome.SPEC}.new", outcome.SPEC, outcome.OUTPUT):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{place}/{name}")
    os.rmdir(place)


def _is_open(place: str) -> bool:
    try:
        return outcome.load_outcome(place) is None
    except ValueError:
        # Not ours: who asks for it is told.
        return False


def _flush_folder(path: str) -> None:
    """Only that the command was begun must survive a loss of power: `spec.json` in its folder says so, empty or not.

    A new folder reaches the disk no later than what is flushed in it: ext4, xfs and btrfs keep that order.
    """
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _say(text: str) -> None:
    # The log lies on the same disk: where that is full, commands still matter more than what is said of them.
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()} {text}\n".encode())


def _listen(selector: selectors.BaseSelector) -> Clients:
    # The name is relative: an absolute one may be longer than the 108 bytes a socket address holds.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    listener.bind(SOCKET)
    os.umask(before)
    listener.listen(128)
    listener.settimeout(0)
    return Clients(selector, listener)


def _detach() -> int:
    """Leave the one who started us: it returns when the number we return is written to, and has nobody to kill."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.setsid()
    os.close(reading)
    return writing


def _wake_on_signals(selector: selectors.BaseSelector, supervisor: Supervisor) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    selector.register(reading, selectors.EVENT_READ)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _only_wake)
    signal.signal(signal.SIGTERM, lambda _number, _frame: supervisor.close())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _come_first() -> None:
    """Run before ordinary processes: who counts a fork bomb must not be starved by it. Needs rights we may lack."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _only_wake(_number: int, _frame: object) -> None:
    """The wake-up byte is all we want of a signal."""


def main(arguments: list[str]) -> None:
    """`<session folder> <full|walls|none> <limits as JSON>`. Returns at once where the session has a supervisor."""
    folder, level, bounds = arguments
    os.umask(0o077)
    os.chdir(folder)
    ready = _detach()
    if not lock.take():
        os.write(ready, b"1")
        return
    means = Means(folder, Limits(**json.loads(bounds)), level)
    if means.counts_processes:
        _come_first()
    if means.stem:
        pod.enter()
        means.stem.open_doors()
    os.makedirs(COMMANDS, 0o700, exist_ok=True)
    limits.apply(means.limits, memory_bytes=None if means.stock.bases.memory else means.stock.memory_bytes)
    _mark_lost(means.folder)
    selector = selectors.DefaultSelector()
    supervisor = Supervisor(means, selector, _listen(selector))
    _wake_on_signals(selector, supervisor)
    os.write(ready, b"1")
    os.close(ready)
    supervisor.serve()
