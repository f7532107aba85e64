"""Notifications in its own words."""

from sample_app.notifications.domain.mail import Mail, Mailbox

__all__ = ["Mail", "Mailbox"]
