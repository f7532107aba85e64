"""Settings of an application; every one has a default, a unit and a bound."""

from datetime import timedelta
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from mediator.consuming.consumer import ConsumerSettings
from mediator.messaging.foreign import ForeignSettings
from mediator.messaging.limits import Limits
from mediator.operations.cleaning import RetentionSettings
from mediator.publishing.relay import RelaySettings
from mediator.storage.database import DatabaseSettings

__all__ = ["ROLES", "BrokerSettings", "MediatorSettings", "Role"]

Role: TypeAlias = Literal["publish", "relay", "consume"]
"""What a process does: it sends commands and opens units of work; it carries the outbox to the transport (and cleans
up); it runs the handlers of integration events, and their retries."""
ROLES: tuple[Role, ...] = ("publish", "relay", "consume")


class BrokerSettings(BaseModel):
    """What is expected of the broker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provision: Literal["create", "verify", "ignore"] = Field(
        default="create", description="what to do about topics and groups that the broker does not have"
    )
    strict: bool = Field(
        default=False, description="refuse to start when a setting of the broker breaks a promise, instead of a warning"
    )


class MediatorSettings(BaseModel):
    """All that can be tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table_prefix: str = "mediator_"
    schema_name: str | None = None
    database: DatabaseSettings = DatabaseSettings()
    limits: Limits = Limits()
    relay: RelaySettings = RelaySettings()
    consumer: ConsumerSettings = ConsumerSettings()
    broker: BrokerSettings = BrokerSettings()
    foreign: ForeignSettings = ForeignSettings()
    retention: RetentionSettings = RetentionSettings()
    drain_on_stop: timedelta = Field(default=timedelta(seconds=25), ge=timedelta(0), le=timedelta(minutes=10))
    allow_edited_replay: bool = False
