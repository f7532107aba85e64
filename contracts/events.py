"""The integration event: a fact, published for other modules.

    @event_topic("orders", domain="ordering")
    class OrderPlacedV1(IntegrationEvent):
        \"\"\"A customer placed an order; sent after the order is committed.\"\"\"

        order_id: Annotated[UUID, PartitionKey()]
        total: Decimal

It is frozen, since what happened does not change; it carries simple values only (see `simple`); and it ignores fields
that it does not know, so that a publisher may add one while older readers run. The class is checked when it is defined
or, if a forward reference cannot be followed yet, before its first instance: a class that failed never makes one.

What is not the author's business (causation, tenant, trace) travels in headers, not here.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator

from contracts.advice import warn
from contracts.errors import NotSimpleError, ReservedFieldError, UnresolvedTypeError
from contracts.identifiers import uuid7
from contracts.keys import key_fields
from contracts.simple import check_simple

__all__ = ["IntegrationEvent"]

_RESERVED: dict[str, Any] = {"event_id": UUID, "occurred_on": AwareDatetime, "correlation_id": str | None}


class IntegrationEvent(BaseModel):
    """A fact published for other modules: a promise."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        ser_json_timedelta="iso8601",
        validate_default=True,
        # A field with an alias is written and read under the alias, so that JSON survives the round trip.
        serialize_by_alias=True,
        validate_by_alias=True,
        validate_by_name=True,
    )

    __partition_key_fields__: ClassVar[tuple[str, ...]] = ()
    __was_advised__: ClassVar[bool] = False

    event_id: UUID = Field(default_factory=uuid7)
    occurred_on: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    correlation_id: str | None = None

    @field_validator("occurred_on")
    @classmethod
    def _in_utc(cls, moment: datetime) -> datetime:
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise ValueError("occurred_on is outside the years 1 to 9999 in UTC") from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler, /) -> Any:
        # Raised from here, an error leaves the class incomplete; from the hooks that run later, the class would work.
        try:
            cls._check_contract()
        except UnresolvedTypeError:
            handler(source)  # raises pydantic's own error, after which pydantic comes back when the type is defined
            raise
        return handler(source)

    @classmethod
    def _check_contract(cls) -> None:
        where = f"{cls.__module__}.{cls.__qualname__}"
        for name, annotation in _RESERVED.items():
            field = cls.model_fields.get(name)
            if field is None or field.annotation != annotation:
                raise ReservedFieldError(
                    where,
                    name,
                    f"{name} is redefined with another type",
                    "every event has this field: choose another name",
                )
        if not cls.model_config.get("frozen"):
            raise NotSimpleError(where, "model_config", "the event can be changed", "remove frozen=False")
        check_simple(cls)
        cls.__partition_key_fields__ = key_fields(cls)
        if "__was_advised__" not in vars(cls):
            warn(cls)
            cls.__was_advised__ = True
