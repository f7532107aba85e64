"""From the aggregate to the transport: mediator, unit of work, outbox, relay."""
