"""What a handler may know of the message it works on: identity, lineage, headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from mediator.application.converters import Outgoing, Publishable, outgoing_of

__all__ = ["MessageContext", "Response"]


@dataclass
class Response:
    """How the events that a handler returns are published; it may change both before it returns them."""

    topic: str | None = None
    """The full address that the sender named as callback. None: each goes to its own topic."""
    headers: dict[str, str] = field(default_factory=dict)
    """Added to the headers of each."""

    def addressed(self, publishable: Publishable) -> Outgoing[Any]:
        """What a handler returned, on its way; what is said about this one event counts before this."""
        outgoing = outgoing_of(publishable)
        return replace(outgoing, topic=outgoing.topic or self.topic, headers={**self.headers, **outgoing.headers})


@dataclass(frozen=True)
class MessageContext:
    """Injected like any dependency; for a command, what is known of the command."""

    message_id: UUID
    """The event's id, or the id given to the command. Use it as idempotency key for calls outside the database."""
    message_type: str
    correlation_id: str
    causation_id: str | None = None
    module: str = ""
    subscriber_id: str | None = None
    """None in a command or query."""
    topic: str | None = None
    partition_key: str | None = None
    attempt: int = 1
    traceparent: str | None = None
    """W3C trace context of the publisher or caller."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The publisher's own headers."""
    response: Response = field(default_factory=Response)
    """Where the returned events go, and with which headers."""
    skipped: tuple[UUID, ...] = ()
    """With `when_dead = "skip"`: the earlier events of this key that are dead, or are being replayed just now; at most
    twenty, the oldest first.
    """
