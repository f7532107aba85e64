"""Where ordering keeps what it knows."""

from sample_app.ordering.infrastructure.repositories import SqlCustomers, SqlOffers, SqlOrders

__all__ = ["SqlCustomers", "SqlOffers", "SqlOrders"]
