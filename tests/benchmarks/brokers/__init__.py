"""What the transports cost, on each broker: next to its bare client, and next to FastStream as the peer."""

from tests.benchmarks.brokers.comparing import run

__all__ = ["run"]
