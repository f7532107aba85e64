"""nats:// and tls://: NATS JetStream carries the events."""

from mediator.transports.nats.transport import NatsTransport

__all__ = ["NatsTransport"]
