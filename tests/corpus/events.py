"""What the application knows that the corpus is put before: two contracts, one of them in two versions."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, PartitionKey, event_topic, upcaster
from mediator import IntegrationEventHandler, Module, RetryPolicy
from tests.support import Effect, module_of

__all__ = ["EVENTS", "NEWEST", "UPCASTERS", "depot"]


class Sender(BaseModel):
    """Who sent a parcel."""

    model_config = ConfigDict(frozen=True)

    name: str
    floors: int = 0


@event_topic("parcels", domain="depot")
class ParcelArrivedV1(IntegrationEvent):
    """A parcel arrived."""

    note: Annotated[str, PartitionKey()]
    weight: int = Field(ge=0, le=1_000_000)
    price: Decimal = Field(default=Decimal(0), max_digits=10, decimal_places=2)
    size: Literal["small", "large"] = "small"
    labels: tuple[str, ...] = Field(default=(), max_length=20)
    sender: Sender | None = None


@event_topic("returns", domain="depot", version="v1", name="parcel-returned")
class ParcelReturnedV1(IntegrationEvent):
    """A parcel came back."""

    note: Annotated[str, PartitionKey()]
    weight: int | str


@event_topic("returns", domain="depot", version="v2", name="parcel-returned")
class ParcelReturnedV2(IntegrationEvent):
    """A parcel came back."""

    note: Annotated[str, PartitionKey()]
    grams: int


@upcaster(ParcelReturnedV1, ParcelReturnedV2)
def in_grams(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "grams": 1000 * int(data["weight"])}


class Store(IntegrationEventHandler[ParcelArrivedV1]):
    """Handles parcels."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: ParcelArrivedV1) -> None:
        self._session.add(Effect(what="stored", detail=event.note))


class TakeBack(IntegrationEventHandler[ParcelReturnedV2]):
    """Handles what came back, in its newest version."""

    retry = RetryPolicy.fixed(1, timedelta(0))

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: ParcelReturnedV2) -> None:
        self._session.add(Effect(what="stored", detail=event.note))


EVENTS = (ParcelArrivedV1, ParcelReturnedV1, ParcelReturnedV2)
NEWEST = (ParcelArrivedV1, ParcelReturnedV2)
"""What handlers want."""
UPCASTERS = (in_grams,)


def depot() -> Module:
    """The module that handles them."""
    return module_of("depot", Store, TakeBack, in_grams)
