"""Measuring several ways of doing one thing side by side.

Rounds are interleaved (each round measures every way once, each round beginning with another one), because the mood of
a machine changes over seconds. What is shown are medians over the rounds, and ratios are paired: the median of the
ratios that the rounds had. Nothing here asserts a time; goals are printed next to what was measured.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "BROKERS",
    "DATABASES",
    "Benchmark",
    "Figures",
    "Goal",
    "Scale",
    "Table",
    "Way",
    "again",
    "machine",
    "measure",
]

LIBRARIES = ("injector", "sqlalchemy", "sqlmodel", "aiosqlite", "asyncpg", "asyncmy", "pydantic")
DATABASES = ("sqlite", "postgresql", "mariadb")
BROKERS = ("redis", "nats", "kafka", "rabbitmq", "sql")
Clock = Literal["wall", "cpu"]
Way = Callable[[int], Awaitable[None]]
"""Does the thing so many times."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 15
    repetitions: float = 1.0
    """Multiplies the repetitions that a benchmark asks for."""
    large: bool = False
    """Whether what takes minutes is done as well."""
    on: frozenset[str] = frozenset(DATABASES)
    """The databases that are measured."""
    brokers: frozenset[str] = frozenset(BROKERS)

    def times(self, wanted: int) -> int:
        """How often a thing is done in one round."""
        return max(1, int(wanted * self.repetitions))

    def rows(self, quick: int, large: int) -> int:
        """How many rows there are."""
        return self.times(large if self.large else quick)


@dataclass(frozen=True)
class Figures:
    """Microseconds for one repetition, a figure for each round."""

    wall: list[float]
    cpu: list[float]
    """Of all threads of the process: less than the wall shows waiting, for a disk or for other processes."""


@dataclass(frozen=True)
class Goal:
    """What a way should cost, compared to another one."""

    what: str
    way: str
    base: str
    clock: Clock
    bound: float
    of_rates: bool = False
    """Compare how much is done in a time, and not how long it takes: then the bound is the least."""

    def line(self, figures: Mapping[str, Figures]) -> str:
        """As a row of a Markdown table."""
        one, other = figures[self.way], figures[self.base]
        found = _ratio(other, one, self.clock) if self.of_rates else _ratio(one, other, self.clock)
        return f"| {self.what} | {found:,.2f} | {'≥' if self.of_rates else '≤'} {self.bound} |"


@dataclass(frozen=True)
class Table:
    """What was measured, by way; the first way is what the others are compared to."""

    title: str
    figures: Mapping[str, Figures]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """In Markdown."""
        first = next(iter(self.figures.values()))
        rows = []
        for way, figures in self.figures.items():
            low, high = _quartiles(figures.wall)
            wall, cpu = statistics.median(figures.wall), statistics.median(figures.cpu)
            rows.append(
                f"| {way} | {wall:,.2f} | {low:,.2f} to {high:,.2f} | {_ratio(figures, first, 'wall'):,.2f} "
                f"| {cpu:,.2f} | {_ratio(figures, first, 'cpu'):,.2f} |"
            )
        lines = [
            f"**{self.title}**",
            "",
            "| way | median µs | quartiles | ratio | CPU µs | ratio |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]
        if self.goals:
            goals = [goal.line(self.figures) for goal in self.goals]
            lines += ["", "| compared | measured | goal |", "| --- | ---: | ---: |", *goals]
        for note in self.notes:
            lines += ["", note]
        return lines


Benchmark = Callable[[Scale], Coroutine[Any, Any, Sequence[Table]]]


async def measure(
    title: str,
    ways: Mapping[str, Way],
    repetitions: int,
    scale: Scale,
    *,
    goals: Sequence[Goal] = (),
    before: Callable[[str, int], Awaitable[None]] | None = None,
) -> Table:
    """Do each thing in turn, round by round. What `before` does, given the way and its repetitions, does not count."""
    times = scale.times(repetitions)
    found = {name: Figures([], []) for name in ways}
    names = list(ways)
    for name, way in ways.items():
        # Whatever is cached or compiled on the first use is no part of the costs.
        if before is not None:
            await before(name, max(1, times // 10))
        await way(max(1, times // 10))
    for number in range(scale.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if before is not None:
                await before(name, times)
            started, worked = time.perf_counter_ns(), time.process_time_ns()
            await ways[name](times)
            found[name].wall.append((time.perf_counter_ns() - started) / times / 1_000)
            found[name].cpu.append((time.process_time_ns() - worked) / times / 1_000)
    return Table(title, found, goals)


def again(call: Callable[[], Awaitable[Any]]) -> Way:
    """A way that awaits the same again and again."""

    async def way(times: int) -> None:
        for _ in range(times):
            await call()

    return way


def machine() -> list[str]:
    """What the figures were measured on."""
    return [
        f"* {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        f"* Python {sys.version.split()[0]}, " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    ]


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def _ratio(one: Figures, other: Figures, clock: Clock) -> float:
    pairs = zip(getattr(one, clock), getattr(other, clock), strict=True)
    return statistics.median(value / base if base else 1.0 for value, base in pairs)
