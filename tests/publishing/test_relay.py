"""The relay sends what is committed, once per key in order, and removes only what was confirmed."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from mediator import MediatorApp, Outgoing, RetryPolicy
from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.storage.outbox import slot_of
from mediator.storage.parked import SENDING_SIDE
from mediator.storage.tables import Tables
from tests.publishing.bank import FactV1, KeyedV1, facts
from tests.storage.rows import eventually, stored
from tests.support import AppFactory, module_of, quick_settings
from tests.support.databases import execute
from tests.support.refusals import refuse
from tests.support.transports import ScriptedTransport

SOON, NEVER = timedelta(milliseconds=20), timedelta(hours=1)
NOBODY = UUID(int=0)


def relay(retry: RetryPolicy | None = None, **changes: Any) -> Any:
    return quick_settings(
        relay={"poll": SOON, "ramp_patience": SOON, "retry": retry or RetryPolicy.fixed(5, NEVER), **changes}
    )


def of_one_slot(count: int) -> list[str]:
    """Keys that share a slot, so that one batch takes them."""
    keys = (f"key-{number}" for number in range(10_000))
    return [key for key in keys if slot_of(key, NOBODY) == 3][:count]


def of_different_slots() -> tuple[str, str]:
    return "key-0", next(
        key for key in map("key-{}".format, range(1, 1_000)) if slot_of(key, NOBODY) != slot_of("key-0", NOBODY)
    )


def what(envelope: Envelope) -> str:
    return str(json.loads(envelope.body)["what"])


def refusing(*names: str) -> Callable[[Envelope], Exception | None]:
    left = list(names)

    def answer(envelope: Envelope) -> Exception | None:
        if what(envelope) in left:
            left.remove(what(envelope))
            return PublishRefusedError("scripted", envelope.topic, "not today")
        return None

    return answer


async def ramped(app: MediatorApp, transport: ScriptedTransport) -> None:
    """Until the relay has found out that the start was harmless, it hands over one row at a time."""
    relay = app._started("the test").services[0].relay
    await eventually(lambda: relay._ramp.is_over)


async def outbox(url: str) -> dict[str, dict[str, Any]]:
    return {json.loads(row["body"])["what"]: dict(row) for row in await stored(url, "outbox")}


def make_due(url: str) -> None:
    execute(url, "UPDATE mediator_outbox SET next_attempt_at = 1 WHERE next_attempt_at IS NOT NULL")


async def test_a_refused_row_blocks_its_key_and_nothing_else(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport(refusing("a1"))
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await app.publish_in_own_transaction(*(KeyedV1(key=name[0], what=name) for name in ("a1", "b1", "a2", "b2")))
        await eventually(lambda: {what(envelope) for envelope in transport.confirmed} >= {"b1", "b2"})
        await app.publish_in_own_transaction(KeyedV1(key="a", what="a3"), KeyedV1(key="c", what="c1"))
        await eventually(lambda: "c1" in map(what, transport.confirmed))
        await eventually(lambda: not app._started("the test").services[0].relay._in_flight)

        left = await outbox(database_url)
        assert list(left) == ["a1", "a2", "a3"]
        assert [row["attempts"] for row in left.values()] == [1, 0, 0]

        make_due(database_url)
        await app.drained()
        assert [what(envelope) for envelope in transport.confirmed if envelope.key == "a"] == ["a1", "a2", "a3"]
        assert await stored(database_url, "outbox") == []


async def test_rows_without_a_key_do_not_wait_for_each_other(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport(refusing("1"))
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await app.publish_in_own_transaction(*(FactV1(what=str(number)) for number in range(20)))
        await eventually(lambda: len(transport.confirmed) == 19)
        await eventually(lambda: not app._started("the test").services[0].relay._in_flight)

        assert list(await outbox(database_url)) == ["1"]


async def test_only_what_was_confirmed_is_removed_from_a_batch(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport(refusing("2", "4"))
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await ramped(app, transport)
        keys = of_one_slot(5)
        await app.publish_in_own_transaction(
            *(KeyedV1(key=key, what=str(number)) for number, key in enumerate(keys, 1))
        )
        await eventually(lambda: len(transport.confirmed) == 3)
        await eventually(lambda: not app._started("the test").services[0].relay._in_flight)

        assert [len(batch) for batch in transport.batches] == [5]
        assert {name: row["attempts"] for name, row in (await outbox(database_url)).items()} == {"2": 1, "4": 1}
        assert len(await stored(database_url, "sent")) == 3


async def test_attempts_are_kept_and_the_next_is_later(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport(refusing("it", "it"))
    policy = RetryPolicy(attempts=5, first_delay=timedelta(hours=1), longest_delay=timedelta(hours=9), jitter=False)
    async with make_app(module_of("bank"), transport=transport, settings=relay(policy)) as app:
        await app.publish_in_own_transaction(FactV1(what="it"))

        async def attempts(number: int) -> bool:
            row = (await outbox(database_url))["it"]
            return bool(row["attempts"] == number and row["next_attempt_at"] and row["last_error"])

        await eventually(lambda: attempts(1))
        first = (await outbox(database_url))["it"]
        make_due(database_url)
        await eventually(lambda: attempts(2))
        second = (await outbox(database_url))["it"]

        assert second["next_attempt_at"] - first["next_attempt_at"] >= timedelta(hours=1)
        assert "not today" in second["last_error"]
        assert app.counters.total("refused", "bank") == 2

    # A restart goes on where it was.
    async with make_app(module_of("bank"), transport=transport, settings=relay(policy)) as app:
        assert (await outbox(database_url))["it"]["attempts"] == 2
        make_due(database_url)
        await app.drained()
        assert await facts(app, database_url) == ["it"]


async def test_after_the_last_attempt_a_row_is_a_dead_letter_of_the_sending_side(
    make_app: AppFactory, database_url: str
) -> None:
    transport = ScriptedTransport(refusing("it", "it", "it"))
    died: list[tuple[str, str]] = []
    async with make_app(
        module_of("bank"),
        transport=transport,
        settings=relay(RetryPolicy.fixed(3, timedelta(0))),
        on_dead_letter=lambda letter: died.append((letter.subscriber_id, letter.reason)),
    ) as app:
        event = KeyedV1(key="k", what="it")
        await app.publish_in_own_transaction(Outgoing(event, headers={"tenant": "acme"}))
        await eventually(lambda: bool(died))
        await app.publish_in_own_transaction(KeyedV1(key="k", what="next"))
        await app.drained()

        (letter,) = await app.dead_letters.list()
        assert (letter.subscriber_id, letter.event_id, letter.reason) == (SENDING_SIDE, event.event_id, "not sent")
        assert (letter.attempts, letter.error_type) == (3, "mediator.errors.PublishRefusedError")
        assert "not today" in (letter.error or "")
        assert await stored(database_url, "outbox") == []
        assert died == [(SENDING_SIDE, "not sent")]
        assert [what(envelope) for envelope in transport.confirmed] == ["next"]

        assert await app.dead_letters.replay(letter.position) == 1
        await app.drained()
        again = transport.confirmed[-1]
        assert (again.event_id, what(again), again.key) == (event.event_id, "it", "k")
        assert again.headers == {"tenant": "acme"}
        assert again == transport.batches[0][0]
        assert await app.dead_letters.list() == []


async def test_a_row_that_died_twice_is_kept_twice(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport(refusing("it", "it"))
    async with make_app(module_of("bank"), transport=transport, settings=relay(RetryPolicy.never())) as app:
        event = FactV1(what="it")
        await app.publish_in_own_transaction(event, event)
        await app.drained()
        letters = await app.dead_letters.list()
        assert len(letters) == 2

        await app.dead_letters.replay(*(letter.position for letter in letters))
        await app.drained()
        assert [envelope.event_id for envelope in transport.confirmed] == [event.event_id] * 2


class Outage:
    """The broker is away for a number of publications."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.asked_at: list[float] = []

    def __call__(self, _envelope: Envelope) -> Exception | None:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.left:
            self.left -= 1
            return TransportUnavailableError("scripted", "away")
        return None


@pytest.mark.parametrize("while_ramping", [True, False])
async def test_an_outage_burns_no_attempt_and_does_not_spin(
    make_app: AppFactory, database_url: str, while_ramping: bool
) -> None:
    outage = Outage(4)
    transport = ScriptedTransport(outage)
    settings = relay(RetryPolicy.fixed(2, timedelta(0)), poll=timedelta(milliseconds=1))
    with capture_logs() as logs:
        async with make_app(module_of("bank"), transport=transport, settings=settings) as app:
            if not while_ramping:
                await ramped(app, transport)
            await app.publish_in_own_transaction(FactV1(what="it"))
            await app.drained()

            assert await facts(app, database_url) == ["it"]
            assert await app.dead_letters.list() == []
            assert app.counters.total("refused") == 0

    pauses = [entry["pause_seconds"] for entry in logs if entry["event"] == "relay.transport_unavailable"]
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    assert len(transport.batches) == 5
    # However slow the machine is, a pause never ends early.
    gaps = [later - earlier for earlier, later in pairwise(outage.asked_at)]
    assert all(gap >= pause - 0.01 for gap, pause in zip(gaps, pauses, strict=True))


async def test_commits_do_not_cut_the_pause_short(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport(Outage(2))
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await ramped(app, transport)
        for number in range(20):
            await app.publish_in_own_transaction(KeyedV1(key="k", what=str(number)))
        await app.drained()

        assert sorted(await facts(app, database_url), key=int) == [str(number) for number in range(20)]
        assert [what(envelope) for envelope in transport.confirmed] == [str(number) for number in range(20)]


async def test_one_failed_batch_is_one_step_of_the_pause(make_app: AppFactory, database_url: str) -> None:
    outage = Outage(12)
    transport, keys = ScriptedTransport(outage), of_one_slot(12)
    with capture_logs() as logs:
        async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
            await ramped(app, transport)
            await app.publish_in_own_transaction(*(KeyedV1(key=key, what=key) for key in keys))
            await eventually(lambda: outage.left == 0)

    pauses = {entry["pause_seconds"] for entry in logs if entry["event"] == "relay.transport_unavailable"}
    assert pauses == {0.1}


async def test_one_row_at_a_time_finds_out_whether_the_transport_is_back(make_app: AppFactory) -> None:
    outage = Outage(14)
    transport = ScriptedTransport(outage)
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await ramped(app, transport)
        before = len(transport.batches)
        await app.publish_in_own_transaction(*(KeyedV1(key=key, what=key) for key in of_one_slot(12)))
        await app.drained()

        assert [len(batch) for batch in transport.batches[before:]] == [12, 1, 1, 1, 11]
        assert app.counters.total("refused") == 0


async def test_a_transport_that_refuses_is_there(make_app: AppFactory) -> None:
    away = [TransportUnavailableError("scripted", "away")] * 3
    answers: list[Exception] = [*away, PublishRefusedError("scripted", "topic", "too large")]
    transport = ScriptedTransport(lambda _: answers.pop(0) if answers else None)
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await ramped(app, transport)
        before = len(transport.batches)
        await app.publish_in_own_transaction(*(KeyedV1(key=key, what=key) for key in of_one_slot(3)))
        await eventually(lambda: len(transport.confirmed) == 2)

        assert [len(batch) for batch in transport.batches[before:]] == [3, 1, 2]


async def test_a_transport_that_raises_is_an_outage(make_app: AppFactory, database_url: str) -> None:
    failures = [OSError("broken")] * 3

    def answer(_envelope: Envelope) -> None:
        if failures:
            raise failures.pop()

    transport = ScriptedTransport(answer)
    settings = relay(RetryPolicy.fixed(2, timedelta(0)))
    with capture_logs() as logs:
        async with make_app(module_of("bank"), transport=transport, settings=settings) as app:
            await app.publish_in_own_transaction(FactV1(what="it"))
            await app.drained()

            assert await facts(app, database_url) == ["it"]
            assert await app.dead_letters.list() == []

    assert [entry["event"] for entry in logs].count("relay.publish_failed") == 3


async def left_behind(make_app: AppFactory, *events: FactV1 | KeyedV1) -> None:
    """Committed, and not sent when the application stopped."""
    held = ScriptedTransport()
    held.may_answer.clear()
    async with make_app(module_of("bank"), transport=held, settings=relay()) as app:
        await app.publish_in_own_transaction(*events)


async def test_after_a_start_attempts_are_recorded_before_rows_are_handed_over(
    make_app: AppFactory, database_url: str
) -> None:
    await left_behind(make_app, FactV1(what="it"))
    transport = ScriptedTransport()
    transport.may_answer.clear()
    async with make_app(module_of("bank"), transport=transport, settings=relay()):
        await eventually(lambda: bool(transport.batches))
        assert (await outbox(database_url))["it"]["attempts"] == 1

    # The shutdown was no fault of the row.
    assert (await outbox(database_url))["it"]["attempts"] == 0


async def test_a_backlog_is_taken_in_growing_batches(make_app: AppFactory, database_url: str) -> None:
    held = ScriptedTransport()
    held.may_answer.clear()
    (key,) = of_one_slot(1)
    async with make_app(module_of("bank"), transport=held, settings=relay()) as app, app.unit_of_work() as uow:
        uow.publish(*(KeyedV1(key=key, what=str(number)) for number in range(20)))

    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await app.drained()

    assert [len(batch) for batch in transport.batches] == [1, 2, 4, 8, 5]
    assert [what(envelope) for envelope in transport.confirmed] == [str(number) for number in range(20)]


async def test_a_row_that_killed_the_process_each_time_is_found_and_dies_alone(
    make_app: AppFactory, database_url: str
) -> None:
    await left_behind(make_app, FactV1(what="killer"), FactV1(what="harmless"))
    outbox_table = Tables(dialect=make_url(database_url).get_backend_name()).outbox
    killer = (await outbox(database_url))["killer"]["event_id"]
    execute(database_url, update(outbox_table).where(outbox_table.c.event_id == killer).values(attempts=5))

    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await app.drained()
        (letter,) = await app.dead_letters.list()

    assert [what(envelope) for envelope in transport.handed_over] == ["harmless"]
    assert json.loads(letter.body)["what"] == "killer"
    assert "the process died each time" in (letter.error or "")


async def test_a_scheduled_row_waits_until_it_is_due(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await app.publish_in_own_transaction(
            Outgoing(KeyedV1(key="k", what="later"), delay=NEVER), KeyedV1(key="k", what="now")
        )
        await app.drained(scheduled=False)
        assert [what(envelope) for envelope in transport.handed_over] == ["now"]
        (row,) = await stored(database_url, "outbox")
        assert row["slot"] == slot_of("k", NOBODY, scheduled=True)

        execute(database_url, "UPDATE mediator_outbox SET due_at = 1")
        await app.drained()
        assert [what(envelope) for envelope in transport.confirmed] == ["now", "later"]


async def test_a_delay_of_nothing_is_due_at_once(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank"), settings=relay()) as app:
        await app.publish_in_own_transaction(
            Outgoing(FactV1(what="none"), delay=timedelta(0)), Outgoing(FactV1(what="past"), delay=timedelta(-1))
        )

        assert sorted(await facts(app, database_url)) == ["none", "past"]


async def test_a_commit_wakes_the_relay_without_waiting_for_the_poll(make_app: AppFactory, database_url: str) -> None:
    settings = relay(poll=timedelta(minutes=1))
    async with make_app(module_of("bank"), settings=settings) as app:
        for number in range(5):
            await app.publish_in_own_transaction(FactV1(what=str(number)))
            # It gives up long before the next poll.
            await app.drained(timedelta(seconds=20))

        assert await facts(app, database_url) == ["0", "1", "2", "3", "4"]


async def test_the_poll_finds_what_another_process_committed(make_app: AppFactory, database_url: str) -> None:
    held = ScriptedTransport()
    held.may_answer.clear()
    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await app.drained()
        async with make_app(module_of("bank"), transport=held, settings=relay()) as other:
            await other.publish_in_own_transaction(FactV1(what="elsewhere"))
            await eventually(lambda: bool(transport.confirmed))

        # One relay at a time owns the slots.
        assert held.batches == []
        assert await facts(app, database_url) == ["elsewhere"]


async def test_traffic_in_other_slots_does_not_put_the_poll_off(make_app: AppFactory) -> None:
    transport, quiet, busy = ScriptedTransport(refusing("quiet")), *of_different_slots()
    settings = relay(RetryPolicy.fixed(5, SOON))
    async with make_app(module_of("bank"), transport=transport, settings=settings) as app:
        await ramped(app, transport)
        await app.publish_in_own_transaction(KeyedV1(key=quiet, what="quiet"))
        async with asyncio.timeout(20):
            # Never a moment without a commit: only the clock can bring the relay back to the quiet slot.
            while "quiet" not in map(what, transport.confirmed):
                await app.publish_in_own_transaction(KeyedV1(key=busy, what="busy"))

        assert [what(envelope) for envelope in transport.handed_over].count("quiet") == 2


async def test_a_row_whose_refusal_cannot_be_stored_is_handed_over_again(
    make_app: AppFactory, database_url: str
) -> None:
    transport = ScriptedTransport(refusing("a1", "a1"))
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await ramped(app, transport)
        await asyncio.to_thread(refuse, database_url, "UPDATE", "mediator_outbox", "NEW.next_attempt_at IS NOT NULL")
        await app.publish_in_own_transaction(KeyedV1(key="a", what="a1"), KeyedV1(key="a", what="a2"))
        await eventually(lambda: [what(envelope) for envelope in transport.confirmed] == ["a1", "a2"])
        await app.drained()

        assert [what(envelope) for envelope in transport.handed_over].count("a1") == 3
        assert await outbox(database_url) == {}


async def test_the_slots_are_free_when_their_owner_stops(make_app: AppFactory, database_url: str) -> None:
    first, second = ScriptedTransport(), ScriptedTransport()
    async with make_app(module_of("bank"), transport=second, settings=relay()) as waiting:
        async with make_app(module_of("bank"), transport=first, settings=relay()):
            pass
        await waiting.publish_in_own_transaction(FactV1(what="it"))
        await waiting.drained()

    assert len(first.confirmed) + len(second.confirmed) == 1


async def test_history_is_kept_with_its_lineage(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank"), settings=relay()) as app:
        async with app.unit_of_work(correlation_id="request") as uow:
            uow.publish(FactV1(what="it"))
        await app.drained()
        (row,) = await stored(database_url, "sent")

    assert (row["correlation_id"], row["module"], row["attempts"]) == ("request", "bank", row["attempts"])
    assert row["sent_at"] >= row["occurred_on"] - timedelta(seconds=1)
    assert await stored(database_url, "outbox") == []


async def test_without_retention_there_is_no_history(make_app: AppFactory, database_url: str) -> None:
    settings = quick_settings(retention={"sent": timedelta(0)})
    async with make_app(module_of("bank"), settings=settings) as app:
        await app.publish_in_own_transaction(FactV1(what="it"))
        await app.drained()

        assert await stored(database_url, "sent") == []
        assert await stored(database_url, "outbox") == []
        assert app.counters.total("relayed", "bank") == 1


async def test_what_is_in_flight_is_bounded(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport, settings=relay(in_flight=5, batch=3)) as app:
        await ramped(app, transport)
        transport.may_answer.clear()
        async with app.unit_of_work() as uow:
            uow.publish(*(FactV1(what=str(number)) for number in range(50)))
        await eventually(lambda: len(transport.handed_over) == 5)
        transport.may_answer.set()
        await app.drained()

        assert len(transport.confirmed) == 50
        assert max(len(batch) for batch in transport.batches) <= 3


async def test_a_key_is_in_flight_once(make_app: AppFactory, database_url: str) -> None:
    transport = ScriptedTransport()
    async with make_app(module_of("bank"), transport=transport, settings=relay()) as app:
        await ramped(app, transport)
        transport.may_answer.clear()
        await app.publish_in_own_transaction(KeyedV1(key="k", what="1"))
        await eventually(lambda: len(transport.batches) == 1)
        await app.publish_in_own_transaction(KeyedV1(key="k", what="2"), KeyedV1(key="other", what="3"))
        await eventually(lambda: len(transport.handed_over) == 2)

        assert [what(envelope) for envelope in transport.handed_over] == ["1", "3"]
        transport.may_answer.set()
        await app.drained()
        assert [what(envelope) for envelope in transport.confirmed if envelope.key == "k"] == ["1", "2"]


async def test_what_was_confirmed_before_the_stop_is_not_sent_again(make_app: AppFactory, database_url: str) -> None:
    first, second = ScriptedTransport(), ScriptedTransport()
    async with make_app(module_of("bank"), transport=first, settings=relay()) as app:
        async with app.unit_of_work() as uow:
            uow.publish(*(FactV1(what=str(number)) for number in range(30)))
        await eventually(lambda: len(first.confirmed) >= 3)
    async with make_app(module_of("bank"), transport=second, settings=relay()) as app:
        await app.drained()

    sent = [what(envelope) for envelope in (*first.confirmed, *second.confirmed)]
    assert sorted(sent, key=int) == [str(number) for number in range(30)]
