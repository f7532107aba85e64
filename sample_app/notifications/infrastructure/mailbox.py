"""The mailbox on the session of the unit of work."""

from sqlmodel.ext.asyncio.session import AsyncSession

from sample_app.notifications.domain import Mail, Mailbox

__all__ = ["SqlMailbox"]


class SqlMailbox(Mailbox):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def put(self, mail: Mail) -> None:
        self.session.add(mail)
