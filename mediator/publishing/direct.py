"""Publishing past the outbox: for what may be lost, as measurements may, and for nothing else.

No transaction, no row, no second try: what the transport does not confirm is the caller's to know of, and a process
that dies meanwhile has published or not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mediator.errors import EventRefusedError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Publisher

__all__ = ["publish_direct"]


async def publish_direct(transport: Publisher, rows: Sequence[Mapping[str, Any]]) -> None:
    """Hand events to the transport; when all outcomes are known, raises the first error, if there is one."""
    for row in rows:
        if row["slot"] < 0:
            raise EventRefusedError(row["type"], "it is scheduled", "Publish it through the outbox, which can wait")
    envelopes = [Envelope.from_row(row) for row in rows]
    errors = [error async for _, error in transport.publish(envelopes) if error is not None]
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(envelopes)} events were not confirmed")
        raise errors[0]
