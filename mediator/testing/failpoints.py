"""Crash points: the places where a process may die, and a runtime that dies there.

    app = MediatorApp(..., runtime=Runtime(reached=kill_at("uow.after_commit")))

The process is killed with SIGKILL, so that nothing is flushed, closed or cleaned up: as in a power cut of the process.
"""

import os
import signal
from collections.abc import Callable

__all__ = ["FAILPOINTS", "kill_at"]

FAILPOINTS = (
    "uow.before_flush",
    "uow.after_flush",
    "uow.after_outbox",
    "uow.before_commit",
    "uow.after_commit",
    "relay.after_lock",
    "relay.after_fetch",
    "relay.after_publish",
    "relay.before_delete",
    "relay.after_delete",
    "consumer.received",
    "consumer.parsed",
    "inbox.after_insert",
    "handler.midway",
    "inbox.before_commit",
    "inbox.after_commit",
    "consumer.after_ack",
    "retry.after_claim",
    "retry.before_commit",
    "dead.before_store",
    "replay.midway",
)
"""Every crash point, in the order of an event's way."""


def kill_at(place: str, occurrence: int = 1) -> Callable[[str], None]:
    """A `Runtime.reached` that kills this process when `place` is reached for the n-th time."""
    if place not in FAILPOINTS:
        raise ValueError(f"{place!r} is no crash point; there are {', '.join(FAILPOINTS)}")
    left = [occurrence]

    def reached(here: str) -> None:
        if here == place:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached
