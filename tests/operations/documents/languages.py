"""Contracts for the tests of their documents: one with everything in it, one that means harm, one of fixed size."""

from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, computed_field

from contracts import Deprecation, IntegrationEvent, OpenEnum, PartitionKey, Sensitive, event_topic
from mediator.operations.documents.events import EventDocuments, documents_of, documents_of_contracts
from sample_app.wiring import make_shop

__all__ = [
    "HOSTILE",
    "Category",
    "Channel",
    "HostileV1",
    "ParcelSentV1",
    "ParcelSentV2",
    "TreeGrownV1",
    "language",
    "sample",
]


class Channel(Enum):
    WEB = "web"
    SHOP = "shop"


class Carrier(OpenEnum):
    POST = "post"
    BIKE = "bike"


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: Annotated[str, Sensitive(), Field(min_length=16, max_length=16)]


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    given: Decimal


class Piece(BaseModel):
    """One thing in a parcel."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    sku: Annotated[str, Field(max_length=40)]
    """Stock keeping unit, as printed on the box."""
    tags: frozenset[str] = frozenset({"new", "hot", "cold", "old", "loud"})
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Category(BaseModel):
    name: str
    below: tuple["Category", ...] = ()


@event_topic("parcels", domain="shipping", version="v2", owner="team-shipping")
class ParcelSentV2(IntegrationEvent):
    """A parcel left the house."""

    parcel_id: Annotated[UUID, PartitionKey()]
    category: Category | None = None


@event_topic(
    "parcels",
    domain="shipping",
    owner="team-shipping",
    deprecated=Deprecation(since=date(2026, 3, 1), sunset=date(2026, 9, 1), replacement=ParcelSentV2),
)
class ParcelSentV1(IntegrationEvent):
    """A parcel left the house;
    it is on its way.

    Sent after the row is committed.
    """

    parcel_id: Annotated[UUID, PartitionKey(1)]
    tenant: Annotated[str, PartitionKey(0), Field(pattern="^[a-z]+$", examples=["acme"])]
    email: Annotated[str, Sensitive(), Field(description="Where the receipt goes.")]
    pieces: tuple[Piece, ...]
    prices: dict[str, Decimal]
    notes: dict[Channel, str]
    size: tuple[int, int, int]
    paid: Annotated[Card | Cash, Field(discriminator="kind")]
    total: Annotated[Decimal, Field(ge=0, max_digits=10, decimal_places=2)]
    count: Annotated[int, Field(ge=1, le=99)]
    channel: Annotated[Channel, Field(description="Where it was ordered.")] = Channel.WEB
    carrier: Carrier = Carrier.POST
    due: AwareDatetime | None = None
    on_the_way: timedelta = timedelta(hours=2)
    piece_of_honour: Annotated[Piece | None, Field(description="The best one.")] = None
    default: Annotated[str, Field(alias="items")] = "a field may be called as a keyword is"

    @computed_field(description="How many different things.")  # type: ignore[prop-decorator]
    @property
    def variety(self) -> int:
        return len(self.pieces)


@event_topic("trees", domain="shipping", internal=True, local=True)
class TreeGrownV1(IntegrationEvent):
    """A model within itself."""

    root: Category


HOSTILE = (
    "<script>alert(1)</script> | a `b` ```c``` {process.exit(1)} {{ 7*7 }} {% raw %} </td></table> &lt; *x* _y_ "
    "[z](javascript:x) "
    "<!-- --> ]]> ![i](http://example.invalid/x.png) \\ ~~s~~"
)


@event_topic("traps", domain="shipping", owner=HOSTILE)
class HostileV1(IntegrationEvent):
    trap: Annotated[str, Field(description=HOSTILE, examples=[HOSTILE])] = HOSTILE
    text: Annotated[str, Field(description="import x\nexport y\n# no heading\n\n    no code")] = ""


HostileV1.__doc__ = f"import {HOSTILE}\n\nexport {HOSTILE}\n\n1. {HOSTILE}\n- {HOSTILE}\n\n---\n\n# {HOSTILE}"


def language() -> EventDocuments:
    """The contracts above, without an application."""
    return documents_of_contracts("Shipping", [HostileV1, ParcelSentV1, ParcelSentV2, TreeGrownV1])


def sample() -> EventDocuments:
    """The sample shop's; nothing is opened for it."""
    return documents_of(make_shop("sqlite+aiosqlite:///none.db").registry)
