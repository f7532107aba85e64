from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from sample_app.ordering.domain import (
    Customer,
    CustomerBlockedError,
    LoyaltyPointsEarned,
    Offer,
    Order,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderStateError,
    OrderStatus,
    PriceChanged,
    Promotion,
)

LAMP = Offer(sku="lamp", price=1_250, currency="EUR")


def placed() -> Order:
    return Order.place(uuid4(), LAMP, 2)


def reserved() -> Order:
    order = placed()
    order.mark_reserved()
    return order


def paid() -> Order:
    order = reserved()
    order.mark_paid()
    return order


def cancelled() -> Order:
    order = placed()
    order.cancel("sold out")
    return order


def test_order_costs_what_is_offered_for_each_piece() -> None:
    customer_id = uuid4()

    order = Order.place(customer_id, LAMP, 3)

    assert (order.total, order.currency, order.status) == (3_750, "EUR", OrderStatus.PLACED)
    assert order.recorded_events == (OrderPlaced(order.id, customer_id, "lamp", 3, 3_750, "EUR"),)


@pytest.mark.parametrize("quantity", [0, -1])
def test_order_has_at_least_one_piece(quantity: int) -> None:
    with pytest.raises(ValueError, match="order at least one"):
        Order.place(uuid4(), LAMP, quantity)


def test_reserved_order_is_paid() -> None:
    order = reserved()

    order.mark_paid()

    assert order.status is OrderStatus.PAID
    assert order.recorded_events[-1] == OrderPaid(order.id, order.customer_id)


@pytest.mark.parametrize("make", [placed, reserved])
def test_order_is_cancelled_before_it_is_paid(make: Callable[[], Order]) -> None:
    order = make()

    order.cancel("sold out")

    assert order.status is OrderStatus.CANCELLED
    assert order.recorded_events[-1] == OrderCancelled(order.id, order.customer_id, "sold out")


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (reserved, Order.mark_reserved),
        (paid, Order.mark_reserved),
        (cancelled, Order.mark_reserved),
        (placed, Order.mark_paid),
        (paid, Order.mark_paid),
        (cancelled, Order.mark_paid),
        (paid, lambda order: order.cancel("too late")),
        (cancelled, lambda order: order.cancel("again")),
    ],
)
def test_step_that_the_state_does_not_allow_changes_nothing(
    make: Callable[[], Order], step: Callable[[Order], None]
) -> None:
    order = make()
    before = order.status, order.recorded_events

    with pytest.raises(OrderStateError, match=f"order {order.id} is {order.status}"):
        step(order)

    assert (order.status, order.recorded_events) == before


def test_customer_earns_a_point_for_every_whole_euro() -> None:
    customer = Customer(name="Ada", email="ada@example.org")

    customer.earn_points(1_299)
    customer.earn_points(99)

    assert customer.loyalty_points == 12
    assert customer.recorded_events == (LoyaltyPointsEarned(customer.id, 12), LoyaltyPointsEarned(customer.id, 0))


def test_blocked_customer_earns_nothing() -> None:
    customer = Customer(id=UUID(int=7), name="Ada", email="ada@example.org")
    customer.block()

    with pytest.raises(CustomerBlockedError, match=f"customer {UUID(int=7)} is blocked"):
        customer.earn_points(1_000)

    assert (customer.loyalty_points, customer.recorded_events) == (0, ())


def test_price_is_changed() -> None:
    offer = Offer(sku="lamp", price=1_250, currency="EUR")

    offer.change_price(1_100)

    assert offer.price_of(2) == 2_200
    assert offer.recorded_events == (PriceChanged("lamp", 1_100, "EUR"),)


@pytest.mark.parametrize(("available", "promotion"), [(10, Promotion(sku="lamp")), (9, None)])
def test_product_is_promoted_when_there_is_enough_of_it(available: int, promotion: Promotion | None) -> None:
    assert LAMP.promote(available) == promotion
