"""Where inventory keeps what it knows."""

from sample_app.inventory.infrastructure.repositories import SqlStock

__all__ = ["SqlStock"]
