"""Places on the brokers."""

from collections.abc import Iterator

import pytest

from tests.corpus.places import PLACES, Place, place_on
from tests.support.brokers import Brokers


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, brokers: Brokers) -> Iterator[Place]:
    """A place on each broker in turn."""
    with place_on(brokers, request.param) as place:
        yield place
