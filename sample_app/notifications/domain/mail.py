"""The mail: one for each event that a customer is told of, so the event's id is its name."""

from abc import ABC, abstractmethod
from uuid import UUID

from sqlmodel import Field, SQLModel

__all__ = ["Mail", "Mailbox"]


class Mail(SQLModel, table=True):
    """What a customer is told."""

    __tablename__ = "notifications_mail"

    event_id: UUID = Field(primary_key=True)
    order_id: UUID = Field(index=True)
    recipient: str = Field(max_length=200)
    subject: str = Field(max_length=500)
    correlation_id: str = Field(max_length=200)


class Mailbox(ABC):
    """The outgoing mail: a postman empties it, and may use the event's id to post nothing twice."""

    @abstractmethod
    def put(self, mail: Mail) -> None: ...
