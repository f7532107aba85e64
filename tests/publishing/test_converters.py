"""Converters: found by themselves, in the unit of work of what they convert; none, one or many events come out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import Session, select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import DomainEvent, IntegrationEventConverter, MediatorApp, MessageContext, Outgoing
from mediator.application.converters import publishables
from mediator.errors import EventRefusedError
from tests.publishing.bank import FactV1, Happened, KeyedV1, Special, facts, published
from tests.storage.rows import stored
from tests.support import Account, AppFactory, module_of


async def happen(app: MediatorApp, *events: DomainEvent) -> None:
    async with app.unit_of_work() as uow:
        account = Account(owner="Ada")
        for event in events or (Happened("it"),):
            account.record_event(event)
        uow.session.add(account)


class ToNone(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> None:
        return None


class ToOne(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> FactV1:
        return FactV1(what=event.what)


class LaterToOne(IntegrationEventConverter[Happened, FactV1]):
    async def convert(self, event: Happened) -> FactV1:
        return FactV1(what=event.what)


class LaterToNone(IntegrationEventConverter[Happened, FactV1]):
    async def convert(self, event: Happened) -> None:
        return None


class ToMany(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> list[FactV1 | Outgoing[FactV1]]:
        return [FactV1(what=f"{event.what} 1"), Outgoing(FactV1(what=f"{event.what} 2"))]


class LaterToMany(IntegrationEventConverter[Happened, FactV1]):
    async def convert(self, event: Happened) -> tuple[FactV1, ...]:
        return FactV1(what=f"{event.what} 1"), FactV1(what=f"{event.what} 2")


class Generating(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Iterator[FactV1]:
        yield FactV1(what=f"{event.what} 1")
        yield FactV1(what=f"{event.what} 2")


class ToNothing(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> list[FactV1]:
        return []


class Wrapping(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Outgoing[FactV1]:
        return Outgoing(FactV1(what=event.what))


@pytest.mark.parametrize(
    ("converter", "expected"),
    [
        (ToNone, []),
        (LaterToNone, []),
        (ToNothing, []),
        (ToOne, ["it"]),
        (LaterToOne, ["it"]),
        (Wrapping, ["it"]),
        (ToMany, ["it 1", "it 2"]),
        (LaterToMany, ["it 1", "it 2"]),
        (Generating, ["it 1", "it 2"]),
    ],
)
async def test_what_a_converter_returns_is_published(
    make_app: AppFactory, database_url: str, converter: type[Any], expected: list[str]
) -> None:
    async with make_app(module_of("bank", converter)) as app:
        await happen(app)

        assert await facts(app, database_url) == expected


async def test_several_converters_of_one_event_run_in_their_order(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", ToMany, ToOne), module_of("mail", Generating)) as app:
        await happen(app)

        assert await facts(app, database_url) == ["it 1", "it 2", "it", "it 1", "it 2"]


async def test_a_converter_of_a_base_class_converts_what_derives_from_it(
    make_app: AppFactory, database_url: str
) -> None:
    class Anything(IntegrationEventConverter[DomainEvent, FactV1]):
        def convert(self, event: DomainEvent) -> FactV1:
            return FactV1(what=f"any {type(event).__name__}")

    class OnlySpecial(IntegrationEventConverter[Special, FactV1]):
        def convert(self, event: Special) -> FactV1:
            return FactV1(what="special")

    async with make_app(module_of("bank", ToOne, Anything, OnlySpecial)) as app:
        await happen(app, Special("it"), Happened("other"))

        assert await facts(app, database_url) == ["it", "any Special", "special", "other", "any Happened"]


async def test_an_event_without_a_converter_never_leaves_its_module(make_app: AppFactory, database_url: str) -> None:
    @dataclass(frozen=True)
    class Secret(DomainEvent):
        pass

    async with make_app(module_of("bank", ToOne, Secret)) as app:
        await happen(app, Secret())

        assert await facts(app, database_url) == []
        assert "Secret" in app.describe()


class Raising(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> FactV1:
        raise ValueError("cannot convert")


class RaisingLater(IntegrationEventConverter[Happened, FactV1]):
    async def convert(self, event: Happened) -> FactV1:
        raise ValueError("cannot convert")


class RaisingHalfWay(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Iterator[FactV1]:
        yield FactV1(what="first")
        raise ValueError("cannot convert")


@pytest.mark.parametrize("converter", [Raising, RaisingLater, RaisingHalfWay])
async def test_a_converter_that_raises_rolls_everything_back(
    make_app: AppFactory, database_url: str, converter: type[Any]
) -> None:
    async with make_app(module_of("bank", ToOne, converter)) as app:
        with pytest.raises(ValueError, match="cannot convert"):
            await happen(app)

        assert await facts(app, database_url) == []
        async with app.unit_of_work() as uow:
            assert (await uow.session.exec(select(Account))).all() == []


class ReturningText(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Any:
        return "a text"


class ReturningTheDomainEvent(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Any:
        return [event]


class ReturningADict(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Any:
        return {"what": "it"}


@pytest.mark.parametrize("converter", [ReturningText, ReturningTheDomainEvent, ReturningADict])
async def test_a_converter_that_returns_something_else_is_refused(
    make_app: AppFactory, database_url: str, converter: type[Any]
) -> None:
    async with make_app(module_of("bank", converter)) as app:
        with pytest.raises(EventRefusedError, match=converter.__name__):
            await happen(app)

        assert await facts(app, database_url) == []


class ReturningAnotherContract(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Any:
        return KeyedV1(key="a", what=event.what)


class ReturningAnotherContractWithHeaders(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Any:
        return [FactV1(what="right"), Outgoing(KeyedV1(key="a"), headers={"tenant": "x"})]


@pytest.mark.parametrize("converter", [ReturningAnotherContract, ReturningAnotherContractWithHeaders])
async def test_a_converter_that_returns_another_contract_than_it_declares_rolls_everything_back(
    make_app: AppFactory, database_url: str, converter: type[Any]
) -> None:
    async with make_app(module_of("bank", converter)) as app:
        with pytest.raises(EventRefusedError, match=f"KeyedV1.*{converter.__name__} declares FactV1"):
            await happen(app)

        assert await published(app, database_url) == []
        async with app.unit_of_work() as uow:
            assert (await uow.session.exec(select(Account))).all() == []


async def test_a_converter_has_its_dependencies_and_the_unit_of_work(make_app: AppFactory, database_url: str) -> None:
    class Prices:
        def of(self, what: str) -> int:
            return len(what)

    class Rich(IntegrationEventConverter[Happened, FactV1]):
        def __init__(self, session: AsyncSession, prices: Prices, context: MessageContext) -> None:
            self.session, self.prices, self.context = session, prices, context

        async def convert(self, event: Happened) -> FactV1:
            (owner,) = (await self.session.exec(select(Account.owner))).all()
            return FactV1(what=f"{owner} {self.prices.of(event.what)} {self.context.module}")

    async with make_app(module_of("bank", Rich)) as app:
        await happen(app)

        assert await facts(app, database_url) == ["Ada 2 bank"]


async def test_a_plain_converter_works_with_a_plain_session(make_app: AppFactory, database_url: str) -> None:
    class Synchronous(IntegrationEventConverter[Happened, FactV1]):
        def __init__(self, session: Session) -> None:
            self.session = session

        def convert(self, event: Happened) -> FactV1:
            (owner,) = self.session.exec(select(Account.owner)).all()
            return FactV1(what=owner)

    async with make_app(module_of("bank", Synchronous)) as app:
        await happen(app)

        assert await facts(app, database_url) == ["Ada"]


async def test_a_plain_converter_may_generate_with_a_plain_session(make_app: AppFactory, database_url: str) -> None:
    class Synchronous(IntegrationEventConverter[Happened, FactV1]):
        def __init__(self, session: Session) -> None:
            self.session = session

        def convert(self, event: Happened) -> Iterator[FactV1]:
            for owner in self.session.exec(select(Account.owner)).all():
                yield FactV1(what=owner)

    async with make_app(module_of("bank", Synchronous)) as app:
        await happen(app)

        assert await facts(app, database_url) == ["Ada"]


async def test_events_that_a_converter_records_are_dispatched_too(make_app: AppFactory, database_url: str) -> None:
    class Recording(IntegrationEventConverter[Special, FactV1]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        def convert(self, event: Special) -> None:
            account = Account(owner="Bob")
            account.record_event(Happened("recorded by a converter"))
            self.session.add(account)

    async with make_app(module_of("bank", Recording, ToOne)) as app:
        await happen(app, Special("it"))

        assert await facts(app, database_url) == ["it", "recorded by a converter"]


async def test_headers_key_and_topic_are_those_that_the_converter_says(make_app: AppFactory, database_url: str) -> None:
    class Addressed(IntegrationEventConverter[Happened, KeyedV1]):
        def convert(self, event: Happened) -> list[KeyedV1 | Outgoing[KeyedV1]]:
            return [
                Outgoing(KeyedV1(key="a"), headers={"tenant": "Zoë"}, key="b", topic="elsewhere.v1"),
                KeyedV1(key="a"),
            ]

    async with make_app(module_of("bank", Addressed)) as app:
        await happen(app)
        addressed, plain = await published(app, database_url)

    assert (addressed["partition_key"], addressed["topic"]) == ("b", "elsewhere.v1")
    assert addressed["headers"] == '{"tenant": "Zo\\u00eb"}'
    assert (plain["partition_key"], plain["topic"], plain["headers"]) == ("a", "test.bank.public.keyed-facts.v1", "{}")
    assert (plain["type"], plain["version"]) == (addressed["type"], addressed["version"]) == ("bank.keyed", "v1")


async def test_a_delayed_event_waits_for_its_time(make_app: AppFactory, database_url: str) -> None:
    class Delayed(IntegrationEventConverter[Happened, FactV1]):
        def convert(self, event: Happened) -> Outgoing[FactV1]:
            return Outgoing(FactV1(what=event.what), delay=timedelta(hours=1))

    async with make_app(module_of("bank", Delayed)) as app:
        await happen(app)
        await app.drained(scheduled=False)
        (row,) = await stored(database_url, "outbox")

        assert await stored(database_url, "sent") == []
        assert timedelta(minutes=59) < row["due_at"] - row["occurred_on"] < timedelta(minutes=61)


async def test_where_an_event_came_from_is_kept_with_it(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", ToOne)) as app:
        async with app.unit_of_work(correlation_id="request-1") as uow:
            account = Account()
            account.record_event(Special("it"))
            uow.session.add(account)
            identity = uow.context.message_id
        (row,) = await published(app, database_url)

    assert {name: row[name] for name in ("module", "cause", "converter", "domain_event_type", "aggregate_type")} == {
        "module": "bank",
        "cause": "unit of work",
        "converter": "ToOne",
        "domain_event_type": "Special",
        "aggregate_type": "Account",
    }
    assert row["aggregate_id"] == str(account.id)
    assert (row["correlation_id"], row["causation_id"]) == ("request-1", str(identity))
    assert row["source"] == "/shop/bank"
    assert await effects_of_nothing(database_url) == []


async def effects_of_nothing(url: str) -> list[Any]:
    return await stored(url, "inbox")


@pytest.mark.parametrize("wrong", ["text", b"bytes", 1, object(), {"a": 1}, [1], [[FactV1(what="nested")], "x"]])
def test_nothing_but_events_can_be_published(wrong: Any) -> None:
    with pytest.raises(EventRefusedError, match=r"Somebody cannot be published: it returned \w+"):
        publishables(wrong, "Somebody")


def test_several_may_be_nested() -> None:
    one, two, three = FactV1(what="1"), Outgoing(FactV1(what="2")), FactV1(what="3")

    assert publishables([one, (two, None), iter([three])], "Somebody") == [one, two, three]
    assert publishables(None, "Somebody") == []
