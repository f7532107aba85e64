import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.measuring import Figures, Goal, Scale, Table, Way, measure

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_shows_every_way_on_which_machine(name: str) -> None:
    outcome = run(name, "--rounds", "1", "--repetitions", "0.001")

    assert outcome.returncode == 0, outcome.stderr
    assert "cores" in outcome.stdout
    assert f"Python {sys.version.split()[0]}" in outcome.stdout
    assert "| way | median µs | quartiles | ratio | CPU µs | ratio |" in outcome.stdout
    assert "| 1.00 |" in outcome.stdout
    assert "nan" not in outcome.stdout


def test_construction_stands_next_to_plain_calls_and_the_injector() -> None:
    outcome = run("construction", "--rounds", "1", "--repetitions", "0.001")

    assert all(f"| {way} |" in outcome.stdout for way in ("plain calls", "compiled plan", "Injector.get"))


def test_ratios_are_paired_round_by_round() -> None:
    # The machine had moods: the ratio of the medians would be 2.
    base, way = Figures([1.0, 10.0, 5.0], [1.0, 1.0, 1.0]), Figures([3.0, 25.0, 10.0], [0.5, 0.5, 0.5])

    *_, last = Table("a title", {"base": base, "way": way}).lines()

    assert last == "| way | 10.00 | 3.00 to 25.00 | 2.50 | 0.50 | 0.50 |"


def test_a_goal_stands_next_to_what_was_measured() -> None:
    figures = {"base": Figures([1.0], [1.0]), "way": Figures([4.0], [2.0])}

    assert Goal("CPU", "way", "base", "cpu", 1.5).line(figures) == "| CPU | 2.00 | ≤ 1.5 |"
    assert Goal("rate", "way", "base", "wall", 0.5, of_rates=True).line(figures) == "| rate | 0.25 | ≥ 0.5 |"


async def test_rounds_begin_with_another_way_each() -> None:
    done: list[str] = []

    def way(name: str) -> Way:
        async def do(_times: int) -> None:
            done.append(name)

        return do

    await measure("a title", {"a": way("a"), "b": way("b")}, 1, Scale(rounds=2))

    assert "".join(done) == "ab" + "ab" + "ba"


def test_the_names_are_listed() -> None:
    assert run("--list").stdout.split() == list(BENCHMARKS)


@pytest.mark.parametrize("arguments", [("nonsense",), ("--rounds", "0"), ("--repetitions", "-1"), ("--on", "paper")])
def test_what_cannot_be_measured_is_refused(arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)

    assert outcome.returncode == 2
    assert "error: " in outcome.stderr
