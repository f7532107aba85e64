"""What every test has in common: its database, how hypothesis searches, and that CI skips nothing in silence.

`database_url` is a database of the test's own: on SQLite, or on every database in turn for the folders below and for
what is marked `@pytest.mark.every_database`. A test that is about some of them says which:

    @pytest.mark.databases("postgresql", "psycopg")
"""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
import pytest_asyncio

from mediator import MediatorApp
from tests.support import AppFactory, create_tables, quick_settings
from tests.support.brokers import BROKERS, BrokerPlace, Brokers
from tests.support.databases import DATABASES, Servers, Unreachable, every_database

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

MISSING = "missing service"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# Tests that CI may skip: the beginning of a node id, and why. Any other skip is a failure there, because a service
# that did not start would otherwise turn a whole suite off and leave the run green.
ALLOWED_SKIPS: dict[str, str] = {}

# Folders whose tests all run on every database.
EVERY_DATABASE = ("consuming", "operations", "publishing")

# CI tries the same examples every time, so that a red run is the change's doing; developers' runs go on searching.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=200)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, Unreachable):
        skipped_for_want_of_a_service(report, item, call.excinfo.value)
    return failed_if_skipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return failed_if_skipped((yield))


def skipped_for_want_of_a_service(report: pytest.TestReport, item: pytest.Item, error: Unreachable) -> None:
    """Wherever it was noticed: also where a fixture that many tests share said so to the first of them."""
    path, line, _ = item.location
    report.outcome = "skipped"
    report.longrepr = path, line or 0, f"Skipped: {error}"
    report.user_properties.append((MISSING, error.service))


def failed_if_skipped(report: Report) -> Report:
    """An expected failure (xfail) is reported as skipped as well; it did run."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not is_allowed(report.nodeid):
        reason: Any = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI skips nothing that tests/conftest.py does not allow.\n{report.nodeid}\n{reason}"
    return report


def is_allowed(nodeid: str) -> bool:
    return any(nodeid.startswith(beginning) for beginning in ALLOWED_SKIPS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_url" in metafunc.fixturenames:
        names = databases_of(metafunc.definition)
        if names != ("sqlite",):
            metafunc.parametrize("database_url", names, indirect=True)


def databases_of(test: pytest.Item) -> tuple[str, ...]:
    """What a test runs on. The closest mark decides, then its folder."""
    marks = (mark for mark in test.iter_markers() if mark.name in {"databases", "every_database"})
    closest = next(marks, None)
    if closest is not None and closest.name == "databases":
        unknown = set(closest.args) - set(DATABASES)
        if unknown or not closest.args:
            raise pytest.UsageError(f"{test.nodeid}: databases{closest.args}, but there are {DATABASES}")
        return closest.args
    folders = tuple(Path(__file__).parent / folder for folder in EVERY_DATABASE)
    if closest is not None or any(test.path.is_relative_to(folder) for folder in folders):
        return every_database()
    return ("sqlite",)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tells how many tests a server that does not answer kept from running, besides the reason of each."""
    reports = (report for outcome in ("skipped", "error", "failed") for report in terminalreporter.getreports(outcome))
    missed = Counter(
        value for report in reports for name, value in getattr(report, "user_properties", ()) if name == MISSING
    )
    for service, count in sorted(missed.items()):
        terminalreporter.write_line(f"tests that had no {service} to run on: {count}", yellow=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers


@pytest.fixture
def database_url(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own."""
    name = getattr(request, "param", "sqlite")
    with ExitStack() as stack:
        yield stack.enter_context(servers.new_database(name, tmp_path))


@pytest.fixture(scope="session")
def brokers() -> Iterator[Brokers]:
    with Brokers() as brokers:
        yield brokers


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, brokers: Brokers) -> Iterator[BrokerPlace]:
    """A place on each broker in turn."""
    with brokers.new_place(request.param) as place:
        yield place


@pytest_asyncio.fixture
async def make_app(database_url: str) -> AppFactory:
    """Makes applications on the test's database, with its tables there; enter them with `async with`."""
    await create_tables(database_url)

    def make(*modules: Any, **options: Any) -> MediatorApp:
        defaults = {"database": database_url, "environment": "test", "settings": quick_settings(), "schema": "create"}
        return MediatorApp("shop", modules=modules, **{**defaults, **options})

    return make
