"""One attempt, whoever makes it: what a handler is told, how it is called, and whose failure an error is."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

import structlog

from mediator.application import HandlingMiddleware, MessageContext, Response
from mediator.application.converters import publishables
from mediator.clock import Runtime
from mediator.consuming.subscriber import Subscriber
from mediator.errors import DeliveryError
from mediator.messaging.catalog import Received
from mediator.messaging.handling import HandlingUnitOfWork
from mediator.messaging.lineage import Lineage

__all__ = ["handle", "inside_middleware", "known_of", "publish_answers", "requested", "turn_to"]

log = structlog.get_logger(__name__)
_Proceed: TypeAlias = Callable[[Any], Awaitable[None]]


def known_of(
    subscriber: Subscriber, received: Received, attempt: int, skipped: Sequence[UUID] = ()
) -> tuple[MessageContext, Lineage]:
    """What a unit of work that handles the event knows of it; `skipped` are the dead ones of its key."""
    envelope = received.envelope
    context = MessageContext(
        message_id=envelope.event_id,
        message_type=envelope.type,
        correlation_id=envelope.correlation_id or str(envelope.event_id),
        causation_id=envelope.causation_id,
        module=subscriber.entry.module,
        subscriber_id=subscriber.id,
        topic=envelope.topic,
        partition_key=envelope.key,
        attempt=attempt,
        skipped=tuple(skipped),
        traceparent=envelope.traceparent,
        headers=envelope.headers,
        response=Response(envelope.callback),
    )
    return context, Lineage(
        context.correlation_id, envelope.event_id, subscriber.id, envelope.causation_id, envelope.traceparent
    )


def turn_to(
    uow: HandlingUnitOfWork, subscriber: Subscriber, received: Received, attempt: int, skipped: Sequence[UUID]
) -> None:
    """Handle the event from now on; what of its key is skipped is told to the handler and the log."""
    uow.turn_to(*known_of(subscriber, received, attempt, skipped))
    if skipped:
        dead = [str(one) for one in skipped]
        log.info("key.went_on", subscriber=subscriber.id, event_id=str(uow.context.message_id), skipped=dead)


async def handle(
    subscriber: Subscriber, received: Received, uow: HandlingUnitOfWork, runtime: Runtime, *, flush: bool = True
) -> None:
    """Build the handler and call it with the event, inside its middleware; what it returns is published.

    Without `flush` what it changed is sent to the database only if domain events were recorded.
    """

    async def call(event: Any) -> None:
        message = [event] if subscriber.entry.takes_batches else event
        result = await subscriber.invoke(subscriber.build(uow), message, uow)
        runtime.reached("handler.midway")
        publish_answers(subscriber, result, uow)
        if flush or uow.has_recorded:
            await uow.dispatch_events()

    await inside_middleware(subscriber, received, uow, call)


def publish_answers(subscriber: Subscriber, result: Any, uow: HandlingUnitOfWork) -> None:
    """Publish what a handler returned, where the sender of the event or the handler wants it."""
    returned = publishables(result, subscriber.id)
    if not subscriber.entry.takes_batches:
        returned = [uow.context.response.addressed(one) for one in returned]
    uow.publish(*returned)


async def inside_middleware(
    subscriber: Subscriber, received: Received, uow: HandlingUnitOfWork, call: _Proceed
) -> None:
    """`call` with the event as the handler wants it, inside its middleware."""
    wanted = subscriber.wanted_class(received)
    if wanted is None:
        raise DeliveryError(f"{subscriber.id} does not listen to {received.envelope.type} any more")

    async def checked(event: Any) -> None:
        if not isinstance(event, wanted):
            raise DeliveryError(f"{subscriber.id} handles {wanted.__name__}; a middleware gave it {event!r:.100}")
        await call(event)

    proceed: _Proceed = checked
    for build in reversed(subscriber.middleware):
        proceed = _around(build(uow), uow.context, proceed)
    await proceed(received.as_class(wanted))


def _around(middleware: HandlingMiddleware, context: MessageContext, proceed: _Proceed) -> _Proceed:
    return lambda event: middleware.handle(event, context, proceed)


def requested(error: BaseException, is_stopping: Callable[[], bool]) -> bool:
    """Whether somebody ends the deliveries or the process; any other cancellation is the handler's failure.

    When stopping, whatever the error is: cleaning up fails when the connection is lost, and takes the place of the
    cancellation.
    """
    return is_stopping() or isinstance(error, (KeyboardInterrupt, SystemExit))
