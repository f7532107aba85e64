"""When the database does not take what went wrong: nothing is lost, nothing overtakes, the rest goes on."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import model_validator
from sqlalchemy import Executable, create_engine, text, update

from contracts import IntegrationEvent, event_topic
from mediator import RetryPolicy
from tests.consuming.notes import NotedV1, at_once, eventually, listener, rows, writes
from tests.support import AppFactory, effects, module_of
from tests.support.databases import execute
from tests.support.refusals import refuse, refuse_nothing

NEVER = timedelta(hours=1)


# All of it in a thread, because the application in this loop may hold the lock just then.


async def refuse_parking(url: str, status: str) -> None:
    """From now on the database takes no parked row with this status."""
    await asyncio.to_thread(refuse, url, "INSERT", "mediator_parked", f"NEW.status = '{status}'")


async def take_everything(url: str) -> None:
    await asyncio.to_thread(refuse_nothing, url)


async def change(url: str, statement: Executable) -> None:
    await asyncio.to_thread(execute, url, statement)


async def test_a_message_that_cannot_be_buried_does_not_take_its_batch_along(
    make_app: AppFactory, database_url: str
) -> None:
    async with make_app(module_of("mail", listener("Send", writes))) as app:
        relay = app._started("the test").services[0].relay
        # Until the relay has found out that the start was harmless, it hands over one row at a time.
        await eventually(lambda: relay._ramp.is_over)
        await refuse_parking(database_url, "dead")
        async with app.unit_of_work() as uow:
            uow.publish(*(NotedV1(account=str(number), text=str(number)) for number in range(10)))
            uow._rows[0]["type"] = "bank.unheard-of"
        await eventually(lambda: app.counters.total("handled", "mail.send") == 9)

        assert await rows(app, "parked") == []
        await take_everything(database_url)
        await app.drained()
        (letter,) = await app.dead_letters.list()
        assert letter.reason == "unreadable: unknown type"
        assert sorted(await effects(app)) == [("Send", str(number)) for number in range(1, 10)]


async def test_later_events_do_not_overtake_one_whose_failure_cannot_be_stored(
    make_app: AppFactory, database_url: str
) -> None:
    broken, calls = True, list[str]()

    def react(handler: object, event: NotedV1) -> None:
        calls.append(event.text)
        if event.text == "1" and broken:
            raise LookupError("not yet")
        writes(handler, event)

    async with make_app(module_of("bank", listener("Book", react, ordering="key", retry=at_once(5)))) as app:
        await refuse_parking(database_url, "retry")
        async with app.unit_of_work() as uow:
            uow.publish(*(NotedV1(text=text) for text in "123"))
        await eventually(lambda: len(calls) >= 3)
        assert set(calls) == {"1"}

        broken = False
        await take_everything(database_url)
        await app.drained()
        assert [detail for _, detail in await effects(app)] == ["1", "2", "3"]


@event_topic("bills", domain="bank")
class BillV1(IntegrationEvent):
    """A contract whose newest validator does not expect what was published before it."""

    text: str = ""

    @model_validator(mode="before")
    @classmethod
    def with_amount(cls, data: Any) -> Any:
        if data.get("text") == "old":
            data["amount"]
        return data


async def test_what_a_contract_chokes_on_is_unreadable_and_the_rest_of_its_batch_goes_on(make_app: AppFactory) -> None:
    async with make_app(module_of("mail", listener("Send", writes, BillV1))) as app:
        async with app.unit_of_work() as uow:
            uow.publish(*(BillV1(text=str(number)) for number in range(4)))
            uow._rows[0]["body"] = uow._rows[0]["body"].replace(b'"0"', b'"old"')
        await app.drained()

        assert sorted(await effects(app)) == [("Send", "1"), ("Send", "2"), ("Send", "3")]
        (letter,) = await app.dead_letters.list()
        assert "KeyError" in str(letter.error)


async def test_what_a_contract_chokes_on_does_not_stop_the_retries_of_others(
    make_app: AppFactory, database_url: str
) -> None:
    broken = True

    def react(handler: object, event: BillV1) -> None:
        if broken:
            raise LookupError("not yet")
        writes(handler, event)

    later = listener("Send", react, BillV1, retry=RetryPolicy.fixed(5, NEVER))
    async with make_app(module_of("mail", later)) as app:
        await app.publish_in_own_transaction(*(BillV1(text=str(number)) for number in range(4)))
        await eventually(lambda: app.counters.total("parked", "mail.send") == 4)
        broken = False
        parked = app._started("the test").services[0].database.tables.parked
        for row in await rows(app, "parked"):
            grown_old = {"body": row.body.replace(b'"0"', b'"old"'), "next_attempt_at": 1}
            await change(database_url, update(parked).where(parked.c.position == row.position).values(grown_old))
        await app.drained()

        assert sorted(await effects(app)) == [("Send", str(number)) for number in range(1, 4)]
        (letter,) = await app.dead_letters.list()
        assert "KeyError" in str(letter.error)


async def test_a_locked_database_of_the_handlers_own_is_its_failure(make_app: AppFactory, tmp_path: Path) -> None:
    own = create_engine(f"sqlite:///{tmp_path / 'own.db'}", connect_args={"timeout": 0})
    calls: list[int] = []

    def react(handler: Any, _event: NotedV1) -> None:
        calls.append(handler.context.attempt)
        with own.connect() as connection:
            connection.execute(text("CREATE TABLE refused (id INTEGER)"))

    with own.connect() as holder:
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        async with make_app(module_of("mail", listener("Send", react, retry=at_once(2)))) as app:
            await app.publish_in_own_transaction(NotedV1())
            await app.drained()
            (letter,) = await app.dead_letters.list()
    own.dispose()

    assert calls == [1, 2]
    assert "database is locked" in str(letter.error)


async def test_an_error_outside_of_the_exceptions_is_a_failure_like_any_other(make_app: AppFactory) -> None:
    class OutsideError(BaseException):
        """As pytest.fail() raises one."""

    calls: list[str] = []

    def react(handler: object, event: NotedV1) -> None:
        calls.append(event.text)
        if len(calls) == 1:
            raise OutsideError("out")
        writes(handler, event)

    async with make_app(module_of("mail", listener("Send", react, concurrency=1, retry=at_once(3)))) as app:
        await app.publish_in_own_transaction(*(NotedV1(account=text, text=text) for text in "123"))
        await app.drained(timedelta(seconds=20))

        assert sorted(detail for _, detail in await effects(app)) == ["1", "2", "3"]
        assert len(calls) == 4
