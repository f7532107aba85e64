"""A topic has one address in each environment, and no two environments share one."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import ContractError, IntegrationEvent, Topic, TopicError, event_topic, has_topic, topic_of


class Cashier:
    pass


class ContactPerson:
    pass


@event_topic(Cashier, domain="AppDomain")
class CashierHiredV1(IntegrationEvent):
    pass


@event_topic("payments", domain="invoicing", internal=True, version="")
class PaymentBookedIntegrationEvent(IntegrationEvent):
    pass


@event_topic("emails", domain="notifications", version="v2")
class HTTPServerFailedV2(IntegrationEvent):
    pass


@pytest.mark.parametrize(
    ("event_class", "environment", "address"),
    [
        (CashierHiredV1, "dev", "dev.appdomain.public.cashiers.v1"),
        (PaymentBookedIntegrationEvent, "prod", "prod.invoicing.internal.payments"),
        (HTTPServerFailedV2, "test", "test.notifications.public.emails.v2"),
    ],
)
def test_addresses_are_as_promised(event_class: type[IntegrationEvent], environment: str, address: str) -> None:
    assert topic_of(event_class).address(environment) == address


def test_the_wire_type_is_the_domain_and_the_event_without_version() -> None:
    assert topic_of(HTTPServerFailedV2).type == "notifications.http-server-failed"
    assert topic_of(PaymentBookedIntegrationEvent).type == "invoicing.payment-booked"


def test_an_entity_class_is_put_in_the_plural_unless_told_not_to() -> None:
    @event_topic(ContactPerson, domain="crm")
    class Moved(IntegrationEvent):
        pass

    @event_topic(ContactPerson, domain="crm", pluralize=False)
    class Left(IntegrationEvent):
        pass

    assert topic_of(Moved).topic == "contact-people"
    assert topic_of(Left).topic == "contact-person"


def test_a_text_is_lower_cased_and_never_put_in_the_plural() -> None:
    @event_topic("Equipment.Created", domain="assets", name="created")
    class EquipmentCreated(IntegrationEvent):
        pass

    topic = topic_of(EquipmentCreated)

    assert topic.address("dev") == "dev.assets.public.equipment.created.v1"
    assert topic.type == "assets.created"


def test_a_subclass_must_state_its_own_topic() -> None:
    class Promoted(CashierHiredV1):
        pass

    assert has_topic(CashierHiredV1)
    assert not has_topic(Promoted)
    with pytest.raises(TopicError, match=r"Promoted: it states no topic.*decorate it"):
        topic_of(Promoted)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"topic": ""}, "topic ''"),
        ({"topic": "or ders"}, "topic 'or ders'"),
        ({"topic": "or_ders"}, "topic 'or_ders'"),
        ({"topic": "orders."}, "topic 'orders.'"),
        ({"topic": "-orders"}, "topic '-orders'"),
        ({"topic": "orders\n"}, "topic 'orders"),
        ({"topic": "größen"}, "topic 'größen'"),
        ({"topic": "orders.v2"}, "pass version='v2'"),
        ({"topic": 7}, "topic 7"),
        ({"domain": "a.b"}, "domain 'a.b'"),
        ({"domain": ""}, "domain ''"),
        ({"version": "1"}, "version '1'"),
        ({"version": "v0"}, "version 'v0'"),
        ({"version": "v01"}, "version 'v01'"),
        ({"version": "v٣"}, "version"),
        ({"name": "OrderPlaced"}, "name 'OrderPlaced'"),
        ({"name": ""}, "name ''"),
    ],
)
def test_what_cannot_be_an_address_is_refused(options: dict[str, object], fact: str) -> None:
    class OrderPlaced(IntegrationEvent):
        pass

    with pytest.raises(TopicError) as refusal:
        event_topic(**{"topic": "orders", "domain": "ordering", **options})(OrderPlaced)  # type: ignore[arg-type]

    assert "OrderPlaced" in refusal.value.where
    assert fact in str(refusal.value)


def test_only_an_integration_event_has_a_topic() -> None:
    with pytest.raises(TopicError, match="not an integration event"):
        event_topic("orders", domain="ordering")(Cashier)  # type: ignore[type-var]


@pytest.mark.parametrize("environment", ["Dev", "DEV", "", "dev.eu", "dev eu", "dev_eu", "-dev", "dev\n", "dév"])
def test_an_environment_is_never_bent_into_shape(environment: str) -> None:
    with pytest.raises(ContractError, match="map it to one explicitly"):
        topic_of(CashierHiredV1).address(environment)


def test_an_address_may_have_249_characters_and_no_more() -> None:
    topic = Topic(topic="t" * 200, domain="d", version="v1", internal=False, name="n")
    rest = len(topic.address("e")) - 1

    assert len(topic.address("e" * (249 - rest))) == 249
    with pytest.raises(TopicError, match="250 characters"):
        topic.address("e" * (250 - rest))


segments = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=8).filter(
    lambda text: not (text.startswith("-") or text.endswith("-") or "--" in text)
)
versions = st.sampled_from(["", "v1", "v2", "v10"])


@st.composite
def topics(draw: st.DrawFn) -> Topic:
    parts = draw(st.lists(segments | versions.filter(bool), min_size=1, max_size=3))
    if parts[-1].startswith("v") and parts[-1][1:].isdigit():
        parts.append("x")
    return Topic(
        topic=".".join(parts),
        domain=draw(segments),
        version=draw(versions),
        internal=draw(st.booleans()),
        # A name that is a version is refused.
        name=draw(segments.filter(lambda text: not (text.startswith("v") and text[1:].isdigit()))),
    )


@given(topics(), topics(), segments, segments)
def test_two_environments_never_share_an_address(one: Topic, other: Topic, here: str, there: str) -> None:
    if here != there:
        assert one.address(here) != other.address(there)
    else:
        same = (one.domain, one.scope, one.topic, one.version) == (
            other.domain,
            other.scope,
            other.topic,
            other.version,
        )
        assert (one.address(here) == other.address(there)) is same


def test_what_is_local_is_not_public() -> None:
    class PriceHinted(IntegrationEvent):
        """A price may soon change."""

    with pytest.raises(TopicError, match="pass internal=True too"):
        event_topic("hints", domain="billing", local=True)(PriceHinted)
    assert topic_of(event_topic("hints", domain="billing", internal=True, local=True)(PriceHinted)).local
