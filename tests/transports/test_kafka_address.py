"""What a URL of Kafka says, what things are called there, and how far a partition was read."""

import re

import pytest
from aiokafka import TopicPartition

from mediator.errors import BrokerError, SettingsError
from mediator.transports import transport_for
from mediator.transports.kafka import KafkaTransport
from mediator.transports.kafka.address import KafkaAddress, Names
from mediator.transports.kafka.partition import Partition


def test_a_url_names_brokers_and_parameters() -> None:
    address = KafkaAddress.parse("kafka://one:9092,[::1]:9093,three?prefix=shop&lanes=8&replication=2")

    assert address == KafkaAddress(("one:9092", "[::1]:9093", "three:9092"), "shop", 8, 2)
    assert address.options() == {"bootstrap_servers": list(address.servers), "security_protocol": "PLAINTEXT"}


def test_a_user_and_tls_are_handed_to_the_client() -> None:
    options = KafkaAddress.parse("kafkas://shop:p%40ss@one:9093?mechanism=SCRAM-SHA-512").options()

    assert options.pop("ssl_context").check_hostname
    assert options == {
        "bootstrap_servers": ["one:9093"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "p@ss",
    }


def test_the_password_is_never_shown() -> None:
    address = KafkaAddress.parse("kafka://shop:secret@one:9092")

    assert "secret" not in f"{address} {address!r} {address.shown}"
    with pytest.raises(SettingsError) as refused:
        KafkaAddress.parse("kafka://shop:secret@one:9092?colour=red")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("kafka://", "host:port"),
        ("kafka://one:port", "one:port"),
        ("kafka://one:0", "one:0"),
        ("kafka://one:9092,", "''"),
        ("kafka://one/topic", "parameters"),
        ("kafka://one?colour=red", "colour"),
        ("kafka://one?lanes=0", "lanes"),
        ("kafka://one?lanes=many", "lanes"),
        ("kafka://one?lanes=", "lanes"),
        ("kafka://one?replication=33", "replication"),
        ("kafka://one?prefix=a/b", "prefix"),
        ("kafkas://one?mechanism=MAGIC", "mechanism"),
    ],
)
def test_what_cannot_work_is_named(url: str, named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        transport_for(url)


def test_the_scheme_names_the_transport() -> None:
    assert isinstance(transport_for("kafka://one"), KafkaTransport)
    assert transport_for("kafkas://one?lanes=3").capabilities.lanes == 3


@pytest.mark.parametrize("url", ["kafka://127.0.0.1:1", "kafka://shop:secret@nowhere.invalid"])
async def test_a_broker_that_cannot_be_reached_is_named(url: str) -> None:
    transport = KafkaTransport(url)

    with pytest.raises(BrokerError, match=r"kafka://(127|nowhere)") as refused:
        await transport.open()

    assert "secret" not in str(refused.value)
    assert not (await transport.health()).ok
    await transport.close()


@pytest.mark.parametrize(
    ("prefix", "address", "name"),
    [
        ("shop", "test.orders.v1", "shop.test.orders.v1"),
        ("", "test.orders_v1", "test.orders_v1"),
        ("shop", "o" * 244, f"shop.{'o' * 244}"),
        ("shop", "o" * 245, f"shop.{'o' * 227}-8984abe4185bce9e"),
        ("", "a/b", "a-b-c14cddc033f64b9d"),
        ("", "..", "..-5ec1f7e700f37c3d"),
    ],
)
def test_a_name_is_the_address_where_kafka_takes_it(prefix: str, address: str, name: str) -> None:
    names = Names(prefix)

    assert names.of(address) == name
    assert len(names.of(address)) <= 249
    assert names.address(names.of(address)) == address


def test_the_topics_of_others_have_no_address() -> None:
    names = Names("shop")

    assert names.address("store.test.orders") is None
    assert names.address(names.groups) is None


def partition(begin: int = 0, delivered: int = 0) -> Partition:
    return Partition(TopicPartition("orders", 0), 1, begin, delivered)


def given(partition: Partition, *offsets: int) -> list[int]:
    partition.reached = offsets[-1] + 1
    return [partition.deliver(offset) for offset in offsets]


def test_all_before_the_first_unsettled_one_is_settled() -> None:
    some = partition(10)
    given(some, 10, 11, 15, 16)  # 12 to 14 were removed by the broker

    some.settle(15)
    assert some.settled_up_to == 10
    some.settle(10)
    assert some.settled_up_to == 11
    some.settle(11)
    assert some.settled_up_to == 16
    some.settle(16)
    assert some.settled_up_to == 17


def test_what_was_given_to_somebody_before_is_another_attempt() -> None:
    assert given(partition(10, delivered=12), 10, 11, 12) == [2, 2, 1]


def test_what_is_given_back_is_not_settled_until_it_is() -> None:
    some = partition()
    given(some, 0, 1, 2)
    some.settle(0)
    some.settle(2)

    some.give_back(1, 2)
    assert (some.settled_up_to, some.is_settled(2)) == (1, True)
    assert given(some, 1) == [2]
    some.settle(1)

    assert some.settled_up_to == 2
    some.reached = 3
    assert some.settled_up_to == 3


def test_no_more_is_read_when_too_much_is_settled_behind_something_unsettled() -> None:
    some = partition()
    given(some, *range(10_001))
    for offset in range(1, 10_001):
        assert not some.is_full
        some.settle(offset)

    assert some.is_full
    some.settle(0)
    some.commit(some.settled_up_to)
    assert not some.is_full
