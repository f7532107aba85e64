"""Who waits for what: for a person who looks at a run that does not come to its end."""

import asyncio
from collections.abc import Iterator
from typing import Any

__all__ = ["tasks_at_work"]

_AT_REST = ("/asyncio/", "lanes.py", "supervision.py")


def tasks_at_work() -> Iterator[str]:
    """Each task of the running loop with its awaits, outermost first; those that wait for work are left out."""
    for task in asyncio.all_tasks():
        places = list(_places(task.get_coro()))
        if not all(any(part in place for part in _AT_REST) for place in places):
            yield "\n  ".join([task.get_name(), *places])


def _places(awaited: Any) -> Iterator[str]:
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        frame = frame or getattr(awaited, "ag_frame", None)
        if frame is not None:
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
