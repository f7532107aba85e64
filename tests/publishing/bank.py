"""What the tests of publishing share: a domain event and its contract, and what came of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from contracts import IntegrationEvent, PartitionKey, event_topic
from mediator import Command, DomainEvent, IntegrationEventConverter, MediatorApp
from tests.storage.rows import stored

__all__ = ["READ_ONLY", "Do", "FactV1", "Happened", "HappenedConverter", "KeyedV1", "Special", "facts", "published"]

READ_ONLY = "(?i)read.?only"
"""What every database says of a statement that would change something in a query."""


@dataclass(frozen=True)
class Happened(DomainEvent):
    what: str = ""


@dataclass(frozen=True)
class Special(Happened):
    """A kind of what happened."""


@dataclass(frozen=True)
class Do(Command[Any]):
    what: str = ""


@event_topic("facts", domain="bank")
class FactV1(IntegrationEvent):
    what: str


@event_topic("keyed-facts", domain="bank")
class KeyedV1(IntegrationEvent):
    key: Annotated[str, PartitionKey()]
    what: str = ""


class HappenedConverter(IntegrationEventConverter[Happened, FactV1]):
    def convert(self, event: Happened) -> Iterator[FactV1]:
        yield FactV1(what=event.what)


async def published(app: MediatorApp, url: str) -> list[dict[str, Any]]:
    """The rows that were committed and sent, in the order of publication."""
    await app.drained()
    # Event ids are in the order of time.
    return [dict(row) for row in await stored(url, "sent")]


async def facts(app: MediatorApp, url: str) -> list[str]:
    """What was published of it."""
    return [json.loads(row["body"])["what"] for row in await published(app, url)]
