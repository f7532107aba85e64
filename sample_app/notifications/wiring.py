"""What the handlers of notifications get for the interface that they name."""

from collections.abc import Callable

from injector import Module, provider
from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.notifications.domain import Mailbox
from sample_app.notifications.infrastructure import SqlMailbox

__all__ = ["NotificationsWiring"]


class NotificationsWiring(Module):
    def __init__(self, mailbox: Callable[[AsyncSession], Mailbox] = SqlMailbox) -> None:
        self._mailbox = mailbox

    @provider
    def mailbox(self, session: AsyncSession) -> Mailbox:
        return self._mailbox(session)
