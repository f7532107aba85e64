import subprocess
import sys
from pathlib import Path

import aiormq
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.brokers import rabbitmq
from tests.benchmarks.brokers.contenders import GROUP, LANES
from tests.benchmarks.measuring import Figures, Goal, Scale, Table, Way, measure
from tests.support.rabbitmq import SHARED, found

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


def test_a_broker_may_be_chosen() -> None:
    outcome = run("sql", "--on", "sqlite", "--rounds", "1", "--repetitions", "0.001")

    titles = [line for line in outcome.stdout.splitlines() if line.startswith("**")]
    assert [title.split(" on ")[1][:6] for title in titles] == ["SQLite"] * 3
    assert all(f"| {way} |" in outcome.stdout for way in ("the bare client", "the transport"))


def test_faststream_stands_next_to_a_transport() -> None:
    outcome = run("redis", "--rounds", "1", "--repetitions", "0.001")

    assert outcome.stdout.count("| FastStream, one at a time |") == 3 or "left out, redis" in outcome.stderr


async def test_what_was_made_on_a_shared_broker_is_removed_also_when_it_fails() -> None:
    found()
    made: list[str] = []

    async def fail() -> None:
        async with rabbitmq.server() as broker:
            transport = broker.transport("publishing")
            await transport.open()
            await transport.provision(["orders"], {GROUP: ["orders"]})
            made.extend(broker.queues())
            await transport.close()
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await fail()

    assert len(made) == 2 + LANES
    async with aiormq.connect(SHARED) as connection:
        for queue in made:
            with pytest.raises(ChannelNotFoundEntity):
                await (await connection.channel()).queue_declare(queue, passive=True)
