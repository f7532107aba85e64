"""amqp:// and amqps://: RabbitMQ carries the events."""

from mediator.transports.rabbitmq.transport import RabbitMQTransport

__all__ = ["RabbitMQTransport"]
