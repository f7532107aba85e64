"""sql://: the database carries the events, for as many processes as like, without a broker."""

from mediator.transports.sql.transport import SqlTransport

__all__ = ["SqlTransport"]
