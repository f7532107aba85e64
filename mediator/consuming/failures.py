"""What is kept of a failed attempt: for a person who decides later, and to group equal errors."""

import re
import traceback
from hashlib import blake2b
from typing import Any

from mediator.storage.columns import storable

__all__ = ["failure_facts"]

_LONGEST_MESSAGE = 2_000
_LONGEST_TRACEBACK = 16_000
_VARIABLE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"", re.IGNORECASE)


def failure_facts(error: BaseException) -> dict[str, Any]:
    """Type, message, traceback and fingerprint of an error, as columns of a parked delivery.

    Errors have the same fingerprint when they are of one type, raised at one place, with one message but for numbers,
    ids and quoted values.
    """
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    message = str(error)[:_LONGEST_MESSAGE]
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].name}" if frames else ""
    identity = "\0".join((kind, place, _VARIABLE.sub("?", message)))
    # Without locals: they may hold what must not be stored.
    text = "".join(traceback.format_exception(error))
    return {
        "error_type": kind[:200],
        "error": storable(message),
        "traceback": storable(text[-_LONGEST_TRACEBACK:]),
        "fingerprint": blake2b(identity.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest(),
    }
