"""Who publishes a deprecated event is told once, louder after the sunset, and every envelope says it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings import http
from structlog.testing import capture_logs

from contracts import Deprecation, IntegrationEvent, event_topic
from mediator.clock import Runtime
from mediator.messaging.cloudevents import from_headers, to_headers
from mediator.messaging.envelope import Envelope
from tests.publishing.bank import FactV1, published
from tests.support import AppFactory, module_of

# What is said of an event does not depend on where it is stored.
pytestmark = pytest.mark.databases("sqlite")


@event_topic("prices", domain="bank", version="v2", name="priced")
class PricedV2(IntegrationEvent):
    pass


@event_topic(
    "prices",
    domain="bank",
    name="priced",
    owner="team-prices",
    deprecated=Deprecation(date(2026, 3, 1), date(2026, 9, 1), PricedV2),
)
class PricedV1(IntegrationEvent):
    pass


@event_topic("rates", domain="bank", deprecated=Deprecation(date(2026, 3, 1)))
class RatedV1(IntegrationEvent):
    pass


HEADERS = {
    "ce-deprecated": "true",
    "ce-deprecationfrom": "2026-03-01T00:00:00Z",
    "ce-deprecationsunset": "2026-09-01T00:00:00Z",
    "ce-replacedby": "bank.priced.v2",
}
BEFORE, DURING, AFTER = (datetime(2026, month, 1, tzinfo=UTC) for month in (2, 5, 9))


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


def told(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"].startswith("deprecated_event.")]


async def test_its_publisher_is_told_once_for_each_class(make_app: AppFactory, logs: list[Any], tmp_path: Path) -> None:
    other = module_of("other", database=f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")
    async with make_app(module_of("bank"), other, runtime=Runtime(now=Clock(DURING))) as app:
        for module in ("bank", "other", "bank"):
            async with app.unit_of_work(module) as uow:
                uow.publish(PricedV1(), PricedV1(), FactV1(what=""))
        await app.publish_in_own_transaction(RatedV1())
        counted = app.counters.snapshot()

    assert told(logs) == [
        {
            "event": "deprecated_event.published",
            "log_level": "warning",
            "type": "bank.priced.v1",
            "owner": "team-prices",
            "since": "2026-03-01",
            "sunset": "2026-09-01",
            "replacement": "bank.priced.v2",
        },
        {
            "event": "deprecated_event.published",
            "log_level": "warning",
            "type": "bank.rated.v1",
            "owner": "",
            "since": "2026-03-01",
        },
    ]
    assert counted["deprecated_published", "bank.priced.v1"] == 6
    assert counted["deprecated_published", "bank.rated.v1"] == 1


async def test_after_the_sunset_it_is_told_louder_also_to_a_process_that_knows(
    make_app: AppFactory, logs: list[Any]
) -> None:
    clock = Clock(DURING)
    async with make_app(module_of("bank"), runtime=Runtime(now=clock)) as app:
        await app.publish_in_own_transaction(PricedV1())
        clock.now = AFTER
        for _ in range(2):
            await app.publish_in_own_transaction(PricedV1(), RatedV1())

    assert [(line["event"], line["log_level"], line["type"]) for line in told(logs)] == [
        ("deprecated_event.published", "warning", "bank.priced.v1"),
        ("deprecated_event.published_after_sunset", "error", "bank.priced.v1"),
        ("deprecated_event.published", "warning", "bank.rated.v1"),
    ]


async def test_before_its_first_day_nothing_is_said(make_app: AppFactory, logs: list[Any], database_url: str) -> None:
    async with make_app(module_of("bank"), runtime=Runtime(now=Clock(BEFORE))) as app:
        await app.publish_in_own_transaction(PricedV1())
        (row,) = await published(app, database_url)

    assert told(logs) == []
    assert Envelope.from_row({**row, "attempts": 0}).deprecation == {}


async def test_its_envelope_says_it_on_the_wire(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank"), runtime=Runtime(now=Clock(DURING))) as app:
        await app.publish_in_own_transaction(PricedV1(), FactV1(what=""))
        rows = await published(app, database_url)
    deprecated, other = (Envelope.from_row({**row, "attempts": 0}) for row in rows)
    headers = to_headers(deprecated)

    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert deprecated.headers == {}
    assert from_headers(deprecated.topic, headers, deprecated.body).deprecation == HEADERS
    assert all(name.removeprefix("ce-").isalnum() and name.islower() for name in HEADERS)
    of_the_sdk = http.from_http_event(http.HTTPMessage(headers, deprecated.body))
    assert {name: of_the_sdk.get_extension(name.removeprefix("ce-")) for name in HEADERS} == HEADERS
    assert other.deprecation == {}
    assert not HEADERS.keys() & to_headers(other).keys()
