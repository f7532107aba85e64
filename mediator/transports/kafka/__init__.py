"""kafka:// and kafkas://: Kafka carries the events."""

from mediator.transports.kafka.transport import KafkaTransport

__all__ = ["KafkaTransport"]
