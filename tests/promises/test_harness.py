"""The harness itself: it reaches every crash point, repeats a seed, and catches what is broken on purpose."""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mediator.testing import FAILPOINTS
from tests.ledger.campaign import Campaign
from tests.ledger.journal import read_journal
from tests.ledger.judge import Violation, judge
from tests.ledger.tables import ACCOUNTS, database_of
from tests.ledger.variants import VARIANTS
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import PLACES

# Variant, what the judge has to find, and the crash points that bring it to light.
CASES = [
    ("inbox in a transaction of its own", "lost", ("handler.midway",)),
    ("ack first", "lost", ("relay.after_delete",)),
    ("delete before publish", "lost", ("consumer.received",)),
    ("dedup by class name", "lost", ()),
    ("retries forget the event id", "once", ("consumer.after_ack",)),
    ("dead letters dropped", "dead", ()),
    ("nothing waits behind a failure", "order", ()),
    ("swallowed cancellation", "timeout", ()),
    ("no head of line", "order", ()),
    ("id cursor", "lost", ()),
    ("outbox after commit", "published", ("uow.after_commit",)),
    ("rolled-back events published", "ghost", ()),
]
_ROUNDS, _KILLS_A_ROUND = 8, 3


@pytest.mark.parametrize(("variant", "promise", "places"), CASES, ids=[variant for variant, _, _ in CASES])
def test_a_broken_variant_is_caught(
    variant: str, promise: str, places: tuple[str, ...], new_campaign: CampaignFactory
) -> None:
    # Rows can overtake only where many of one key are refused, and wait for longer than the others take.
    overtaking = {"accounts": ACCOUNTS[:1], "refusals": 0.4, "set_aside_for": timedelta(milliseconds=200)}
    campaign = new_campaign(variant=variant, **(overtaking if variant == "no head of line" else {}))

    assert promise in {violation.promise for violation in hunt(campaign, promise, places)}, campaign.story()


def hunt(campaign: Campaign, promise: str, places: tuple[str, ...]) -> list[Violation]:
    """What the judge found, as soon as it is what was looked for, or after the last round."""
    found: list[Violation] = []
    for _ in range(_ROUNDS):
        for place in places * _KILLS_A_ROUND:
            campaign.try_to_kill(place, 1 if place == "uow.after_commit" else None)
        found = list(campaign.verdict())
        if any(violation.promise == promise for violation in found):
            break
    return found


def test_every_variant_has_its_test() -> None:
    assert sorted(variant for variant, _, _ in CASES) == sorted(VARIANTS)


def test_every_crash_point_is_killed_at() -> None:
    killed = [place for places in PLACES.values() for place in places]

    assert sorted(killed) == sorted(FAILPOINTS)


def test_a_place_that_is_not_reached_is_an_error(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()

    with pytest.raises(AssertionError, match="was not reached: exit 0"):
        campaign.kill("replay.midway", 1_000)


def test_a_seed_repeats_the_transfers_and_the_kills(new_campaign: CampaignFactory) -> None:
    first, second = new_campaign(seed=11), new_campaign(seed=11)

    for _ in range(3):
        one, other = first.next_run(), second.next_run()
        assert (one.seed, one.intents) == (other.seed, other.intents)


# Forgeries of a ledger that is right, and what the judge has to say about each.
FORGERIES = {
    "DELETE FROM transfers WHERE position = 1": {"acknowledged", "ghost"},
    "INSERT INTO transfers (id, account, seq, amount) SELECT id, account, seq, amount FROM transfers LIMIT 1": {
        "acknowledged"
    },
    "UPDATE accounts SET balance = balance + 1 WHERE id = 'ada'": {"acknowledged"},
    "DELETE FROM mediator_sent WHERE type = 'payments.money-moved'": {"published"},
    "DELETE FROM mediator_inbox WHERE subscriber_id = 'books.audit'": {"claim"},
    "DELETE FROM bookings WHERE subscriber = 'reporting.audit' AND position > 5": {"balance", "lost"},
    "UPDATE bookings SET amount = amount + 1 WHERE subscriber = 'books.audit'": {"balance", "unaltered"},
    "INSERT INTO bookings (subscriber, event_id, transfer_id, account, seq, amount, attempt) "
    "SELECT subscriber, event_id, transfer_id, account, seq, 0, attempt FROM bookings LIMIT 1": {"once"},
    "DELETE FROM mediator_parked": {"dead"},
    "UPDATE mediator_parked SET status = 'retry'": {"quiet"},
    # Two accounts are wrong, and the totals are right.
    "UPDATE balances SET balance = balance + CASE account WHEN 'ada' THEN 1 WHEN 'bob' THEN -1 ELSE 0 END": {"balance"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_the_judge_sees_a_forgery(forgery: str, right_ledger: Path, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(right_ledger, folder)
    with closing(sqlite3.connect(database_of(folder))) as connection, connection:
        assert connection.execute(forgery).rowcount > 0

    assert {violation.promise for violation in judge(folder, quiet=True)} >= FORGERIES[forgery]


def test_a_ledger_that_is_right_passes(right_ledger: Path) -> None:
    assert judge(right_ledger, quiet=True) == []


def test_the_journal_knows_what_was_told(right_ledger: Path) -> None:
    assert sorted(read_journal(right_ledger).values()) == ["acked"] * 8 + ["failed"] * 2


@pytest.fixture(scope="module")
def right_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    campaign = Campaign(tmp_path_factory.mktemp("right"), seed=5)
    assert campaign.finish() == 0, campaign.story()
    return campaign.folder
