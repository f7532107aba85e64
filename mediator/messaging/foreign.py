"""Messages of others, and how we write for them: every form that is read becomes CloudEvents in binary mode.

structured mode     the envelope is in the body                     structured.py
CAP                 headers of DotNetCore.CAP                       cap.py
anything else       a function of the application's says what the headers would be, or nothing

MediatorSettings(foreign=ForeignSettings(headers_for=sensor_headers, cap_headers=True))
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from mediator.errors import UnreadableMessageError
from mediator.messaging.cap import from_cap, is_cap
from mediator.messaging.catalog import EventCatalog
from mediator.messaging.limits import Limits
from mediator.messaging.structured import from_document, is_structured
from mediator.messaging.transport import Delivery

__all__ = ["ForeignSettings", "HeadersFor", "in_binary_mode"]

HeadersFor: TypeAlias = Callable[[Delivery], Mapping[str, str] | None]
"""Gives the headers that a message lacks: `ce-id`, `ce-type`, `ce-source`, and more if it likes; None for what it does
not know. It is asked about every message that is neither a CloudEvent nor CAP's, again at each redelivery, so it has to
give the same id each time."""


class ForeignSettings(BaseModel):
    """How we deal with programs that are not ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    headers_for: HeadersFor | None = Field(default=None, description="headers for messages that have none")
    cap_headers: bool = Field(default=False, description="write DotNetCore.CAP's headers beside ours")


def in_binary_mode(
    delivery: Delivery, settings: ForeignSettings, catalog: EventCatalog, limits: Limits
) -> tuple[Mapping[str, str], bytes]:
    """Headers and body of a delivery as CloudEvents; raises UnreadableMessageError."""
    limits.check_headers(delivery.headers)
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    if len(headers) != len(delivery.headers):
        raise UnreadableMessageError("headers", "headers", "two names differ only in their case")
    body = delivery.body
    if is_structured(headers):
        headers, body = from_document(headers, body, limits)
    elif "ce-specversion" not in headers and is_cap(headers):
        headers = from_cap(delivery.topic, headers, catalog)
    elif "ce-specversion" not in headers and settings.headers_for is not None:
        headers |= _built(settings.headers_for, delivery)
    else:
        return headers, body
    limits.check_headers(headers)
    return headers, body


def _built(headers_for: HeadersFor, delivery: Delivery) -> Mapping[str, str]:
    try:
        found = headers_for(delivery)
        return {} if found is None else {"ce-specversion": "1.0", **found}
    except UnreadableMessageError:
        raise
    except Exception as error:
        # Whatever it stumbles over is in the message, which is kept.
        what = f"{type(error).__name__}: {error}"
        raise UnreadableMessageError("foreign", "headers_for", what) from error
