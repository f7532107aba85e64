"""Measuring several ways of doing one thing side by side.

Rounds are interleaved (each round measures every way once), because the mood of a machine changes over seconds; the
medians over the rounds are shown. Nothing here asserts a time.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Benchmark", "Figures", "Scale", "Table", "machine", "measure"]

LIBRARIES = ("injector", "sqlalchemy", "sqlmodel", "aiosqlite", "pydantic")
Way = Callable[[int], Awaitable[None]]
"""Does the thing so many times."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 15
    repetitions: float = 1.0
    """Multiplies the repetitions that a benchmark asks for."""

    def times(self, wanted: int) -> int:
        """How often a thing is done in one round."""
        return max(1, int(wanted * self.repetitions))


@dataclass(frozen=True)
class Figures:
    """Microseconds for one repetition, a figure for each round."""

    wall: list[float]
    cpu: list[float]
    """Of all threads of the process: less than the wall shows waiting, for a disk or for other processes."""


@dataclass(frozen=True)
class Table:
    """What was measured, by way; the first way is what the others are compared to."""

    title: str
    figures: dict[str, Figures]

    def lines(self) -> list[str]:
        """As a Markdown table."""
        wall, cpu = (
            {way: statistics.median(getattr(one, clock)) for way, one in self.figures.items()}
            for clock in ("wall", "cpu")
        )
        first = next(iter(self.figures))
        rows = []
        for way, figures in self.figures.items():
            low, high = _quartiles(figures.wall)
            rows.append(
                f"| {way} | {wall[way]:,.2f} | {low:,.2f} to {high:,.2f} | {wall[way] / wall[first]:,.2f} "
                f"| {cpu[way]:,.2f} | {cpu[way] / cpu[first]:,.2f} |"
            )
        return [
            f"**{self.title}**",
            "",
            "| way | median µs | quartiles | ratio | CPU µs | ratio |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
        ]


Benchmark = Callable[[Scale], Coroutine[Any, Any, Sequence[Table]]]


async def measure(title: str, ways: dict[str, Way], repetitions: int, scale: Scale) -> Table:
    """Do each thing in turn, round by round."""
    times = scale.times(repetitions)
    found = {name: Figures([], []) for name in ways}
    for way in ways.values():
        # Whatever is cached or compiled on the first use is no part of the costs.
        await way(max(1, times // 10))
    for _ in range(scale.rounds):
        for name, way in ways.items():
            started, worked = time.perf_counter_ns(), time.process_time_ns()
            await way(times)
            found[name].wall.append((time.perf_counter_ns() - started) / times / 1_000)
            found[name].cpu.append((time.process_time_ns() - worked) / times / 1_000)
    return Table(title, found)


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
