"""Every promise at once: teams that die everywhere, in the ways in which applications are run.

The other files kill where their clause is in danger. Here all crash points are mixed, and what a process does is split:
some only move money, others relay and consume.
"""

import pytest

from mediator.testing import FAILPOINTS
from tests.promises.conftest import CampaignFactory

pytestmark = pytest.mark.databases("sqlite", "postgresql", "psycopg", "mariadb")


@pytest.mark.timeout(900)
def test_killed_where_roles_are_shared(new_campaign: CampaignFactory) -> None:
    campaign = new_campaign()
    campaign.storm(campaign.shuffled(FAILPOINTS), members=4, share_roles=True)

    assert campaign.verdict() == [], campaign.story()
    assert campaign.kills == dict.fromkeys(FAILPOINTS, 1)
