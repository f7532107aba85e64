"""What a domain model imports: domain events and the aggregates that record them. Standard library only."""

from mediator.domain.aggregates import AggregateRoot
from mediator.domain.events import DomainEvent

__all__ = ["AggregateRoot", "DomainEvent"]
