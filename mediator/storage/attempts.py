"""The attempts of a parked delivery, as one JSON text in its row: number, moment, and the error's type and message.

An attempt is written down when it is counted, before it runs, and completed when it fails. So one that killed its
process stands there without an error. The last twenty are kept.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["begun", "failed", "taken_back"]

_KEPT = 20
_LONGEST_MESSAGE = 500


def begun(history: str | None, number: int, now: datetime) -> str:
    """The history with an attempt that begins now."""
    return _text([*_attempts(history), {"number": number, "at": now.isoformat(), "error_type": None, "error": None}])


def failed(history: str | None, now: datetime, facts: Mapping[str, Any]) -> str | None:
    """The history with the outcome of the attempt that is under way; unchanged when none is."""
    attempts = _attempts(history)
    if not attempts or attempts[-1]["error_type"] is not None:
        return history
    error = {"error_type": facts["error_type"], "error": facts["error"][:_LONGEST_MESSAGE]}
    return _text([*attempts[:-1], {**attempts[-1], "at": now.isoformat(), **error}])


def taken_back(history: str | None) -> str:
    """The history without its last attempt."""
    return _text(_attempts(history)[:-1])


def _attempts(history: str | None) -> list[dict[str, Any]]:
    return json.loads(history) if history else []


def _text(attempts: list[dict[str, Any]]) -> str:
    return json.dumps(attempts[-_KEPT:], ensure_ascii=False)
