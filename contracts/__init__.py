"""The published language's kit: what integration events are made of. It depends on pydantic and nothing else.

    @event_topic("orders", domain="ordering")
    class OrderPlacedV1(IntegrationEvent):
        order_id: Annotated[UUID, PartitionKey()]
        total: Decimal

Publishers and readers import the same contracts package and share nothing more. A contract that cannot keep its promise
is refused when it is defined, with a `ContractError` that says what, where and what to do.
"""

from contracts.advice import ContractWarning
from contracts.canonical import canonical_key
from contracts.deprecation import Deprecation
from contracts.errors import (
    ContractError,
    DeprecationError,
    NotSimpleError,
    PartitionKeyError,
    ReservedFieldError,
    TopicError,
    UnresolvedTypeError,
    UpcasterError,
)
from contracts.events import IntegrationEvent
from contracts.identifiers import uuid7
from contracts.keys import PartitionKey, partition_key_of
from contracts.masking import masked
from contracts.open_enum import OpenEnum
from contracts.sensitive import Sensitive, sensitive_fields
from contracts.simple import check_simple
from contracts.topics import Topic, event_topic, has_topic, topic_of
from contracts.upcasting import Upcaster, upcaster

__all__ = [
    "ContractError",
    "ContractWarning",
    "Deprecation",
    "DeprecationError",
    "IntegrationEvent",
    "NotSimpleError",
    "OpenEnum",
    "PartitionKey",
    "PartitionKeyError",
    "ReservedFieldError",
    "Sensitive",
    "Topic",
    "TopicError",
    "UnresolvedTypeError",
    "Upcaster",
    "UpcasterError",
    "canonical_key",
    "check_simple",
    "event_topic",
    "has_topic",
    "masked",
    "partition_key_of",
    "sensitive_fields",
    "topic_of",
    "upcaster",
    "uuid7",
]
