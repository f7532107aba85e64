"""What every test has in common: how hypothesis searches, and that CI skips nothing in silence."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
import pytest_asyncio

from mediator import MediatorApp
from tests.support import AppFactory, create_tables, quick_settings

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# Tests that CI may skip: the beginning of a node id, and why. Any other skip is a failure there, because a service
# that did not start would otherwise turn a whole suite off and leave the run green.
ALLOWED_SKIPS: dict[str, str] = {}

# CI tries the same examples every time, so that a red run is the change's doing; developers' runs go on searching.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=200)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return failed_if_skipped((yield))


def failed_if_skipped(report: Report) -> Report:
    """An expected failure (xfail) is reported as skipped as well; it did run."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not is_allowed(report.nodeid):
        reason: Any = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI skips nothing that tests/conftest.py does not allow.\n{report.nodeid}\n{reason}"
    return report


def is_allowed(nodeid: str) -> bool:
    return any(nodeid.startswith(beginning) for beginning in ALLOWED_SKIPS)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A database of the test's own."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest_asyncio.fixture
async def make_app(database_url: str) -> AppFactory:
    """Makes applications on the test's database, with its tables there; enter them with `async with`."""
    await create_tables(database_url)

    def make(*modules: Any, **options: Any) -> MediatorApp:
        defaults = {"database": database_url, "environment": "test", "settings": quick_settings()}
        return MediatorApp("shop", modules=modules, **{**defaults, **options})

    return make
