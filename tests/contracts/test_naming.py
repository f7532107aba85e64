"""Class names become wire names by a few fixed rules."""

import pytest

from contracts.naming import kebab_case, plural, wire_name


@pytest.mark.parametrize(
    ("class_name", "kebab"),
    [
        ("Cashier", "cashier"),
        ("OrderPlaced", "order-placed"),
        ("HTTPServerFailed", "http-server-failed"),
        ("ServerHTTP", "server-http"),
        ("Level2Reached", "level2-reached"),
        ("_Order_Line", "order-line"),
    ],
)
def test_a_class_name_becomes_kebab_case(class_name: str, kebab: str) -> None:
    assert kebab_case(class_name) == kebab


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        ("cashier", "cashiers"),
        ("country", "countries"),
        ("key", "keys"),
        ("address", "addresses"),
        ("status", "statuses"),
        ("box", "boxes"),
        ("branch", "branches"),
        ("dish", "dishes"),
        ("quiz", "quizzes"),
        ("person", "people"),
        ("contact-person", "contact-people"),
        ("child", "children"),
        ("medical-equipment", "medical-equipment"),
        ("news", "news"),
        ("people-address", "people-addresses"),
    ],
)
def test_the_last_word_is_put_in_the_plural(singular: str, expected: str) -> None:
    assert plural(singular) == expected


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("OrderPlaced", "order-placed"),
        ("OrderPlacedV1", "order-placed"),
        ("OrderPlacedV12", "order-placed"),
        ("OrderPlacedIntegrationEvent", "order-placed"),
        ("OrderPlacedIntegrationEventV2", "order-placed"),
        ("OrderPlacedEvent", "order-placed"),
        ("HTTPServerFailedV2", "http-server-failed"),
        ("EventCancelled", "event-cancelled"),
        ("Event", "event"),
        ("V2", "v2"),
        ("ConversionToIPV4", "conversion-to-ip"),
    ],
)
def test_an_event_is_named_without_its_suffix_and_version(class_name: str, name: str) -> None:
    assert wire_name(class_name) == name
