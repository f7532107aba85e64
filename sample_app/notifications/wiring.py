"""What the handlers of notifications get for the interface that they name."""

from injector import Module, provider
from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.notifications.domain import Mailbox
from sample_app.notifications.infrastructure import SqlMailbox

__all__ = ["NotificationsWiring"]


class NotificationsWiring(Module):
    @provider
    def mailbox(self, session: AsyncSession) -> Mailbox:
        return SqlMailbox(session)
