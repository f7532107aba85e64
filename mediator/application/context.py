"""What a handler may know of the message it works on: identity, lineage, headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import UUID

__all__ = ["MessageContext"]


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
