"""What a message of somebody else says nothing of is taken from the broker, as far as it may be."""

import pytest

from mediator.messaging.envelope import LONGEST_TEXT
from mediator.messaging.transport import Delivery
from tests.corpus.test_corpus import READER

HEADERS = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "A-1",
    "ce-source": "/elsewhere",
    "ce-type": "depot.parcel-arrived.v1",
}
BODY = b'{"note": "n", "weight": 1}'


def read_key(key: str | None, **more: str) -> str | None:
    delivery = Delivery(topic="test.depot.public.parcels.v1", headers=HEADERS | more, body=BODY, key=key)
    return READER.read(delivery).envelope.key


def test_the_brokers_key_is_that_of_an_event_that_names_none() -> None:
    assert read_key("order 1") == "order 1"
    assert read_key("order 1", **{"ce-partitionkey": "order%202"}) == "order 2"
    assert read_key(None) is None


@pytest.mark.parametrize("key", ["", "a\nb", "\x00", "k" * (LONGEST_TEXT + 1)], ids=["empty", "lines", "NUL", "long"])
def test_a_key_of_the_broker_that_is_no_name_is_none(key: str) -> None:
    assert read_key(key) is None


def test_the_longest_key_of_a_broker_is_one() -> None:
    assert read_key("k" * LONGEST_TEXT) == "k" * LONGEST_TEXT
