"""Where each clause's campaigns kill: every crash point belongs to the clause that it endangers most.

PROMISES_KILLS says how often a process is killed at each (5), PROMISES_SEED repeats what a failing test printed.
"""

import os
from typing import Final

from tests.ledger.campaign import Campaign

__all__ = ["KILLS", "PLACES", "assert_kept"]

KILLS: Final = int(os.environ.get("PROMISES_KILLS") or 5)

PLACES: Final = {
    "G1": ("uow.before_flush", "uow.after_flush", "uow.after_outbox", "uow.before_commit", "uow.after_commit"),
    "G3": (
        "relay.after_lock",
        "relay.after_fetch",
        "relay.after_publish",
        "relay.before_delete",
        "relay.after_delete",
    ),
    "G5": ("inbox.after_insert", "inbox.before_commit", "inbox.after_commit"),
    "G6": ("consumer.received", "consumer.parsed", "handler.midway", "consumer.after_ack"),
    "G10": ("retry.after_claim", "retry.before_commit"),
    "G11": ("dead.before_store", "replay.midway"),
}


def assert_kept(campaign: Campaign, clause: str, *, members: int) -> None:
    """Let processes of a team die at the clause's places, and let the judge find nothing."""
    places = PLACES[clause]
    campaign.storm(campaign.shuffled(places * KILLS), members)
    verdict = campaign.verdict()

    assert not verdict, f"{verdict}\n{campaign.story()}"
    assert campaign.kills == dict.fromkeys(places, KILLS)
