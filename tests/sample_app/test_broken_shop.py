"""A story whose checks cannot fail tells nothing: each scenario is played in a shop that is broken where it looks."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy.exc import OperationalError

from mediator import RetryPolicy
from sample_app.__main__ import main
from sample_app.billing.application.payments import CapturePayment
from sample_app.inventory.application.answers import TellStock
from sample_app.inventory.application.holds import EndHold
from sample_app.inventory.application.labels import PrintLabel
from sample_app.inventory.application.receive_goods import ShelvePieces
from sample_app.inventory.application.reservations import ReleaseStock
from sample_app.notifications.application.mails import SendReceipt
from sample_app.ordering.application.converters import OrderPlacedV2Converter
from sample_app.ordering.application.place_order import AwardLoyaltyPoints
from sample_app.story import crash_before_acknowledgement, crash_before_publish, crash_loop
from sample_app.story.duplicates import StutteringTransport
from sample_app.story.stage import Scenario, Stage


@pytest.fixture(autouse=True)
def structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


async def nothing(_handler: Any, _event: Any) -> None:
    """A handler that forgot its work."""


async def survive(*_: Any, **__: Any) -> int:
    """A process that was not killed, and did nothing."""
    return 0


BROKEN = [
    (1, SendReceipt, "handle", nothing),
    (2, AwardLoyaltyPoints, "handle", nothing),
    (3, StutteringTransport, "publish", lambda stuttering, batch: stuttering.transport.publish(batch)),
    (4, crash_before_publish, "place_order_and_die", survive),
    (5, crash_before_acknowledgement, "place_order_and_die", survive),
    (6, CapturePayment, "retry", RetryPolicy.never()),
    (7, CapturePayment, "retry", RetryPolicy.fixed(10, CapturePayment.retry.first_delay)),
    (8, ReleaseStock, "handle", nothing),
    (9, OrderPlacedV2Converter, "convert", lambda _converter, _event: None),
    (10, PrintLabel, "ordering", "none"),
    (11, EndHold, "handle", nothing),
    (12, TellStock, "handle", nothing),
    (13, ShelvePieces, "max_batch", 1),
    (14, crash_loop, "post_mails_and_die", survive),
]


@pytest.mark.parametrize(("number", "owner", "name", "instead"), BROKEN, ids=[f"scenario_{one[0]}" for one in BROKEN])
@pytest.mark.every_database
def test_scenario_fails_in_a_broken_shop(
    number: int,
    owner: Any,
    name: str,
    instead: Any,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(owner, name, instead)

    status = main(["--seed", "7", "--scenario", str(number), "--database", database_url])

    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("  ✗ ")]
    counted = re.fullmatch(r"(\d+) of (\d+) checks passed", lines[-1])
    assert status == 1
    assert counted is not None
    assert int(counted[2]) - int(counted[1]) == len(failed) > 0


def test_database_that_goes_away_in_a_scenario_fails_it_and_the_others_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def lose_the_database(_stage: Stage) -> None:
        raise OperationalError("select 1", None, OSError("the server closed the connection"))

    async def play(stage: Stage) -> None:
        stage.check("the database is back", True, True)

    scenes = [Scenario("The database goes away", "", lose_the_database), Scenario("It is back", "", play)]
    monkeypatch.setattr("sample_app.__main__.SCENARIOS", scenes)

    status = main(["--seed", "7"])

    story = capsys.readouterr().out
    assert status == 1
    assert "✗ the scenario can be played to its end: OperationalError" in story
    assert story.splitlines()[-1] == "1 of 2 checks passed"
