"""The harness itself: it reaches every crash point, repeats a seed, and catches what is broken on purpose."""

from collections.abc import Collection, Iterator
from datetime import timedelta

import pytest

from mediator.testing import FAILPOINTS
from tests.ledger.campaign import Campaign
from tests.ledger.journal import read_journal
from tests.ledger.judge import Violation, judge
from tests.ledger.tables import ACCOUNTS
from tests.ledger.variants import VARIANTS
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import PLACES
from tests.support.databases import Servers

# Variant, what the judge has to find, and the crash points that bring it to light.
# Whoever gets the slots of a relay with a cursor begins anew: what that one has passed comes late then, or never.
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
    ("id cursor", "lost or order", ()),
    ("outbox after commit", "published", ("uow.after_commit",)),
    ("rolled-back events published", "ghost", ()),
]
# Those that break storage: caught on the servers too, or there alone, because SQLite has one writer and one relay.
CASES_OF_STORAGE = [
    ("inbox in a transaction of its own", "lost", ("handler.midway",)),
    ("delete before publish", "lost", ("consumer.received",)),
    ("no head of line", "order", ()),
    ("id cursor", "lost or order", ()),
    ("outbox after commit", "published", ("uow.after_commit",)),
    ("skip locked instead of slots", "order", ()),
    ("claim by look-up", "once", ()),
    ("retries that nobody compares", "once", ()),
]
_ROUNDS, _KILLS_A_ROUND, _TOGETHER = 8, 3, 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("variant", "promise", "places"), CASES, ids=[variant for variant, _, _ in CASES])
def test_a_broken_variant_is_caught(
    variant: str, promise: str, places: tuple[str, ...], new_campaign: CampaignFactory
) -> None:
    assert_caught(variant, promise, places, new_campaign, together=0)


@pytest.mark.timeout(300)
@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize(
    ("variant", "promise", "places"), CASES_OF_STORAGE, ids=[variant for variant, _, _ in CASES_OF_STORAGE]
)
def test_a_variant_of_broken_storage_is_caught(
    variant: str, promise: str, places: tuple[str, ...], new_campaign: CampaignFactory
) -> None:
    assert_caught(variant, promise, places, new_campaign, together=0 if places else _TOGETHER)


def assert_caught(
    variant: str, promise: str, places: tuple[str, ...], new_campaign: CampaignFactory, *, together: int
) -> None:
    # Rows can overtake only where many of one key are refused, and wait for longer than the others take.
    overtaking = {"accounts": ACCOUNTS[:1], "refusals": 0.4, "set_aside_for": timedelta(milliseconds=200)}
    # What the cursor has passed waits for ever; all others come to an end, and what they lose is lost.
    patience = timedelta(seconds=5 if variant == "id cursor" else 60)
    campaign = new_campaign(variant=variant, patience=patience, **(overtaking if variant == "no head of line" else {}))

    found = hunt(campaign, promise.split(" or "), places, together)

    assert {violation.promise for violation in found} & set(promise.split(" or ")), f"{found}\n{campaign.story()}"


def hunt(campaign: Campaign, promises: Collection[str], places: tuple[str, ...], together: int) -> list[Violation]:
    """What the judge found, as soon as it is what was looked for, or after the last round."""
    found: list[Violation] = []
    for _ in range(_ROUNDS):
        for place in places * _KILLS_A_ROUND:
            campaign.try_to_kill(place, 1 if place == "uow.after_commit" else None)
        campaign.together(together)
        found = list(campaign.verdict())
        if any(violation.promise in promises for violation in found):
            break
    return found


def test_every_variant_has_its_test() -> None:
    assert sorted({variant for variant, _, _ in CASES + CASES_OF_STORAGE}) == sorted(VARIANTS)


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
        assert one.seed == other.seed
        assert list(one.batches()) == list(other.batches())


# Forgeries of a ledger that is right, and what the judge has to say about each.
FORGERIES = {
    "DELETE FROM transfers WHERE seq = 1": {"acknowledged", "ghost"},
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
def test_the_judge_sees_a_forgery(forgery: str, right_ledger: Campaign) -> None:
    assert seen_in(right_ledger, forgery) >= FORGERIES[forgery]


def test_a_ledger_that_is_right_passes(right_ledger: Campaign) -> None:
    assert judge(right_ledger.folder, right_ledger.url, quiet=True) == []


def test_the_journal_knows_what_was_told(right_ledger: Campaign) -> None:
    assert sorted(read_journal(right_ledger.folder).values()) == ["acked"] * 8 + ["failed"] * 2


@pytest.mark.databases("postgresql", "psycopg", "mariadb")
def test_the_judge_reads_every_database_alike(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign(seed=5)
    assert campaign.finish() == 0, campaign.story()

    assert judge(campaign.folder, campaign.url, quiet=True) == []
    for forgery, promises in FORGERIES.items():
        assert seen_in(campaign, forgery) >= promises, forgery
    # A forgery is rolled back.
    assert judge(campaign.folder, campaign.url, quiet=True) == []


def seen_in(campaign: Campaign, forgery: str) -> set[str]:
    """The promises that the judge finds broken."""
    return {one.promise for one in judge(campaign.folder, campaign.url, quiet=True, forgery=forgery)}


@pytest.fixture(scope="module")
def right_ledger(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Campaign]:
    folder = tmp_path_factory.mktemp("right")
    with servers.new_database("sqlite", folder) as url:
        campaign = Campaign(folder, url, seed=5)
        assert campaign.finish() == 0, campaign.story()
        yield campaign
