"""The table: ml-intern against the floor, on this machine, now. `make bench`, ARGS="--runs 9 --long --peers all".

Whole processes, started in turn (A B A B): a machine that slows down slows both. README.md says what each row means.
"""

import argparse
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
import ours
import peers

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
_LONG = "run 1010 commands"
_EVENTS = 10_000
_MUCH = "yes 'epoch 1 step 1000 loss 0.1234 lr 0.001' | head -c 10000000"
Pair = tuple[measure.Played, measure.Played]


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what is compared, its figure in each run of either side, and the most that ours may be.

    That is `times` the median of the floor (or of what `against` names) and `plus`, in the row's unit.
    """

    what: str
    unit: str
    floor: list[float]
    ours: list[float]
    times: float
    plus: float = 0.0
    against: str = "floor"

    @property
    def target(self) -> float:
        """The most that the median of ours may be."""
        return statistics.median(self.floor) * self.times + self.plus

    @property
    def kept(self) -> bool:
        """Whether it is."""
        return statistics.median(self.ours) <= self.target

    def cells(self) -> list[str]:
        """The line as texts."""
        ratios = [mine / base for base, mine in zip(self.floor, self.ours, strict=True)]
        ratio = statistics.median(self.ours) / statistics.median(self.floor)
        plus = f" + {self.plus:.1f} {self.unit}" if self.plus else ""
        target = f"<= {self.times:g} x {self.against}{plus} = {self.target:.{_places(self.target)}f} {self.unit}"
        return [
            self.what,
            _spread(self.floor, self.unit),
            _spread(self.ours, self.unit),
            f"{ratio:.2f} x ({min(ratios):.2f}-{max(ratios):.2f})",
            target,
            "PASS" if self.kept else "miss",
        ]


def _places(figure: float) -> int:
    return 0 if figure >= 100 else 1


def _spread(figures: Sequence[float], unit: str) -> str:
    middle = statistics.median(figures)
    places = _places(middle)
    return f"{middle:.{places}f} {unit} ({min(figures):.{places}f}-{max(figures):.{places}f})"


class Bench:
    """The two sides and where they run. The first run of each in every comparison is thrown away: it warms caches."""

    def __init__(self, folder: Path, runs: int, subject: measure.Command) -> None:
        self._folder = folder
        self.runs = runs
        self.spawns_ms: list[float] = []
        self._subject = subject
        home = folder / "home"
        home.mkdir()
        self._env = ours.environment(home)

    @property
    def spawn_ms(self) -> float:
        """One spawn, as measured beside the pairs last played."""
        return statistics.median(self.spawns_ms)

    def pairs(self, script: str, prompt: str, requests: int) -> list[Pair]:
        """Both sides in turn against one script; each must have made exactly so many requests.

        Between the two a spawn is measured, which a step's target has in it: no machine is equally fast all the time.
        """
        played: list[Pair] = []
        self.spawns_ms.clear()
        with measure.Server(SCRIPTS / script, self._folder, ours.PRICE) as double:
            for _ in range(self.runs + 1):
                base = self._play(double, ours.floor, prompt, requests)
                self._spawn()
                played.append((base, self._play(double, self._subject, prompt, requests)))
        return played[1:]

    def alone(
        self, command: measure.Command, script: str, prompt: str, runs: int, requests: int
    ) -> list[measure.Played]:
        """One side only. Nothing is thrown away."""
        with measure.Server(SCRIPTS / script, self._folder, ours.PRICE) as double:
            return [self._play(double, command, prompt, requests) for _ in range(runs)]

    def told(self, program: str, *words: str) -> list[list[float]]:
        """The columns of figures that a program of the bench prints."""
        command = [str(ours.BIN / "python"), str(HERE / program), *words]
        lines = subprocess.run(command, stdout=-1, text=True, check=True, env=self._env).stdout.splitlines()
        return [list(column) for column in zip(*(map(float, line.split()) for line in lines), strict=True)]

    def whole_ms(self, *commands: Sequence[str]) -> list[list[float]]:
        """Milliseconds of whole processes, in turn."""
        took: list[list[float]] = [[] for _ in commands]
        for _ in range(2 * self.runs + 1):
            for command, figures in zip(commands, took, strict=True):
                ended = measure.run(command, self._env, self._folder)
                figures.append((ended.ended_ns - ended.began_ns) / 1e6)
        return [figures[1:] for figures in took]

    def _spawn(self) -> None:
        command = [sys.executable, str(Path(ours.__file__))]
        middle, _, _ = subprocess.run(command, stdout=-1, text=True, check=True).stdout.split()
        self.spawns_ms.append(float(middle))

    def _play(self, double: measure.Server, command: measure.Command, prompt: str, requests: int) -> measure.Played:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="workspace-") as workspace:
            played = double.play(command, prompt, self._env, Path(workspace))
        if requests and len(played.arrivals_ns) != requests:
            raise SystemExit(f"{command.__name__} made {len(played.arrivals_ns)} requests, not {requests}: {prompt!r}")
        return played


def _row(what: str, unit: str, pairs: list[Pair], of: Callable[[measure.Played], float], times: float) -> Row:
    return Row(what, unit, [of(base) for base, _ in pairs], [of(mine) for _, mine in pairs], times)


def _step_row(step: int, pairs: list[Pair], spawn_ms: float) -> Row:
    def of(played: measure.Played) -> float:
        return statistics.median(played.steps_ms(step))

    row = _row(f"step @{step}", "ms", pairs, of, 3)
    return Row(row.what, row.unit, row.floor, row.ours, row.times, plus=spawn_ms)


def _grown(what: str, unit: str, before: list[float], after: list[float], times: float, against: str) -> Row:
    return Row(what, unit, before, after, times, against=against)


def _megabytes(played: measure.Played) -> float:
    return played.process.peak_kb / 1024


def rows(bench: Bench, *, long: bool) -> tuple[list[Row], str]:
    """Every comparison, in the order of the table; and what a spawn took, and the double itself of a step."""
    imported, shown = bench.whole_ms(ours.click(), ours.help_page())
    one = bench.pairs("commands.json", "run 1 command", 2)
    many = bench.pairs("commands.json", "run 310 commands", 311)
    spawn_ms, spawns = bench.spawn_ms, _spread(bench.spawns_ms, "ms")
    deltas = bench.pairs("deltas.json", "talk", 1)
    small = [_megabytes(mine) for _, mine in one]
    large = [_megabytes(mine) for _, mine in many]
    found = [
        Row("--help | import click", "ms", imported, shown, 2),
        _row("first request", "ms", one, lambda played: played.first_ms, 2),
        _step_row(100, many, spawn_ms),
        _step_row(300, many, spawn_ms),
        _row("20 000 deltas", "ms", deltas, lambda played: played.rest_ms, 3),
        _row("memory, 1 step", "MB", one, _megabytes, 2),
        _grown("memory, 1 | 310 steps, ours", "MB", small, large, 1.2, "1 step"),
    ]
    found += _output_rows(bench, found[2].target, small)
    loaded, opened = bench.told("opening.py", str(_EVENTS), str(2 * bench.runs))
    found.append(Row("opening 10 000 events | json.loads", "ms", loaded, opened, 4, against="json.loads"))
    served = [statistics.median(statistics.median(mine.served_ms(step)) for _, mine in many) for step in (100, 300)]
    note = f"one spawn: bwrap `true`, a session's own options and filter: {spawns}\n"
    note += f"of a step of either side, the double itself: {served[0]:.1f} ms @100, {served[1]:.1f} ms @300"
    return found + (_long_rows(bench) if long else []), note


def _output_rows(bench: Bench, step_ms: float, small: list[float]) -> list[Row]:
    """A command that prints 10 MB: what it takes beyond an ordinary step's target, and what memory."""
    played = bench.alone(ours.ours, "output.json", "print much", bench.runs + 1, 6)[1:]
    (copied,) = bench.told("copying.py", _MUCH, str(bench.runs + 1))
    took = [statistics.median(each.between_ms()) for each in played]
    peak = [_megabytes(each) for each in played]
    return [
        Row("10 MB of output | copied to disk", "ms", copied[1:], took, 3, plus=step_ms, against="the copy"),
        _grown("memory, 1 step | 10 MB, ours", "MB", small, peak, 2, "1 step"),
    ]


def _long_rows(bench: Bench) -> list[Row]:
    pairs = bench.pairs("commands.json", _LONG, 1011)
    early = [statistics.median(mine.steps_ms(10)) for _, mine in pairs]
    late = [statistics.median(mine.steps_ms(1000)) for _, mine in pairs]
    # "At step 1 000 as at 10": a quarter more is what the machine's own noise makes of equal.
    return [_step_row(1000, pairs, bench.spawn_ms), _grown("step @10 | @1000, ours", "ms", early, late, 1.25, "@10")]


def _show(found: list[Row]) -> None:
    _aligned([["", "floor", "ours", "ratio (of pairs)", "target", ""], *(row.cells() for row in found)])


def _aligned(lines: list[list[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _show_peers(bench: Bench, names: Sequence[str], folder: Path) -> None:
    """What others take of the same, each alone and once more than shown: no target, for orientation."""
    sides = [peers.Installed("floor", "", ours.floor), peers.Installed("ours", "", ours.ours)]
    absent: list[str] = []
    for name in names:
        match peers.install(name, folder):
            case str(why):
                absent.append(f"{name}: {why}")
            case installed:
                sides.append(installed)
    lines = [["peers", "first request", "step @100", "step @300", "20 000 deltas", "memory, 1 | 310 steps"]]
    for side in sides:
        try:
            lines.append(_peer_cells(bench, side))
        except SystemExit as error:
            absent.append(f"{side.name} {side.version}: it did not run to its end: {str(error).splitlines()[-1]}")
    _aligned(lines)
    print("".join(f"not in the table: {line}\n" for line in absent), end="")


def _peer_cells(bench: Bench, side: peers.Installed) -> list[str]:
    one = bench.alone(side.command, "commands.json", "run 1 command", bench.runs + 1, 0)[1:]
    (many,) = bench.alone(side.command, "commands.json", "run 310 commands", 1, 0)
    (deltas,) = bench.alone(side.command, "deltas.json", "talk", 1, 0)
    steps = [f"{statistics.median(many.steps_ms(step)):.1f} ms" for step in (100, 300)]
    first = statistics.median(each.first_ms for each in one)
    memory = f"{statistics.median(map(_megabytes, one)):.0f} | {_megabytes(many):.0f} MB"
    return [f"{side.name} {side.version}", f"{first:.0f} ms", *steps, f"{deltas.rest_ms:.0f} ms", memory]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="ml-intern against the floor.")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side that count (default: 5)")
    parser.add_argument("--long", action="store_true", help="also 1 000 steps")
    parser.add_argument(
        "--peers",
        default="",
        metavar="NAMES",
        help=f"also others, installed from their registries: {', '.join([*peers.PEERS, *peers.NOT_DRIVEN])}, or all",
    )
    parser.add_argument("--subject", choices=["ours", "floor"], default="ours", help="floor: is the bench itself fair?")
    return parser.parse_args()


def main() -> None:
    """Measure and print; the exit code is 1 where a target is missed."""
    arguments = _arguments()
    subject = ours.ours if arguments.subject == "ours" else ours.floor
    version = platform.python_version()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {version}")
    for name, command in (("floor", ours.floor), ("ours", subject), ("help", lambda *_: ours.help_page())):
        print(f"{name:>6}: {shlex.join(command('URL', 'PROMPT'))}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), arguments.runs, subject)
        found, note = rows(bench, long=arguments.long)
        # The kernel counts what a child shared with its parent before its exec: were we larger, that would be measured.
        own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        least_mb = min(min(row.floor) for row in found if row.unit == "MB")
        assert own_mb < least_mb, f"the bench itself takes {own_mb:.0f} MB"
        _show(found)
        print(note)
        if arguments.peers:
            everyone = [*peers.PEERS, *peers.NOT_DRIVEN]
            _show_peers(bench, everyone if arguments.peers == "all" else arguments.peers.split(","), Path(folder))
    sys.exit(not all(row.kept for row in found))


if __name__ == "__main__":
    main()
