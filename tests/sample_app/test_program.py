"""`python -m sample_app`, as a reader starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sample_app.story import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = range(1, len(SCENARIOS) + 1)
BLOCK = re.compile(r"^(\d+)\. (.+)$", re.MULTILINE)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, with temporary files in `folder`."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    surroundings = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-W", "default", "-m", "sample_app", *arguments],
        cwd=folder,
        env={**surroundings, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TMPDIR": str(temporary)},
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
    )


def checks(story: str) -> int:
    return sum(line.startswith("  ✓ ") for line in story.splitlines())


def test_all_nine_scenarios_are_told_and_every_check_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "--seed", "7")

    number = checks(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(int(one), title) for one, title in BLOCK.findall(done.stdout)] == [
        (one, scenario.title) for one, scenario in enumerate(SCENARIOS, 1)
    ]
    assert done.stdout.splitlines()[-1] == f"{number} of {number} checks passed"
    assert "└── event ordering.order-placed.v2" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("number", NUMBERS)
def test_scenario_is_told_alone(tmp_path: Path, number: int) -> None:
    done = run(tmp_path, "--scenario", str(number))

    passed = checks(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [int(one) for one, _ in BLOCK.findall(done.stdout)] == [number]
    assert passed >= 2
    assert done.stdout.splitlines()[-1] == f"{passed} of {passed} checks passed"


def test_a_seed_tells_the_same_story_again(tmp_path: Path) -> None:
    first, second = (run(tmp_path, "--seed", "11", "--scenario", "1").stdout for _ in range(2))

    assert "Seed 11." in first
    assert first == second


def test_another_seed_tells_of_something_else(tmp_path: Path) -> None:
    stories = {run(tmp_path, "--seed", seed, "--scenario", "2").stdout.split("\n", 1)[1] for seed in ("1", "2", "3")}

    assert len(stories) == 3


def test_kept_database_is_where_the_story_says(tmp_path: Path) -> None:
    done = run(tmp_path, "--scenario", "1", "--keep")

    said = re.search(r"^The database is kept: (.+)$", done.stdout, re.MULTILINE)
    assert said is not None, done.stdout
    assert [Path(said[1])] == list((tmp_path / "temporary").glob("*/*.db"))


@pytest.mark.parametrize("number", ["4", "7"])
def test_database_of_a_former_run_is_used_again(tmp_path: Path, number: str) -> None:
    story = ["--database", "sqlite+aiosqlite:///shop.db", "--seed", "7", "--scenario", number]

    runs = [run(tmp_path, *story) for _ in range(2)]

    assert [one.returncode for one in runs] == [0, 0], runs[1].stdout + runs[1].stderr
    assert runs[0].stdout == runs[1].stdout
    assert (tmp_path / "shop.db").exists()


def test_log_is_shown_on_request(tmp_path: Path) -> None:
    done = run(tmp_path, "--scenario", "7", "--verbose")

    assert done.returncode == 0
    assert "handler.failed" in done.stderr
    assert "handler.failed" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "10"], "invalid choice: 10"),
        (["--scenario", "one"], "invalid int value"),
        (["--seed", "x"], "invalid int value"),
        (["--database", "postgresql://shop:secret@example.org/shop"], "this version supports sqlite+aiosqlite URLs"),
        (["--database", "sqlite:///shop.db"], "use the asyncio driver"),
        (["--database", "shop.db"], "use a URL such as sqlite+aiosqlite:///shop.db"),
        (["--database", "sqlite+aiosqlite://"], "need a file"),
        (["--database", "sqlite+aiosqlite:///missing/shop.db"], "there is no folder"),
        (["--database", "sqlite+aiosqlite:///text.db"], "file is not a database"),
        (["order"], "unrecognized arguments: order"),
    ],
)
def test_command_line_that_cannot_work_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "text.db").write_text("this is no database, and it is longer than nothing\n" * 20)

    done = run(tmp_path, *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stdout == ""


def test_help_explains_the_options(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")

    assert done.returncode == 0
    for option in ("--scenario", "--seed", "--database", "--keep", "--verbose"):
        assert re.search(rf"^  {option}\b", done.stdout, re.MULTILINE), option
    assert "--child" not in done.stdout
