"""G13: same event id with another payload: neither applied nor dropped, but quarantined."""

from datetime import timedelta
from typing import Annotated

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic
from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from tests.promises.arrivals import arrive, envelope_of
from tests.support import AppFactory, Effect, effects, module_of

pytestmark = pytest.mark.every_database


@event_topic("invoices", domain="billing")
class InvoicedV1(IntegrationEvent):
    customer: Annotated[str, PartitionKey()] = "ada"
    amount: int = 0


class Charge(IntegrationEventHandler[InvoicedV1]):
    retry = RetryPolicy.fixed(3, timedelta(0))
    failures = 0

    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        self._session, self._context = session, context

    async def handle(self, event: InvoicedV1) -> None:
        self._session.add(Effect(what="charged", detail=f"{event.amount}"))
        await self._session.flush()
        if self._context.attempt <= self.failures:
            raise RuntimeError("not yet")


class ChargeInOrder(Charge):
    ordering = "key"


class ChargeAtLast(Charge):
    failures = 2


class ChargeInOrderAtLast(Charge):
    ordering = "key"
    failures = 2


HANDLERS = [Charge, ChargeInOrder, ChargeAtLast, ChargeInOrderAtLast]


@pytest.mark.parametrize("handler", HANDLERS)
async def test_the_first_is_applied_and_the_other_is_kept(handler: type[Charge], make_app: AppFactory) -> None:
    first = InvoicedV1(amount=1)
    other = first.model_copy(update={"amount": 1_000_000})

    async with make_app(module_of("billing", handler)) as app:
        await arrive(app, envelope_of(first))
        await app.drained()
        # Delivered again and again, as brokers do: it is kept once.
        for _ in range(3):
            await arrive(app, envelope_of(other))
        await app.drained()

        assert await effects(app) == [("charged", "1")]
        (letter,) = await app.dead_letters.list()
        assert letter.body == other.model_dump_json().encode()
        assert letter.reason == "identity conflict"
        assert letter.error_type == "mediator.errors.IdentityConflictError"
        assert letter.headers["ce-id"] == str(first.event_id)


@pytest.mark.parametrize("handler", HANDLERS)
async def test_both_arrive_at_once(handler: type[Charge], make_app: AppFactory) -> None:
    first = InvoicedV1(amount=1)
    other = first.model_copy(update={"amount": 2})

    async with make_app(module_of("billing", handler)) as app:
        await arrive(app, *[envelope_of(first), envelope_of(other)] * 4)
        await app.drained()

        ((_, applied),) = await effects(app)
        (letter,) = await app.dead_letters.list()
        kept = InvoicedV1.model_validate_json(letter.body)
        assert sorted([int(applied), kept.amount]) == [1, 2]


@pytest.mark.parametrize("handler", [Charge, ChargeInOrder])
async def test_the_other_arrives_while_the_first_is_parked(handler: type[Charge], make_app: AppFactory) -> None:
    first, later = InvoicedV1(amount=1), InvoicedV1(amount=3)
    other = first.model_copy(update={"amount": 2})

    async with make_app(module_of("billing", handler)) as app:
        (subscriber,) = app.registry.subscribers
        app.pause(subscriber.id)
        await arrive(app, envelope_of(first))
        await arrive(app, envelope_of(other))
        (letter,) = await app.dead_letters.list()
        assert letter.body == other.model_dump_json().encode()

        app.resume(subscriber.id)
        await arrive(app, envelope_of(later))
        await app.drained()

        # What is right does not wait behind what is wrong, though both have one key.
        assert sorted(await effects(app)) == [("charged", "1"), ("charged", "3")]


async def test_the_other_arrives_when_the_first_is_dead(make_app: AppFactory) -> None:
    class Refuse(Charge):
        failures = 100
        retry = RetryPolicy.never()

    first = InvoicedV1(amount=1)
    other = first.model_copy(update={"amount": 2})

    async with make_app(module_of("billing", Refuse)) as app:
        await arrive(app, envelope_of(first))
        await arrive(app, envelope_of(other))

        letters = await app.dead_letters.list()
        assert [letter.reason for letter in letters] == ["failed", "identity conflict"]
        assert len({letter.event_id for letter in letters}) == 2


async def test_another_type_under_the_same_id_is_a_conflict(make_app: AppFactory) -> None:
    @event_topic("invoices", domain="billing", version="v2")
    class InvoicedV2(IntegrationEvent):
        customer: str = "ada"
        amount: int = 0

    class ChargeBoth(IntegrationEventHandler[InvoicedV1 | InvoicedV2]):
        def __init__(self, session: AsyncSession) -> None:
            self._session = session

        async def handle(self, event: InvoicedV1 | InvoicedV2) -> None:
            self._session.add(Effect(what=type(event).__name__))

    first = InvoicedV1(amount=1)
    other = InvoicedV2(event_id=first.event_id, occurred_on=first.occurred_on, amount=1)

    async with make_app(module_of("billing", ChargeBoth)) as app:
        await arrive(app, envelope_of(first))
        await arrive(app, envelope_of(other))

        assert await effects(app) == [("InvoicedV1", "")]
        assert [letter.reason for letter in await app.dead_letters.list()] == ["identity conflict"]


async def test_the_conflict_is_known_after_a_restart(make_app: AppFactory) -> None:
    modules, first = module_of("billing", Charge), InvoicedV1(amount=1)
    other = first.model_copy(update={"amount": 2})
    for event in (first, other, other):
        async with make_app(modules) as app:
            await arrive(app, envelope_of(event))

            assert await effects(app) == [("charged", "1")]

    async with make_app(modules) as app:
        assert len(await app.dead_letters.list()) == 1
