"""Several relays on one outbox share its slots, and whatever happens to one of them, the others go on."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from mediator import MediatorApp, MediatorSettings, RetryPolicy
from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.publishing import wakeup
from mediator.storage.database import Database
from mediator.storage.outbox import SLOTS, OutboxTable, slot_of
from tests.publishing.relays import (
    EVERY_SLOT,
    Office,
    Plan,
    RelayProcess,
    again_and_again,
    are_sharing,
    count,
    cut_off,
    lock_holders,
    relay_app,
    sent,
    until,
)
from tests.support.transports import Answer, ScriptedTransport

# They need so many processes and connections that two of them at once would disturb others.
pytestmark = [pytest.mark.every_database, pytest.mark.xdist_group("many relays"), pytest.mark.timeout(240)]

on_servers = pytest.mark.databases("postgresql", "mariadb")
SOON, SELDOM, NEVER = timedelta(milliseconds=50), timedelta(minutes=1), timedelta(hours=1)
# Keys of one slot, none of which is in EVERY_SLOT.
NEIGHBOURS = [key for key in map("key-{}".format, range(500)) if slot_of(key, UUID(int=0)) == 3][:-1]


async def is_left(office: Office, rows: int) -> bool:
    return await count(office.database, "outbox") == rows


@pytest.fixture
def plan(database_url: str, tmp_path: Path) -> Plan:
    return Plan(database_url, tmp_path)


@pytest.fixture
async def office(plan: Plan) -> AsyncIterator[Office]:
    async with relay_app(plan, roles={"publish"}, schema="create") as app:
        yield Office(app, plan)


def relaying(settings: RetryPolicy | None = None, poll: timedelta = SOON) -> dict[str, Any]:
    """Settings of relays, as a Plan takes them."""
    again = settings or RetryPolicy.fixed(1_000, timedelta(milliseconds=20))
    return {"relay": {"poll": poll, "fastest_poll": min(poll, SELDOM), "retry": again}}


def scripted(plan: Plan, answer: Answer, retry: RetryPolicy) -> tuple[MediatorApp, ScriptedTransport]:
    transport = ScriptedTransport(answer)
    settings = MediatorSettings.model_validate(relaying(retry))
    return relay_app(plan, transport=transport, settings=settings), transport


def slots_of(app: MediatorApp) -> frozenset[int]:
    return app._started("the test").services[0].relay.owned_slots


def is_fair(apps: Sequence[MediatorApp]) -> bool:
    """Each slot has one relay, and no relay has two slots more than another."""
    shares = [slots_of(app) for app in apps]
    sizes = [len(share) for share in shares]
    return sorted(slot for share in shares for slot in share) == list(range(SLOTS)) and max(sizes) - min(sizes) <= 1


@on_servers
async def test_slots_are_shared_fairly_whoever_joins_and_leaves(office: Office, plan: Plan) -> None:
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(relay_app(plan))]
        for number in (1, 2, 3, 4):
            if number > 1:
                apps.append(await stack.enter_async_context(relay_app(plan)))
            await until(lambda: is_fair(apps))
        leaver = apps.pop(1)
        await leaver.__aexit__(None, None, None)
        await until(lambda: is_fair(apps))
        apps.append(await stack.enter_async_context(relay_app(plan)))
        await until(lambda: is_fair(apps))
        before = [slots_of(app) for app in apps]
        await asyncio.sleep(1)

        # They wander for no other reason. (While a relay looks at its locks, it says that it has none.)
        await until(lambda: [slots_of(app) for app in apps] == before, 2)


@pytest.mark.databases("sqlite")
async def test_on_sqlite_one_relay_has_all_slots_until_it_leaves(office: Office, plan: Plan) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(relay_app(plan))
        await until(lambda: len(slots_of(first)) == SLOTS)
        others = [await stack.enter_async_context(relay_app(plan)) for _ in range(3)]
        await asyncio.sleep(0.6)
        assert [len(slots_of(app)) for app in [first, *others]] == [SLOTS, 0, 0, 0]

        await first.__aexit__(None, None, None)
        await until(lambda: sorted(len(slots_of(app)) for app in others) == [0, 0, SLOTS])


@on_servers
async def test_a_relay_that_was_paused_and_lost_its_locks_does_no_harm_when_it_wakes(
    office: Office, plan: Plan
) -> None:
    slowly = Plan(plan.url, plan.folder, pause_seconds=1)
    with RelayProcess(slowly) as paused:
        for _ in range(10):
            await office.publish(*NEIGHBOURS[:4])
        # The third batch has four rows: it is in the midst of it.
        await until(lambda: len(sent(plan.folder)) >= 4)
        paused.send(signal.SIGSTOP)
        await cut_off(office.database, await lock_holders(office.database))
        with RelayProcess(plan) as other:
            await office.publish(*NEIGHBOURS[:4], *EVERY_SLOT)
            await until(office.all_is_sent)
            by_then = len(sent(plan.folder))
            paused.send(signal.SIGCONT)
            await until(lambda: any(one.pid == paused.pid for one in sent(plan.folder)[by_then:]))
            await office.publish(*NEIGHBOURS[:4], *EVERY_SLOT)
            await until(office.all_is_sent)
            await until(lambda: are_sharing(office, paused, other), every_seconds=0.2)

            assert office.verdict() == []


@on_servers
async def test_a_relay_that_was_paused_within_a_transaction_holds_the_others_up_for_seconds(
    office: Office, plan: Plan
) -> None:
    await office.publish(*EVERY_SLOT)
    stopped = Database(plan.url)
    # To the server a process that was stopped looks like this: rows are locked, and nothing more is said.
    with suppress(DBAPIError):
        async with stopped.begin() as connection:
            await connection.execute(delete(office.database.tables.outbox))
            with RelayProcess(plan):
                await office.publish(*EVERY_SLOT)
                await until(office.all_is_sent, 90)
    await stopped.close()

    assert office.verdict() == []


async def test_a_refused_row_at_the_head_of_a_slot_starves_nobody(office: Office, plan: Plan) -> None:
    bad, *others = NEIGHBOURS[:20]

    def answer(envelope: Envelope) -> Exception | None:
        return PublishRefusedError("scripted", envelope.topic, "never") if envelope.key == bad else None

    await office.publish(bad)
    async with AsyncExitStack() as stack:
        made = [scripted(plan, answer, RetryPolicy.fixed(5, NEVER)) for _ in range(2)]
        for app, _ in made:
            await stack.enter_async_context(app)
        for _ in range(5):
            await office.publish(bad, *others)
        await until(lambda: sum(len(transport.confirmed) for _, transport in made) == 5 * len(others))
        await until(lambda: is_left(office, 6))

    async with office.database.read() as connection:
        outbox = office.database.tables.outbox
        left = (await connection.execute(select(outbox).order_by(outbox.c.position))).mappings().all()
    assert [(row["partition_key"], row["attempts"]) for row in left] == [(bad, 1), *[(bad, 0)] * 5]


async def test_a_row_that_kills_every_relay_that_touches_it_dies_and_starves_nobody(office: Office, plan: Plan) -> None:
    bad, *others = NEIGHBOURS[:4]
    deadly = Plan(plan.url, plan.folder, killer=bad, settings=relaying(RetryPolicy.fixed(5, NEVER)))
    await office.publish(*others, bad, *others)
    relays = [RelayProcess(deadly), RelayProcess(deadly)]
    supervisors = [asyncio.ensure_future(again_and_again(relay)) for relay in relays]
    try:
        while await count(office.database, "parked") == 0:
            # No slot is ever empty, and none gets single rows only.
            await office.publish(*EVERY_SLOT, *others)
            await asyncio.sleep(0.05)
        await until(office.all_is_sent)
    finally:
        for supervisor in supervisors:
            supervisor.cancel()
        await asyncio.gather(*supervisors, return_exceptions=True)
        for relay in relays:
            relay.__exit__(None, None, None)

    assert office.verdict() == [f"{bad}: 1 was lost"]
    assert await count(office.database, "parked") == 1


async def test_an_outage_of_the_broker_costs_no_attempts(office: Office, plan: Plan) -> None:
    is_down = True

    def answer(envelope: Envelope) -> Exception | None:
        return TransportUnavailableError("scripted", "down") if is_down else None

    async with AsyncExitStack() as stack:
        # A second attempt would be the last one.
        made = [scripted(plan, answer, RetryPolicy.fixed(2, timedelta(milliseconds=1))) for _ in range(3)]
        for app, _ in made:
            await stack.enter_async_context(app)
        apps = [app for app, _ in made]
        await until(lambda: is_fair(apps) if office.database.dialect != "sqlite" else any(map(slots_of, apps)))
        # One row for each relay, so that it is the same one that it tries again and again.
        share = {of: min(slots_of(app)) for app, of in made if slots_of(app)}
        await office.publish(*(key for key in EVERY_SLOT if slot_of(key, UUID(int=0)) in share.values()))
        await until(lambda: all(len(of.batches) >= 4 for of in share))
        is_down = False
        await until(office.all_is_sent)

        assert await count(office.database, "parked") == 0
        assert await count(office.database, "sent") == len(share)


async def test_a_relay_that_stops_hands_its_slots_over(office: Office, plan: Plan) -> None:
    with RelayProcess(plan) as leaving, RelayProcess(plan) as staying:
        if office.database.dialect != "sqlite":
            await until(lambda: are_sharing(office, leaving, staying), every_seconds=0.2)
        stopping = asyncio.ensure_future(leaving.stop())
        for _ in range(20):
            await office.publish(*EVERY_SLOT)
        await stopping
        before = len(sent(plan.folder))
        await office.publish(*EVERY_SLOT)
        await until(office.all_is_sent)

        assert {one.pid for one in sent(plan.folder)[before:]} == {staying.pid}
        assert office.verdict() == []
        assert len(sent(plan.folder)) == office.committed.total()


async def test_when_a_relay_is_killed_the_others_relay_what_is_committed_next(office: Office, plan: Plan) -> None:
    relays = [RelayProcess(plan) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for relay in relays:
            stack.enter_context(relay)
        for _ in range(3):
            if office.database.dialect == "sqlite":
                await until(lambda: all(relay.is_ready for relay in relays))
            else:
                await until(lambda: are_sharing(office, *relays), every_seconds=0.2)
            await office.publish(*EVERY_SLOT)
            await until(office.all_is_sent)
            (victim,) = [relay for relay in relays if relay.pid == sent(plan.folder)[-1].pid]
            victim.kill()
            # Generous; docs/benchmarks.md says how long it takes.
            await office.publish(*EVERY_SLOT)
            await until(office.all_is_sent, 15)
            victim.start()

        assert office.verdict() == []


@pytest.mark.databases("postgresql", "psycopg")
@pytest.mark.parametrize("roles", [{"publish"}, {"publish", "relay"}])
async def test_a_commit_in_one_process_wakes_the_relay_of_another(plan: Plan, roles: set[Any]) -> None:
    seldom = Plan(plan.url, plan.folder, settings=relaying(poll=SELDOM))
    async with relay_app(seldom, roles=roles, schema="create") as app:
        office = Office(app, seldom)
        with RelayProcess(seldom) as relay:
            await until(lambda: was_sent_by(office, relay), every_seconds=0.2)
            for _ in range(5):
                before = len(sent(plan.folder))
                await office.publish(*EVERY_SLOT)
                # Polling would take up to a minute.
                await until(office.all_is_sent, 10)
                assert relay.pid in {one.pid for one in sent(plan.folder)[before:]}


async def was_sent_by(office: Office, relay: RelayProcess) -> bool:
    await office.publish(*EVERY_SLOT)
    await asyncio.sleep(0.2)
    return relay.pid in office.senders()


@pytest.mark.databases("sqlite", "mariadb")
async def test_a_commit_in_one_process_is_found_by_polling_in_another(office: Office, plan: Plan) -> None:
    with RelayProcess(plan) as relay:
        for _ in range(5):
            await office.publish(*EVERY_SLOT)
            await until(office.all_is_sent, 10)

        assert office.senders() == {relay.pid}


@pytest.mark.databases("postgresql", "psycopg")
async def test_listening_begins_again_after_its_connection_was_killed(office: Office, plan: Plan) -> None:
    seldom = Plan(plan.url, plan.folder, settings=relaying(poll=SELDOM))
    async with relay_app(seldom):
        await until(lambda: is_listening(office.database))
        await office.publish(*EVERY_SLOT)
        await until(office.all_is_sent, 10)
        killed = await listeners(office.database)
        await cut_off(office.database, killed)
        # What is committed until it listens again, it finds when it does.
        await office.publish(*EVERY_SLOT)
        await until(office.all_is_sent, 10)
        assert await listeners(office.database) not in (set(), killed)

        await office.publish(*EVERY_SLOT)
        await until(office.all_is_sent, 10)


@pytest.mark.databases("postgresql", "psycopg")
async def test_polling_goes_on_when_listening_is_impossible(
    office: Office, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_slots(_database: Database) -> AsyncIterator[Sequence[int]]:
        raise ConnectionResetError("no listening today")

    monkeypatch.setattr(wakeup, "told_slots", told_slots)
    async with relay_app(plan):
        for _ in range(3):
            await office.publish(*EVERY_SLOT)
            await until(office.all_is_sent, 10)

    assert office.verdict() == []


async def is_listening(database: Database) -> bool:
    return bool(await listeners(database))


async def listeners(database: Database) -> set[int]:
    """The connections that listen, by the server's numbers."""
    query = "SELECT pid FROM pg_stat_activity WHERE query ILIKE 'LISTEN %' AND datname = current_database()"
    async with database.read() as connection:
        return set((await connection.execute(text(query))).scalars())


TWO_PLACES = [{"table_prefix": "one_"}, {"table_prefix": "two_"}]
TWO_SCHEMAS = [{"schema_name": "one"}, {"schema_name": "two"}]


async def test_two_applications_with_prefixes_of_their_own_do_not_meet(database_url: str, tmp_path: Path) -> None:
    await assert_apart(database_url, tmp_path, TWO_PLACES)


@pytest.mark.databases("postgresql")
async def test_two_applications_with_schemas_of_their_own_do_not_meet(database_url: str, tmp_path: Path) -> None:
    await assert_apart(database_url, tmp_path, TWO_SCHEMAS)


def has_every_slot(office: Office) -> bool:
    return len(slots_of(office.app)) == SLOTS


async def assert_apart(url: str, folder: Path, places: Sequence[dict[str, Any]]) -> None:
    async with AsyncExitStack() as stack:
        offices = []
        for number, place in enumerate(places):
            plan = Plan(url, folder / str(number), settings={**relaying(), **place})
            plan.folder.mkdir()
            app = await stack.enter_async_context(relay_app(plan, roles={"publish", "relay"}, schema="create"))
            offices.append(Office(app, plan))
        for office in offices:
            await until(partial(has_every_slot, office))
        for number, office in enumerate(offices, 1):
            for _ in range(number):
                await office.publish(*EVERY_SLOT)
        for office in offices:
            await until(office.all_is_sent)

        assert [office.verdict() for office in offices] == [[], []]
        assert [len(sent(office.plan.folder)) for office in offices] == [SLOTS, 2 * SLOTS]
        assert [await count(office.database, "sent") for office in offices] == [SLOTS, 2 * SLOTS]


async def test_a_refusal_between_two_statements_of_a_fetch_does_not_turn_the_order_around(
    office: Office, plan: Plan
) -> None:
    """The relay that refuses has lost the slot already, or was killed as it sent its last statement."""
    key = EVERY_SLOT[0]
    slot = slot_of(key, UUID(int=0))
    await office.publish(key)
    await office.publish(key)
    former, present = OutboxTable(office.database), Database(plan.url)
    first, _ = await former.fetch(slot, 2, without=[], without_keys=[])
    refusals: list[int] = []

    def refuse_first(*_arguments: Any) -> None:
        if not refusals:
            refusals.append(first["position"])
            await_only(former.refuse((slot, first["position"]), 1, NEVER, "not now"))

    event.listen(present._own_reader.sync_engine, "after_cursor_execute", refuse_first)
    rows = await OutboxTable(present).fetch(slot, 2, without=[], without_keys=[])
    await present.close()

    assert refusals
    assert [row["position"] for row in rows] in ([], [first["position"], first["position"] + 1])
