"""Each test has a database of its own, which is gone when the test ends; a server that is missing is told."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.databases import SERVERS, Servers, Unreachable, execute

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
ON_A_SERVER = pytest.mark.databases("postgresql", "psycopg", "mariadb")
ROW = "INSERT INTO things VALUES (:thing)"


def administration(name: str) -> str:
    return SERVERS[name].url.render_as_string(hide_password=False)


def exists(name: str, database: str) -> bool:
    statement = "SHOW DATABASES" if name == "mariadb" else "SELECT datname FROM pg_database"
    return (database,) in [tuple(row) for row in execute(administration(name), statement)]


@pytest.mark.every_database
def test_a_database_is_empty_and_can_be_written(database_url: str) -> None:
    execute(database_url, "CREATE TABLE things (name VARCHAR(10) PRIMARY KEY)")
    execute(database_url, ROW, {"thing": "one"})

    assert [tuple(row) for row in execute(database_url, "SELECT name FROM things")] == [("one",)]


@pytest.mark.every_database
async def test_two_databases_share_nothing(
    database_url: str, servers: Servers, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    execute(database_url, "CREATE TABLE things (name VARCHAR(10) PRIMARY KEY)")
    with servers.new_database(request.node.callspec.params["database_url"], tmp_path / "other") as other:
        (tmp_path / "other").mkdir()
        execute(other, "CREATE TABLE things (name VARCHAR(10) PRIMARY KEY)")
        execute(other, ROW, {"thing": "one"})

        assert execute(database_url, "SELECT name FROM things") == []


@pytest.mark.parametrize("name", ["postgresql", "psycopg", "mariadb"])
async def test_a_database_that_is_in_use_is_dropped_all_the_same(servers: Servers, tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyError), servers.new_database(name, tmp_path) as url:  # noqa: PT012 - the block is the test
        execute(url, "CREATE TABLE things (name VARCHAR(10) PRIMARY KEY)")
        engine = create_async_engine(url)
        connection = await engine.connect()
        await connection.execute(text(ROW), {"thing": "one"})
        assert exists(name, make_url(url).database or "")
        raise KeyError

    assert not exists(name, make_url(url).database or "")
    await connection.invalidate()
    await connection.close()
    await engine.dispose()


@pytest.mark.parametrize("change", ["CREATE SCHEMA other", "ALTER DATABASE {} SET lock_timeout = 7"])
def test_the_next_database_has_nothing_of_the_one_before(tmp_path: Path, change: str) -> None:
    state = "SELECT current_setting('lock_timeout'), nspname, nspacl::text, nspowner FROM pg_namespace ORDER BY nspname"
    with Servers() as servers:
        with servers.new_database("postgresql", tmp_path) as url:
            as_made = execute(url, state)
            execute(url, "CREATE TABLE things (name VARCHAR(10) PRIMARY KEY)")
            execute(url, change.format(make_url(url).database))
        with servers.new_database("postgresql", tmp_path) as other:
            assert make_url(other).database != make_url(url).database
            assert execute(other, state) == as_made
            assert execute(other, "SELECT tablename FROM pg_tables WHERE tablename = 'things'") == []
    assert not exists("postgresql", make_url(other).database or "")


@pytest.mark.parametrize("name", ["postgresql", "psycopg", "mariadb"])
def test_what_a_dead_run_left_is_dropped_after_an_hour(tmp_path: Path, name: str) -> None:
    old, young, foreign = (
        f"mediator_test_{int(time.time()) - 3_700}_1_{uuid4().hex[:12]}",
        f"mediator_test_{int(time.time()) - 3_300}_1_{uuid4().hex[:12]}",
        f"mediator_tests_{int(time.time()) - 3_700}_1_{uuid4().hex[:12]}",
    )
    with Servers() as before:
        for database in (old, young, foreign):
            before.create(name, database)

        with Servers() as servers, servers.new_database(name, tmp_path):
            found = [exists(name, database) for database in (old, young, foreign)]

        for database in (old, young, foreign):
            before.drop(name, database)
    assert found == [False, True, True]


@pytest.mark.parametrize("silent", [True, False], ids=["accepts-and-is-silent", "refuses"])
@pytest.mark.parametrize("name", ["postgresql", "psycopg", "mariadb"])
def test_a_server_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, silent: bool
) -> None:
    monkeypatch.setattr("tests.support.databases._CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if not silent:
            listening.close()
        backend = SERVERS[name].url.get_backend_name()
        monkeypatch.setenv(SERVERS[name].variable, f"{backend}://ada:secret@127.0.0.1:{port}/x")

        with Servers() as servers:
            with pytest.raises(Unreachable), servers.new_database(name, tmp_path):
                pass
            with pytest.raises(Unreachable) as refused, servers.new_database(name, tmp_path):
                pass

    assert f"127.0.0.1:{port}" in str(refused.value)
    assert SERVERS[name].variable in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "()" not in str(refused.value)


def test_a_server_that_nobody_named_is_not_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDIATOR_TEST_MYSQL", raising=False)

    with Servers() as servers, pytest.raises(Unreachable, match="MEDIATOR_TEST_MYSQL"):  # noqa: SIM117
        with servers.new_database("mysql", tmp_path):
            pass


SAMPLE = """
import pytest

def test_plain(database_url):
    assert database_url.startswith("sqlite+aiosqlite:///")

@pytest.mark.every_database
def test_every(database_url):
    pass

@pytest.mark.databases("psycopg")
class TestOwn:
    def test_own(self, database_url):
        assert database_url.startswith("postgresql+psycopg://")

    @pytest.mark.every_database
    def test_closest(self, database_url):
        pass

@pytest.mark.every_database
def test_without():
    pass
"""


def run_tests(folder: Path, source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_sample.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    every_database\n    databases\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments, str(folder)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "CI": "", **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_marks_say_which_databases_a_test_runs_on(tmp_path: Path) -> None:
    done = run_tests(tmp_path, SAMPLE, "-v", MEDIATOR_TEST_MYSQL="")

    assert re.findall(r"::(\S+) PASSED", done.stdout) == [
        "test_plain",
        "test_every[sqlite]",
        "test_every[postgresql]",
        "test_every[mariadb]",
        "TestOwn::test_own[psycopg]",
        "TestOwn::test_closest[sqlite]",
        "TestOwn::test_closest[postgresql]",
        "TestOwn::test_closest[mariadb]",
        "test_without",
    ]


def test_mysql_joins_when_it_is_named(tmp_path: Path) -> None:
    done = run_tests(tmp_path, SAMPLE, "--collect-only", "-q", MEDIATOR_TEST_MYSQL="mysql://root@127.0.0.1:3307")

    assert "test_every[mysql]" in done.stdout


@pytest.mark.parametrize("names", ["'oracle'", "'sqlite', 'oracle'", ""])
def test_a_database_that_there_is_not_is_refused(tmp_path: Path, names: str) -> None:
    source = f"import pytest\n\n@pytest.mark.databases({names})\ndef test_it(database_url): ...\n"

    done = run_tests(tmp_path, source)

    assert done.returncode not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    assert "test_it: databases(" in done.stdout + done.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "workers"])
@pytest.mark.parametrize("ci", ["", "true"])
def test_tests_without_their_server_are_counted_and_fail_in_ci(tmp_path: Path, ci: str, workers: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    nowhere = f"postgresql://ada:secret@127.0.0.1:{port}/x"

    done = run_tests(tmp_path, SAMPLE, "-rs", *workers, CI=ci, MEDIATOR_TEST_POSTGRESQL=nowhere)

    assert "tests that had no postgresql to run on: 2" in done.stdout
    assert "tests that had no psycopg to run on: 1" in done.stdout
    assert "no mariadb" not in done.stdout
    assert f"127.0.0.1:{port}" in done.stdout
    assert "secret" not in done.stdout
    assert ("3 skipped" in done.stdout) is not bool(ci)
    assert (done.returncode != 0) is bool(ci)


def test_a_loop_that_runs_is_no_hindrance() -> None:
    async def within() -> list[Any]:
        return execute("sqlite+aiosqlite://", "SELECT 1")

    assert [tuple(row) for row in asyncio.run(within())] == [(1,)]
