"""What can be asked about mail."""

from dataclasses import dataclass
from uuid import UUID

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from mediator import Query, QueryHandler
from sample_app.notifications.domain import Mail

__all__ = ["GetMails", "GetMailsHandler", "MailView"]


@dataclass(frozen=True)
class MailView:
    event_id: UUID
    recipient: str
    subject: str
    correlation_id: str


@dataclass(frozen=True)
class GetMails(Query[list[MailView]]):
    """What the customer was told about an order."""

    order_id: UUID


class GetMailsHandler(QueryHandler[GetMails, list[MailView]]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: GetMails) -> list[MailView]:
        mails = await self.session.exec(select(Mail).where(Mail.order_id == query.order_id))
        return [MailView(mail.event_id, mail.recipient, mail.subject, mail.correlation_id) for mail in mails]
