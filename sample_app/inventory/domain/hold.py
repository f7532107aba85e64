"""The hold: pieces that wait for somebody who said that they would come for them, until a time."""

from uuid import UUID

from sqlmodel import Field, SQLModel

__all__ = ["Hold", "HoldExpiredError"]


class HoldExpiredError(Exception):
    """Too late: the pieces go back on the shelf."""

    def __init__(self, hold_id: UUID) -> None:
        self.hold_id = hold_id
        super().__init__(f"hold {hold_id} has expired")


class Hold(SQLModel, table=True):
    """Pieces of one stock item that are held for somebody."""

    __tablename__ = "inventory_hold"

    id: UUID = Field(primary_key=True)
    sku: str = Field(max_length=40)
    quantity: int
    expiry_id: UUID
    """The event that is told when the time is up."""
