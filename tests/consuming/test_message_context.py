from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from contracts import partition_key_of
from mediator import IntegrationEventHandler, MessageContext, Outgoing
from mediator.errors import EventRefusedError
from mediator.messaging.lineage import current_lineage
from tests.consuming.notes import NotedV1, RemarkedV1, at_once, listener, rows
from tests.support import AppFactory, module_of


async def test_a_handler_knows_all_that_is_known_of_its_message(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []
    event = NotedV1(account="42", correlation_id="request-7", occurred_on=datetime(2026, 1, 31, tzinfo=UTC))

    async with make_app(
        module_of("mail", listener("Send", lambda handler, _: contexts.append(handler.context)))
    ) as app:
        async with app.unit_of_work(correlation_id="ignored") as uow:
            uow.publish(Outgoing(event, headers={"tenant": "nörd", "x": "%41"}))
            published_by = uow.lineage.message_id
        await app.drained()

    (context,) = contexts
    assert context == MessageContext(
        message_id=event.event_id,
        message_type="bank.noted",
        correlation_id="request-7",
        causation_id=str(published_by),
        module="mail",
        subscriber_id="mail.send",
        topic="test.bank.public.notes.v1",
        partition_key=partition_key_of(event),
        attempt=1,
        headers={"tenant": "nörd", "x": "%41"},
    )


async def test_a_retry_knows_the_same_and_its_number(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []

    def react(handler: object, _event: NotedV1) -> None:
        contexts.append(handler.context)  # type: ignore[attr-defined]
        if len(contexts) < 3:
            raise LookupError("not yet")

    async with make_app(module_of("mail", listener("Send", react, retry=at_once(3)))) as app:
        await app.publish_in_own_transaction(Outgoing(NotedV1(account="42"), headers={"tenant": "nörd"}))
        await app.drained()

    assert [context.attempt for context in contexts] == [1, 2, 3]
    first, *others = ({**vars(context), "attempt": None} for context in contexts)
    assert all(other == first for other in others)


async def test_the_correlation_begins_where_none_was_given(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []

    async with make_app(
        module_of("mail", listener("Send", lambda handler, _: contexts.append(handler.context)))
    ) as app:
        async with app.unit_of_work() as uow:
            uow.publish(NotedV1())
            correlation_id = uow.lineage.correlation_id
        await app.drained()

    assert [context.correlation_id for context in contexts] == [correlation_id]


async def test_the_lineage_is_bound_to_the_log_while_the_handler_runs(make_app: AppFactory) -> None:
    bound: list[dict[str, object]] = []
    event = NotedV1(correlation_id="request-7")

    async with make_app(
        module_of("mail", listener("Send", lambda *_: bound.append(dict(structlog.contextvars.get_contextvars()))))
    ) as app:
        await app.publish_in_own_transaction(event)
        await app.drained()

    assert bound == [{"correlation_id": "request-7", "causation_id": str(event.event_id)}]
    assert structlog.contextvars.get_contextvars() == {}
    assert current_lineage() is None


async def test_a_converted_event_has_no_key_when_its_contract_has_none(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []

    class Listen(IntegrationEventHandler[RemarkedV1]):
        def __init__(self, context: MessageContext) -> None:
            contexts.append(context)

        async def handle(self, event: RemarkedV1) -> None: ...

    async with make_app(module_of("mail", Listen)) as app:
        await app.publish_in_own_transaction(RemarkedV1())
        await app.drained()

    assert [context.partition_key for context in contexts] == [None]


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_traceparent_travels_with_everything_that_it_set_off(make_app: AppFactory) -> None:
    contexts: list[MessageContext] = []

    def notes(handler: Any, _event: object) -> RemarkedV1:
        contexts.append(handler.context)
        return RemarkedV1(text="so")

    mail = module_of(
        "mail",
        listener("Send", notes),
        listener("Told", lambda handler, _: contexts.append(handler.context), RemarkedV1),
    )
    async with make_app(mail) as app:
        async with app.unit_of_work(traceparent=TRACEPARENT) as uow:
            uow.publish(NotedV1())
        await app.drained()

        assert [(context.subscriber_id, context.traceparent) for context in contexts] == [
            ("mail.send", TRACEPARENT),
            ("mail.told", TRACEPARENT),
        ]
        assert [row.traceparent for row in await rows(app, "sent")] == [TRACEPARENT] * 2


@pytest.mark.parametrize(
    "wrong", ["", "x", TRACEPARENT.upper(), f"{TRACEPARENT}-00", f"{TRACEPARENT}\n", TRACEPARENT[3:]]
)
async def test_a_traceparent_that_is_none_is_refused(make_app: AppFactory, wrong: str) -> None:
    async with make_app(module_of("mail")) as app:
        with pytest.raises(EventRefusedError, match="traceparent"):
            async with app.unit_of_work(traceparent=wrong):
                pass
