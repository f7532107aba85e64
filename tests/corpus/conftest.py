"""Places on the brokers."""

from collections.abc import Iterator

import pytest

from tests.corpus.places import PLACES, Place, place_on
from tests.support.databases import Unreachable


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place on each broker in turn."""
    try:
        with place_on(request.param) as place:
            yield place
    except Unreachable as error:
        request.node.user_properties.append(("missing service", request.param))
        pytest.skip(str(error))
