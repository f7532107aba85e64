"""The promises over a broker: processes of a team die where events are on their way.

What is killed is ours; what happens when a broker dies is tested beside each transport (tests/transports).
"""

import pytest

from tests.promises.conftest import CampaignFactory
from tests.support.brokers import BROKERS, BrokerPlace

PLACES = (
    "relay.after_fetch",
    "relay.after_publish",
    "relay.before_delete",
    "consumer.received",
    "consumer.parsed",
    "handler.midway",
    "inbox.before_commit",
    "inbox.after_commit",
    "consumer.after_ack",
)
# Every broker, and every database: how they meet is up to the toolkit, which knows each of them by its protocol.
PAIRS = (
    ("sql", "postgresql"),
    ("sql", "mariadb"),
    ("redis", "mariadb"),
    ("rabbitmq", "postgresql"),
    ("nats", "sqlite"),
    ("kafka", "postgresql"),
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("broker", "database_url"), PAIRS, indirect=True)
def test_killed_on_the_way(new_campaign: CampaignFactory, broker: BrokerPlace) -> None:
    campaign = new_campaign(transport=broker.url)
    # On SQLite one relays and one reads, not always the same: each could wait to die at the other's work.
    campaign.storm(campaign.shuffled(PLACES), members=1 if campaign.url.startswith("sqlite") else 3)

    assert campaign.verdict() == [], campaign.story()
    assert campaign.kills == dict.fromkeys(PLACES, 1)


def test_every_broker_has_its_turn() -> None:
    assert {broker for broker, _ in PAIRS} == set(BROKERS)
