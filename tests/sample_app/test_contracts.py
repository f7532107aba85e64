"""The contracts of the shop give no cause for advice."""

import pytest

import sample_app.contracts
from contracts import IntegrationEvent
from contracts.advice import advice

EVENTS = [one for one in vars(sample_app.contracts).values() if isinstance(one, type)]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_its_author_will_regret_nothing(event: type[IntegrationEvent]) -> None:
    assert advice(event) == ()


def test_the_shop_has_contracts() -> None:
    assert len(EVENTS) == len(sample_app.contracts.__all__)
