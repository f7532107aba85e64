import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BENCHMARKS

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_shows_every_way_on_which_machine(name: str) -> None:
    outcome = run(name, "--rounds", "2", "--repetitions", "0.001")

    assert outcome.returncode == 0, outcome.stderr
    assert "cores" in outcome.stdout
    assert f"Python {sys.version.split()[0]}" in outcome.stdout
    assert "| way | median µs | quartiles | ratio | CPU µs | ratio |" in outcome.stdout
    assert "| 1.00 |" in outcome.stdout
    assert "nan" not in outcome.stdout


def test_construction_stands_next_to_plain_calls_and_the_injector() -> None:
    outcome = run("construction", "--rounds", "1", "--repetitions", "0.001")

    assert all(f"| {way} |" in outcome.stdout for way in ("plain calls", "compiled plan", "Injector.get"))


def test_the_names_are_listed() -> None:
    assert run("--list").stdout.split() == list(BENCHMARKS)


@pytest.mark.parametrize("arguments", [("nonsense",), ("--rounds", "0"), ("--repetitions", "-1")])
def test_what_cannot_be_measured_is_refused(arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)

    assert outcome.returncode == 2
    assert "error: " in outcome.stderr
