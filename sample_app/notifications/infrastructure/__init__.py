"""Where notifications keeps the mail that goes out."""

from sample_app.notifications.infrastructure.mailbox import SqlMailbox

__all__ = ["SqlMailbox"]
