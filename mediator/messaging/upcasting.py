"""Upcasting on read: the data of an old version becomes that of the class that a handler wants.

    OrderPlacedV1's bytes → plain data → add_currency → split_name → OrderPlacedV3's bytes → validated

Every class that is wanted begins with data of its own: an upcaster may change what it is given, nested values too,
and no other reader sees it. What an upcaster cannot do is said with both versions and the kind of its error.
"""

import json
from collections.abc import Sequence
from typing import Any

from contracts import Upcaster
from mediator.errors import UnreadableMessageError
from mediator.messaging.disclosure import cause, told

__all__ = ["upcast"]


def upcast(body: bytes, path: Sequence[Upcaster]) -> dict[str, Any]:
    """The data in `body`, which was read before, after every step of `path`; raises UnreadableMessageError."""
    # Read again: that is cheaper than a deep copy of what was read.
    data: Any = json.loads(body)
    for step in path:
        versions = step.source, step.target
        try:
            data = _checked(step.function(data))
        except Exception as error:  # noqa: BLE001 - raised as another
            where = " -> ".join(version.__qualname__ for version in versions)
            raise UnreadableMessageError("upcaster", where, told(error, *versions)) from cause(error, *versions)
    return dict(data)


def _checked(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"it returned {type(data).__name__} in place of the data as a dict")
    return data
