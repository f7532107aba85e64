"""What the promises' tests share: campaigns on a database of their own, with a seed that is told."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.ledger.campaign import Campaign, new_seed
from tests.support.databases import Servers

CampaignFactory = Callable[..., Campaign]

_TEAMS_ON_A_DATABASE = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Few campaigns at a time on each server, however many cores there are: each has a team with its connections."""
    for item in items:
        if "new_campaign" in getattr(item, "fixturenames", ()):
            lane = crc32(item.name.partition("[")[0].encode()) % _TEAMS_ON_A_DATABASE
            item.add_marker(pytest.mark.xdist_group(f"campaigns on {_database_of(item)}, {lane}"))


@pytest.fixture
def new_campaign(
    request: pytest.FixtureRequest,
    database_url: str,
    servers: Servers,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> Iterator[CampaignFactory]:
    """Makes campaigns on ledgers of their own; their seed is printed, and what they killed is in the report."""
    made: list[Campaign] = []

    with ExitStack() as stack:

        def make(**options: Any) -> Campaign:
            seed = options.pop("seed", None) or new_seed()
            print(f"PROMISES_SEED={seed}")  # noqa: T201 - shown when the test fails
            record_property("PROMISES_SEED", seed)
            folder = tmp_path / f"ledger-{len(made)}"
            folder.mkdir()
            database = _database_of(request.node)
            url = stack.enter_context(servers.new_database(database, folder)) if made else database_url
            made.append(Campaign(folder, url, seed, **options))
            return made[-1]

        yield make
    record_property("kills", sum(campaign.kills.total() for campaign in made))


def _database_of(item: pytest.Item) -> str:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return str(parameters.get("database_url", "sqlite"))
