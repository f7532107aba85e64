"""The outbox, as the unit of work fills it: integration events become rows, checked and serialised when published.

What a receiver would refuse is refused here, at the line that published it: a row that nobody can read must never be
committed. The rows are inserted by one statement, last before the commit, after every aggregate was flushed: a key's
writers hold the aggregate's lock before they draw a position, so positions keep the order of commits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import ContractError, IntegrationEvent, Topic, partition_key_of, topic_of
from contracts.topics import MAX_ADDRESS_LENGTH
from mediator.application import Outgoing
from mediator.errors import EventRefusedError, UnreadableMessageError
from mediator.messaging.cap import cap_headers
from mediator.messaging.cloudevents import to_headers
from mediator.messaging.deprecations import Deprecations
from mediator.messaging.disclosure import cause, told
from mediator.messaging.envelope import LONGEST_TEXT, Envelope, headers_column
from mediator.messaging.limits import Limits, read_json
from mediator.messaging.lineage import Lineage
from mediator.messaging.patterns import is_address
from mediator.storage.columns import milliseconds
from mediator.storage.outbox import OutboxInsert, slot_of
from mediator.storage.tables import Tables

__all__ = ["Origin", "OutboxWriter", "check_time"]

_LONGEST_DELAY = timedelta(days=3650)
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_TEXT = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{LONGEST_TEXT}}}")


@dataclass(frozen=True, slots=True)
class Origin:
    """What inside the module an integration event comes from."""

    converter: str | None = None
    domain_event_type: str | None = None
    aggregate_type: str | None = None
    aggregate_id: str | None = None


class OutboxWriter:
    """Makes outbox rows and inserts them."""

    def __init__(
        self,
        application: str,
        environment: str,
        limits: Limits,
        tables: Tables,
        deprecations: Deprecations,
        *,
        with_cap: bool = False,
    ) -> None:
        self._application, self._with_cap, self._deprecations = application, with_cap, deprecations
        self._environment = environment
        self._limits = limits
        self._insert = OutboxInsert(tables)
        self._addresses: dict[type[IntegrationEvent], tuple[Topic, str]] = {}

    async def write(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
        """Insert `rows` in their order, in the transaction of `connection`."""
        await self._insert.execute(connection, rows)

    def check_number(self, event: object, number: int) -> None:
        """Raise EventRefusedError for more events at once than the limit allows."""
        if number > self._limits.published_at_once:
            found = f"it is number {number:,} of its unit of work, and {self._limits.published_at_once:,} are allowed"
            fix = "Publish what is many in several units of work, or raise Limits.published_at_once"
            raise EventRefusedError(type(event).__qualname__, found, fix)

    def row(self, outgoing: Outgoing[Any], module: str, lineage: Lineage, origin: Origin) -> dict[str, Any]:
        """The outbox row of an event; raises EventRefusedError for what no receiver could read."""
        event = outgoing.event
        name = type(event).__qualname__
        if event.correlation_id is None:
            event = event.model_copy(update={"correlation_id": lineage.correlation_id})
        body = self._body(event)
        topic, address = self._address(type(event), outgoing.topic)
        callback = self._callback(name, outgoing.callback)
        key = outgoing.key if outgoing.key is not None else self._key(event)
        for what, text in (("correlation id", event.correlation_id), ("partition key", key)):
            if text is not None and not _TEXT.fullmatch(text):
                found = f"its {what} has {len(text)} characters, {text[:40]!r}"
                fix = f"Use 1 to {LONGEST_TEXT}, no control characters and no lone surrogates"
                raise EventRefusedError(name, found, fix)
        delay, at = outgoing.delay, outgoing.at
        check_time(name, delay, at)
        row = {
            "slot": slot_of(key, event.event_id, scheduled=delay is not None or at is not None),
            "event_id": event.event_id,
            "topic": address,
            "type": topic.type,
            "version": topic.version,
            "partition_key": key,
            "body": body,
            "source": f"/{self._application}/{module}",
            "occurred_on": event.occurred_on,
            "delay": None if delay is None else milliseconds(delay),
            "at": at,
            "attempts": 0,
            "correlation_id": event.correlation_id,
            "causation_id": str(lineage.message_id),
            "traceparent": lineage.traceparent,
            "module": module,
            "cause": lineage.cause,
            "converter": origin.converter,
            "domain_event_type": origin.domain_event_type,
            "aggregate_type": origin.aggregate_type,
            "aggregate_id": origin.aggregate_id,
        }
        headers = {**(cap_headers(row, callback) if self._with_cap else {}), **outgoing.headers}
        deprecation = self._deprecations.published(type(event), topic)
        row["headers"] = headers_column(headers, callback, deprecation)
        # The toolkit's own headers are short, unless percent-encoding makes them longer.
        if headers or deprecation or callback is not None or not f"{key}{event.correlation_id}".isascii():
            self._check_headers(row, headers)
        return row

    def _address(self, event_class: type[IntegrationEvent], chosen: str | None) -> tuple[Topic, str]:
        if event_class not in self._addresses:
            try:
                topic = topic_of(event_class)
                self._addresses[event_class] = topic, topic.address(self._environment)
            except ContractError as error:
                raise EventRefusedError(
                    event_class.__qualname__, str(error), "Decorate it with @event_topic"
                ) from error
        topic, address = self._addresses[event_class]
        return topic, address if chosen is None else _checked(event_class.__qualname__, "topic", chosen)

    def _callback(self, name: str, chosen: str | type[IntegrationEvent] | None) -> str | None:
        if chosen is None:
            return None
        return self._address(chosen, None)[1] if isinstance(chosen, type) else _checked(name, "callback", chosen)

    def _key(self, event: IntegrationEvent) -> str | None:
        try:
            # An empty string is a key like any other for the contract, but no broker tells it from "no key".
            return partition_key_of(event) or None
        except ContractError as error:
            raise EventRefusedError(type(event).__qualname__, str(error), "Correct the key field's value") from error

    def _body(self, event: IntegrationEvent) -> bytes:
        """The event as JSON, read back as its receivers will: values may have come past the model's validation."""
        name = type(event).__qualname__
        try:
            body: bytes = type(event).__pydantic_serializer__.to_json(event)
            read_json(body, self._limits)
            event.model_validate_json(body)
        except PydanticSerializationError as error:
            kind = type(event)
            raise EventRefusedError(name, told(error, kind), "Use values that JSON can hold") from cause(error, kind)
        except ValidationError as error:
            kind = type(event)
            what = f"receivers refuse it: {told(error, kind)}"
            raise EventRefusedError(name, what, "Use values that the contract allows") from cause(error, kind)
        except UnreadableMessageError as error:
            what = f"receivers refuse it ({error.reason}) at {error.where}: {error.what}"
            raise EventRefusedError(name, what, "Publish less, or a reference") from error
        return body

    def _check_headers(self, row: dict[str, Any], headers: Mapping[str, str]) -> None:
        name = row["type"]
        for header in headers:
            if header != header.lower() or header.startswith("ce-") or header == "content-type":
                raise EventRefusedError(
                    name, f"header {header!r} is reserved or not lower case", "Use a lower-case name of your own"
                )
        try:
            self._limits.check_headers(headers)
            # As they travel: percent-encoded, together with the toolkit's own.
            self._limits.check_headers(to_headers(Envelope.from_row(row)))
        except UnreadableMessageError as error:
            raise EventRefusedError(name, f"{error.where}: {error.what}", "Correct the headers") from error


def check_time(name: str, delay: Any, at: Any) -> None:
    """Raise EventRefusedError for a delay or time that cannot be waited for; most of it type checkers would find."""
    if delay is not None and at is not None:
        raise EventRefusedError(name, f"it has a delay, {delay!r}, and a time, {at!r}", "Give one of them")
    if not isinstance(delay, timedelta | None):
        raise EventRefusedError(name, f"its delay is {delay!r}", "Use a timedelta")
    if delay is not None and abs(delay) > _LONGEST_DELAY:
        raise EventRefusedError(name, f"its delay is {delay}", f"Use at most {_LONGEST_DELAY.days} days")
    if at is None:
        return
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise EventRefusedError(name, f"its time is {at!r}", "Use a datetime with a zone, such as datetime.now(UTC)")
    if not _EARLIEST <= at < _LATEST:
        raise EventRefusedError(name, f"its time is {at}", f"Use one from {_EARLIEST.year} to {_LATEST.year - 1}")


def _checked(name: str, what: str, address: str) -> str:
    if not is_address(address):
        fix = f"Use 1 to {MAX_ADDRESS_LENGTH} printable ASCII characters"
        raise EventRefusedError(name, f"{what} {address!r}", fix)
    return address
