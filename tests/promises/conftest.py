"""What the promises' tests share: campaigns with a seed that is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.campaign import Campaign, new_seed

CampaignFactory = Callable[..., Campaign]


@pytest.fixture
def new_campaign(tmp_path: Path, record_property: Callable[[str, object], None]) -> CampaignFactory:
    """Makes campaigns on ledgers of their own; their seed is printed, and recorded in the report."""

    def make(**options: Any) -> Campaign:
        seed = options.pop("seed", None) or new_seed()
        print(f"PROMISES_SEED={seed}")  # noqa: T201 - shown when the test fails
        record_property("PROMISES_SEED", seed)
        folder = tmp_path / f"ledger-{len(list(tmp_path.glob('ledger-*')))}"
        folder.mkdir()
        return Campaign(folder, seed, **options)

    return make
