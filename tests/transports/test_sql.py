"""sql:// loses nothing that was confirmed: to kills, outages, other processes' groups, or a long queue."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.testing import capture_logs

from contracts import IntegrationEvent, PartitionKey, event_topic
from mediator import IntegrationEventHandler
from mediator.errors import (
    BrokerError,
    DrainTimeoutError,
    OperationRefusedError,
    PublishRefusedError,
    TransportUnavailableError,
)
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Subscription, lane_of
from mediator.storage.database import Database
from mediator.storage.engines import Weakness
from mediator.storage.schema import create_schema
from mediator.transports import SqlTransport
from mediator.transports.sql import subscription as reading
from mediator.transports.sql import transport as carrying
from mediator.transports.sql.subscription import SqlSubscription
from tests.storage.drivers import ON_SERVERS
from tests.storage.rows import eventually, execute, stored
from tests.support import AppFactory, Effect, effects, module_of
from tests.support.proxy import Proxy

pytestmark = pytest.mark.every_database

ORDERS, INVOICES = "test.shop.public.orders.v1", "test.shop.public.invoices.v1"
BILLING, STOCK = "shop.billing", "shop.stock"
LANES = range(4)
SOON, NOW = timedelta(seconds=20), timedelta(0)
ROOT = Path(__file__).resolve().parents[2]


def envelope(body: object = "{}", key: str | None = "order-1", topic: str = ORDERS) -> Envelope:
    return Envelope(
        event_id=uuid4(),
        topic=topic,
        type="shop.order-placed",
        version="v1",
        body=str(body).encode(),
        occurred_on=datetime.now(UTC),
        source="/shop/ordering",
        key=key,
    )


@asynccontextmanager
async def process(url: str, *groups: str) -> AsyncIterator[SqlTransport]:
    """What one process of an application has, on the application's own database."""
    database = Database(url)
    transport = SqlTransport(database, lanes=len(LANES))
    try:
        await database.open()
        await transport.open()
        if groups:
            await transport.provision([ORDERS, INVOICES], {group: [ORDERS] for group in groups})
        yield transport
    finally:
        await transport.close()
        await database.close()


@pytest_asyncio.fixture
async def tables(database_url: str) -> str:
    database = Database(database_url)
    await create_schema(database)
    await database.close()
    return database_url


@pytest_asyncio.fixture
async def transport(tables: str) -> AsyncIterator[SqlTransport]:
    async with process(tables, BILLING) as transport:
        yield transport


async def publish(transport: SqlTransport, *batch: Envelope) -> list[Exception | None]:
    return [error async for _, error in transport.publish(batch)]


async def join(
    transport: SqlTransport, group: str = BILLING, lanes: Collection[int] = LANES, prefetch: int = 100
) -> Subscription:
    subscription = await transport.subscribe(group, [ORDERS], prefetch)
    await subscription.take(lanes)
    return subscription


async def fetch(subscription: Subscription, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(SOON.total_seconds()):
        while len(found) < count:
            found += await subscription.fetch(count - len(found), SOON)
    return found


async def acknowledge(subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
    await subscription.settle([(delivery, Settlement.ACK) for delivery in deliveries])


def bodies(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


OTHER_PROCESS = """
import asyncio, sys
from tests.transports.test_sql import *

async def main(url, lanes, count, acknowledged):
    async with process(url) as transport:
        member = await join(transport, lanes=json.loads(lanes))
        while True:
            found = await fetch(member, int(count))
            await acknowledge(member, found[:int(acknowledged)])
            print(json.dumps(bodies(found)), flush=True)
            if count == acknowledged:
                continue
            await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def other_process(
    url: str, lanes: Collection[int] = LANES, *, count: int, acknowledged: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real one, which fetches so many at a time and acknowledges the first of them; killed at the end."""
    arguments = (url, json.dumps(list(lanes)), str(count), str(acknowledged))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER_PROCESS, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGKILL)
        await running.wait()


async def said(running: asyncio.subprocess.Process) -> Any:
    assert running.stdout is not None
    async with asyncio.timeout(60):
        while not (line := await running.stdout.readline()).startswith(b"["):
            assert line, "the other process has ended"
        return json.loads(line)


async def test_what_a_killed_process_did_not_settle_comes_first_to_the_next_in_order(
    transport: SqlTransport, tables: str
) -> None:
    sent = [envelope(number) for number in range(300)]
    assert await publish(transport, *sent) == [None] * 300
    async with other_process(tables, count=5, acknowledged=2) as running:
        assert await said(running) == ["0", "1", "2", "3", "4"]
        await eventually(lambda: len(execute(tables, "SELECT 1 FROM mediator_deliveries")) == 298)
        os.kill(running.pid, signal.SIGKILL)
        await running.wait()

    came = await fetch(await join(transport, prefetch=300), 298)

    assert bodies(came) == [str(number) for number in range(2, 300)]
    assert [delivery.attempt for delivery in came[:3]] == [2, 2, 2]
    # It read half a prefetch ahead, and cannot tell any more what it handed out of that.
    assert {delivery.attempt for delivery in came[110:]} == {1}


async def test_what_kills_again_and_again_is_counted(transport: SqlTransport, tables: str) -> None:
    await publish(transport, envelope("killer"))
    for _ in range(2):
        async with other_process(tables, count=1, acknowledged=0) as running:
            await said(running)

    (delivery,) = await fetch(await join(transport), 1)

    assert delivery.attempt == 3


async def test_two_processes_share_the_lanes(transport: SqlTransport, tables: str) -> None:
    async with other_process(tables, [0, 1], count=1, acknowledged=1) as running:
        member = await join(transport, lanes=[2, 3])
        sent = [envelope(number, f"order-{number}") for number in range(40)]
        theirs = {str(number) for number in range(40) if lane_of(sent[number], len(LANES)) < 2}
        for one in sent:
            await publish(transport, one)

        mine = await fetch(member, 40 - len(theirs))
        found = [(await said(running))[0] for _ in theirs]

    assert set(found) == theirs
    assert {*bodies(mine), *found} == {str(number) for number in range(40)}


async def test_what_is_acknowledged_at_the_last_moment_is_not_delivered_again(transport: SqlTransport) -> None:
    await publish(transport, *(envelope(number) for number in range(3)))
    leaving = await join(transport)
    await acknowledge(leaving, (await fetch(leaving, 3))[:2])
    await leaving.close()

    (last,) = await fetch(await join(transport), 1)

    assert (last.body, last.attempt) == (b"2", 2)


async def test_what_was_read_ahead_and_handed_to_nobody_is_no_redelivery(transport: SqlTransport) -> None:
    await publish(transport, *(envelope(number) for number in range(20)))
    leaving = await join(transport)
    await fetch(leaving, 2)
    await leaving.close()

    came = await fetch(await join(transport), 20)

    assert [delivery.attempt for delivery in came] == [2, 2] + [1] * 18


async def test_what_is_being_read_when_its_lane_is_given_up_is_no_redelivery(transport: SqlTransport) -> None:
    giving = await join(transport, lanes=[])
    assert isinstance(giving, SqlSubscription)
    note, is_marking, may_mark = giving._deliveries.note, asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> None:
        is_marking.set()
        await may_mark.wait()
        await note(*arguments)

    giving._deliveries.note = slowly  # type: ignore[method-assign, assignment]
    await publish(transport, *(envelope(number) for number in range(3)))
    await giving.take(LANES)
    await is_marking.wait()
    given_up = asyncio.create_task(giving.take([]))
    await asyncio.sleep(0)
    may_mark.set()
    await given_up

    assert [delivery.attempt for delivery in await fetch(await join(transport), 3)] == [1, 1, 1]


async def test_a_group_that_another_process_provisions_is_served_from_then_on(
    transport: SqlTransport, tables: str
) -> None:
    provisioned_at, number, is_over = -1, 0, asyncio.Event()

    async def publish_on() -> None:
        nonlocal number
        while not is_over.is_set():
            assert await publish(transport, envelope(number)) == [None]
            number += 1

    publishing = asyncio.create_task(publish_on())
    await eventually(lambda: number > 3)
    async with process(tables, STOCK) as other:
        provisioned_at = number
        await eventually(lambda: number > provisioned_at + 3)
        is_over.set()
        await publishing

        came = [int(body) for body in bodies(await fetch(await join(other, STOCK), number - provisioned_at - 1))]

    # One publication may have been under way at that moment.
    assert came[0] <= provisioned_at + 1
    assert came == list(range(came[0], came[0] + len(came)))


async def test_a_topic_is_known_from_the_moment_another_process_provisions_it(
    transport: SqlTransport, tables: str
) -> None:
    (refused,) = await publish(transport, envelope(topic="test.shop.public.new.v1"))
    assert isinstance(refused, PublishRefusedError)

    async with process(tables) as other:
        await other.provision(["test.shop.public.new.v1"], {})

    assert await publish(transport, envelope(topic="test.shop.public.new.v1")) == [None]


async def test_processes_that_provision_at_once_do_not_disturb_each_other(tables: str) -> None:
    async with process(tables) as one, process(tables) as other, process(tables) as third:
        await asyncio.gather(*(each.provision([ORDERS], {BILLING: [ORDERS]}) for each in (one, other, third)))
        await asyncio.gather(one.provision([INVOICES], {BILLING: [INVOICES]}), other.provision([], {STOCK: [ORDERS]}))

        assert len(await stored(tables, "lanes")) == 2 * len(LANES)
        assert await publish(third, envelope(1), envelope(2, topic=INVOICES)) == [None, None]
        assert bodies(await fetch(await join(third), 2)) == ["1", "2"]
        assert bodies(await fetch(await join(third, STOCK), 1)) == ["1"]


async def test_a_long_queue_is_read_in_small_pieces_and_no_lane_waits_for_another(transport: SqlTransport) -> None:
    hot = [envelope(number) for number in range(2_000)]
    other = next(one for one in (envelope("other", f"key-{n}") for n in range(99)) if _lane(one) != _lane(hot[0]))
    for _ in range(5):
        assert set(await publish(transport, *hot)) == {None}
    await publish(transport, other)
    sizes: list[int] = []
    member = await join(transport, prefetch=20)
    assert isinstance(member, SqlSubscription)
    look = member._deliveries.fetch

    async def counted(*arguments: Any) -> Any:
        rows = await look(*arguments)
        sizes.append(len(rows))
        return rows

    member._deliveries.fetch = counted  # type: ignore[method-assign, assignment]
    came: list[Delivery] = []
    for _ in range(20):
        found = await fetch(member, 10)
        came += found
        await acknowledge(member, found)

    assert "other" in bodies(came)
    assert bodies(came).index("other") < 30
    assert [body for body in bodies(came) if body != "other"] == [str(number) for number in range(199)]
    assert max(sizes) <= 20 + len(LANES)
    assert len(member._waiting) <= 20 + len(LANES)


def _lane(one: Envelope) -> int:
    return lane_of(one, len(LANES))


@ON_SERVERS
async def test_after_an_outage_it_goes_on_by_itself(tables: str) -> None:
    async with process(tables, BILLING), Proxy(tables) as proxy, process(proxy.url, BILLING) as transport:
        member = await join(transport)
        await publish(transport, envelope(1))
        (first,) = await fetch(member, 1)
        with capture_logs() as logs:
            proxy.refuse()
            proxy.cut()
            (error,) = await publish(transport, envelope("lost"))
            assert isinstance(error, TransportUnavailableError)
            assert list(await member.fetch(10, timedelta(seconds=0.3))) == []
            assert not (await transport.health()).ok
            await acknowledge(member, [first])
            await proxy.accept()

            async def is_published() -> bool:
                return await publish(transport, envelope(2)) == [None]

            await eventually(is_published)
            assert bodies(await fetch(member, 1)) == ["2"]
        await member.close()

        assert [row["body"] for row in await stored(tables, "deliveries")] == [b"2"]
        happened = [log["event"] for log in logs if log["event"].startswith("transport.")]
        # Twice where a second pool has a connection of before; never again for each statement that fails.
        assert happened == ["transport.connection_lost", "transport.connected_again"] * (len(happened) // 2)
        assert 2 <= len(happened) <= 6
        assert (await transport.health()).ok


@ON_SERVERS
async def test_a_publication_whose_commit_nobody_heard_of_is_not_confirmed(tables: str) -> None:
    async with process(tables, BILLING), Proxy(tables) as proxy, process(proxy.url, BILLING) as transport:
        await publish(transport, envelope("before"))
        cut = proxy.cut_after_commit(of="mediator_deliveries")

        (error,) = await publish(transport, envelope("unknown"))
        await cut.happened()

        assert isinstance(error, TransportUnavailableError)
        # It was committed. Sent again it is a duplicate, which is legal.
        assert len(await stored(tables, "deliveries")) == 2


@ON_SERVERS
async def test_a_database_that_hangs_holds_nobody_up_for_ever(tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "_PUBLISH_SECONDS", 0.5)
    monkeypatch.setattr(carrying, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(reading, "_LEAVE_SECONDS", 0.5)
    async with process(tables, BILLING), Proxy(tables) as proxy, process(proxy.url, BILLING) as transport:
        member = await join(transport)
        await publish(transport, envelope(1))
        found = await fetch(member, 1)
        proxy.hold()

        async with asyncio.timeout(40):
            (error,) = await publish(transport, envelope(2))
            assert isinstance(error, TransportUnavailableError)
            assert list(await member.fetch(10, timedelta(seconds=0.2))) == []
            assert not (await transport.health()).ok
            await acknowledge(member, found)
            await transport.close()
        proxy.release()


@pytest.mark.databases("postgresql", "psycopg")
async def test_another_process_is_told_of_what_was_published(tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FASTEST_POLL_SECONDS",):
        monkeypatch.setattr(reading, name, 3_600)
    monkeypatch.setattr(carrying, "_TOLD_POLL_SECONDS", 3_600)
    async with process(tables, BILLING) as one, process(tables) as other:
        member = await join(other)
        assert isinstance(member, SqlSubscription)
        await eventually(lambda: member._next_poll > 0 and not member._dirty)
        listening = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        await eventually(lambda: bool(execute(tables, listening)))

        await publish(one, envelope("told"))

        assert bodies(await fetch(member, 1)) == ["told"]


@pytest.mark.parametrize("told", [True, False])
async def test_what_is_published_is_found_by_looking_when_nobody_tells(
    tables: str, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    async with process(tables, BILLING) as one, process(tables) as other:
        if not told:
            monkeypatch.setattr(SqlTransport, "_written", lambda *_: None)
        member = await join(other)
        await other.health()
        await publish(one, envelope("found"))

        assert bodies(await fetch(member, 1)) == ["found"]


async def test_a_row_that_somebody_else_wrote_is_delivered_as_it_is(transport: SqlTransport, tables: str) -> None:
    await publish(transport, envelope(1), envelope(2), envelope(3))
    execute(tables, "UPDATE mediator_deliveries SET headers = 'no json' WHERE position = 1")
    execute(tables, "UPDATE mediator_deliveries SET headers = '[1]', topic = 'who knows' WHERE position = 2")
    execute(tables, """UPDATE mediator_deliveries SET headers = '{"a": 1}' WHERE position = 3""")

    came = await fetch(await join(transport), 3)

    assert [dict(delivery.headers) for delivery in came] == [{}, {}, {"a": "1"}]
    assert came[1].topic == "who knows"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (envelope("x" * 5_000_000), "5000000 bytes, at most 4194304"),
        (envelope(key="k" * 201), "longer than 200"),
        (envelope(key="a\0b"), "no text that a database stores"),
        (envelope(key="\ud800"), "no text that a database stores"),
        (envelope(topic="unknown"), "nobody has provisioned"),
    ],
)
async def test_an_envelope_that_cannot_be_stored_is_refused_alone(
    transport: SqlTransport, wrong: Envelope, says: str
) -> None:
    first, other = envelope(1, "a"), envelope(2, "b")
    # The lane of a lone surrogate cannot be computed: it is refused before.
    refused, *confirmed = await publish(transport, wrong, first, other)

    assert isinstance(refused, PublishRefusedError)
    assert says in str(refused)
    assert confirmed == [None, None]


async def test_tables_that_are_missing_are_no_fault_of_the_envelope(transport: SqlTransport, tables: str) -> None:
    execute(tables, "DROP TABLE mediator_deliveries")

    (error,) = await publish(transport, envelope())

    assert isinstance(error, TransportUnavailableError)
    assert "mediator_deliveries" in str(error)


async def test_another_number_of_lanes_is_refused(transport: SqlTransport) -> None:
    other = SqlTransport(transport.database, lanes=8)

    for create in (True, False):
        with pytest.raises(BrokerError, match=r"the group shop\.billing has 4 lanes.*told 8.*sql://\?lanes=4"):
            await other.provision([ORDERS], {BILLING: [ORDERS]}, create=create)
    with pytest.raises(BrokerError, match="has 4 lanes"):
        await other.subscribe(BILLING, [ORDERS], 10)
    # Whoever publishes takes the lanes that a group has.
    await other.open()
    assert await publish(other, envelope(1)) == [None]
    await other.close()
    assert bodies(await fetch(await join(transport), 1)) == ["1"]


async def test_a_group_is_given_up_with_what_waits_for_it(transport: SqlTransport, tables: str) -> None:
    async with process(tables, STOCK) as other:
        await publish(transport, *(envelope(number) for number in range(3)))
        assert await transport.backlog([BILLING, STOCK]) == {BILLING: 3, STOCK: 3}
        member = await join(other, STOCK)
        with pytest.raises(OperationRefusedError, match="read in this process"):
            await other.forget(STOCK)
        await member.close()

        assert await other.forget(STOCK) == 3
        assert await publish(transport, envelope("after")) == [None]

        assert await transport.backlog([BILLING, STOCK]) == {BILLING: 4, STOCK: 0}
        with pytest.raises(OperationRefusedError, match="no such group"):
            await other.forget(STOCK)
        with pytest.raises(BrokerError, match=r"missing: group shop\.stock"):
            await join(other, STOCK)


async def test_settings_that_lose_what_was_confirmed_are_faults(transport: SqlTransport) -> None:
    transport.database.weaknesses = [
        Weakness("fsync", "off", "a crash of the machine may destroy the database"),
        Weakness("address", "a pooler", "relays need the server's own address"),
    ]

    (fault,) = await transport.check()

    assert str(fault) == "fsync: it is off: a crash of the machine may destroy the database. Change it on the server"


@event_topic("orders", domain="ordering")
class OrderPlacedV1(IntegrationEvent):
    """A customer placed an order."""


class ReserveStock(IntegrationEventHandler[OrderPlacedV1]):
    async def handle(self, event: OrderPlacedV1) -> None: ...


@pytest.mark.parametrize("where", ["own", "another"])
async def test_an_application_is_not_drained_while_its_groups_have_deliveries(
    make_app: AppFactory, database_url: str, where: str
) -> None:
    """This process consumes nothing: what it relays waits for another one."""
    place = "sql://" if where == "own" else f"sql+{database_url}?prefix=events_"
    prefix = "mediator_" if where == "own" else "events_"
    modules = module_of("stock", OrderPlacedV1, ReserveStock)
    async with make_app(modules, transport=place, roles={"publish", "relay"}) as app:
        await app.publish_in_own_transaction(OrderPlacedV1())
        with pytest.raises(DrainTimeoutError, match=r"still pending: 1 events under way"):
            await app.drained(timedelta(seconds=3))

        execute(database_url, f"DELETE FROM {prefix}deliveries")
        await app.drained()


@event_topic("numbers", domain="ordering")
class NumberedV1(IntegrationEvent):
    """Events of a key, counted."""

    key: Annotated[str, PartitionKey()]
    number: int


class WriteDown(IntegrationEventHandler[NumberedV1]):
    ordering = "key"

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: NumberedV1) -> None:
        self._session.add(Effect(what=event.key, detail=f"{event.number}"))


@pytest.mark.parametrize("where", ["own", "another"])
async def test_two_applications_handle_what_either_of_them_publishes_once_and_in_order(
    make_app: AppFactory, database_url: str, where: str
) -> None:
    place = "sql://?lanes=4" if where == "own" else f"sql+{database_url}?prefix=events_&lanes=4"
    module = module_of("stock", NumberedV1, WriteDown)
    roles = [{"publish", "relay", "consume"}, {"publish", "consume"}]
    async with make_app(module, transport=place, roles=roles[0]) as one:
        async with make_app(module, transport=place, roles=roles[1]) as other:
            for number in range(10):
                for app in (one, other):
                    await app.publish_in_own_transaction(
                        *(NumberedV1(key=f"{id(app)}-{key}", number=number) for key in range(8))
                    )
            await one.drained()
            handled = [app.counters.total("handled", "stock.write-down") for app in (one, other)]
        found: dict[str, list[int]] = {}
        for key, text in await effects(one):
            found.setdefault(key, []).append(int(text))

    assert len(found) == 16
    assert {tuple(numbers) for numbers in found.values()} == {tuple(range(10))}
    assert sum(handled) == 160
