"""What happened, in numbers: counters that the rest of the toolkit increments."""

from mediator.observability.counters import Counters

__all__ = ["Counters"]
