"""`python -m sample_app`, as a reader starts it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import NullPool, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sample_app.story import SCENARIOS
from tests.support.brokers import BrokerPlace
from tests.support.databases import every_database, execute, in_a_thread

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = range(1, len(SCENARIOS) + 1)
BLOCK = re.compile(r"^(\d+)\. (.+)$", re.MULTILINE)
CHECKS = 81
SERVERS = (*(name for name in every_database() if name != "sqlite"), "psycopg")
TIME = 250

# A story has twenty processes' work to do, and the machine other tests.
pytestmark = pytest.mark.timeout(2 * TIME)


def run(folder: Path, *arguments: str, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """The program, with temporary files in `folder`."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    own = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TMPDIR": str(temporary)}
    return subprocess.run(
        [sys.executable, "-W", "default", "-m", "sample_app", *arguments],
        cwd=folder,
        env={**inherited, **own, **surroundings},
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIME,
    )


def checks(story: str) -> int:
    return sum(line.startswith("  ✓ ") for line in story.splitlines())


def tables_of(url: str) -> set[str]:
    async def look() -> set[str]:
        async with create_async_engine(url, poolclass=NullPool).connect() as connection:
            return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))

    return in_a_thread(look())


def test_all_fourteen_scenarios_are_told_and_every_check_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "--seed", "7")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [(int(one), title) for one, title in BLOCK.findall(done.stdout)] == [
        (one, scenario.title) for one, scenario in enumerate(SCENARIOS, 1)
    ]
    assert done.stdout.startswith("A shop in four modules, on one SQLite file. Seed 7.\n")
    assert checks(done.stdout) == CHECKS
    assert done.stdout.splitlines()[-1] == f"{CHECKS} of {CHECKS} checks passed"
    assert "└── event ordering.order-placed.v2" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.databases(*SERVERS)
def test_story_is_true_on_every_server(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["database_url"]
    kind = {"mariadb": "MariaDB", "mysql": "MySQL"}.get(name, "PostgreSQL")
    # Tests reach MariaDB by SQLAlchemy's name for the family; here by its own.
    url = database_url.replace("mysql+", "mariadb+") if name == "mariadb" else database_url

    done = run(tmp_path, "--seed", "7", "--database", url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"A shop in four modules, on one {kind} database. Seed 7.\n")
    assert checks(done.stdout) == CHECKS
    assert done.stdout.splitlines()[-1] == f"{CHECKS} of {CHECKS} checks passed"
    assert done.stderr == ""


def test_story_is_true_over_a_broker(tmp_path: Path, broker: BrokerPlace) -> None:
    done = run(tmp_path, "--seed", "7", "--transport", broker.url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert checks(done.stdout) == CHECKS
    assert done.stderr == ""


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


def test_database_file_is_looked_for_in_the_readers_folder(tmp_path: Path) -> None:
    done = run(tmp_path, "--database", "sqlite+aiosqlite:///shop.db", "--scenario", "4")

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "shop.db").exists()


@pytest.mark.every_database
@pytest.mark.parametrize("number", ["4", "7"])
def test_database_of_a_former_run_is_used_again(tmp_path: Path, database_url: str, number: str) -> None:
    story = ["--database", database_url, "--seed", "7", "--scenario", number]

    runs = [run(tmp_path, *story) for _ in range(2)]

    assert [one.returncode for one in runs] == [0, 0], runs[1].stdout + runs[1].stderr
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.every_database
def test_database_with_somebody_elses_tables_of_the_same_name_is_refused(tmp_path: Path, database_url: str) -> None:
    execute(database_url, "CREATE TABLE ordering_order (number INTEGER)")
    execute(database_url, "INSERT INTO ordering_order VALUES (7)")

    done = run(tmp_path, "--database", database_url)

    assert done.returncode == 2
    assert "tables that the sample did not make (ordering_order): name another database" in done.stderr
    assert done.stdout == ""
    assert tables_of(database_url) == {"ordering_order"}
    assert execute(database_url, "SELECT number FROM ordering_order") == [(7,)]


@pytest.mark.every_database
def test_outbox_of_an_application_in_the_same_database_is_left_alone(tmp_path: Path, database_url: str) -> None:
    execute(database_url, "CREATE TABLE mediator_outbox (position INTEGER)")
    execute(database_url, "INSERT INTO mediator_outbox VALUES (7)")

    done = run(tmp_path, "--database", database_url, "--scenario", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert execute(database_url, "SELECT position FROM mediator_outbox") == [(7,)]


@pytest.mark.databases(*SERVERS)
def test_database_that_does_not_exist_is_not_made(tmp_path: Path, database_url: str) -> None:
    missing = make_url(database_url).set(database="mediator_test_missing").render_as_string(hide_password=False)

    done = run(tmp_path, "--database", missing)

    assert done.returncode == 2
    assert re.search("mediator_test_missing. does not exist|Unknown database .mediator_test_missing", done.stderr)
    assert re.search("Create the database first|Check .* the name of the database", done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgresql+asyncpg://postgres@127.0.0.1/shop", "asyncpg", "postgresql"),
        ("postgresql+psycopg://postgres@127.0.0.1/shop", "psycopg", "psycopg"),
        ("mariadb+asyncmy://root@127.0.0.1/shop", "asyncmy", "mysql"),
    ],
)
def test_missing_driver_is_named_with_the_extra_that_installs_it(
    tmp_path: Path, url: str, driver: str, extra: str
) -> None:
    (tmp_path / f"{driver}.py").write_text(f"raise ModuleNotFoundError('No module named {driver}', name='{driver}')")

    done = run(tmp_path, "--database", url, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))

    assert done.returncode == 2
    assert f"its driver {driver} is not installed: install mediator-toolkit[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_log_is_shown_on_request(tmp_path: Path) -> None:
    done = run(tmp_path, "--scenario", "7", "--verbose")

    assert done.returncode == 0
    assert "handler.failed" in done.stderr
    assert "handler.failed" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "15"], "invalid choice: 15"),
        (["--scenario", "one"], "invalid int value"),
        (["--seed", "x"], "invalid int value"),
        (["--database", "postgresql://shop:secret@127.0.0.1/shop"], "use an asyncio driver: postgresql+asyncpg://"),
        (["--database", "postgresql+asyncpg://shop:secret@127.0.0.1"], "name the database at its end"),
        (["--database", "mariadb+asyncmy://shop:secret@127.0.0.1/"], "name the database at its end"),
        (["--database", "postgresql+asyncpg://shop:secret@127.0.0.1:1/shop"], "Check the address"),
        (["--database", "mariadb+asyncmy://shop:secret@127.0.0.1:1/shop"], "Check the address"),
        (["--database", "oracle+oracledb://shop:secret@127.0.0.1/shop"], "this version supports sqlite, postgresql"),
        (["--database", "sqlite:///shop.db"], "use an asyncio driver: sqlite+aiosqlite://"),
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
