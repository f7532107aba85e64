"""What the transport over RabbitMQ is made of; `mediator/transports/rabbitmq.py` puts it together."""
