from uuid import uuid4

import pytest

from sample_app.inventory.domain import (
    Hold,
    Reservation,
    ReservationReleasedError,
    StockItem,
    StockRanShort,
    StockReleased,
    StockReserved,
    StockTooLowError,
)


def lamps(available: int) -> StockItem:
    return StockItem(sku="lamp", available=available)


def test_reserved_pieces_are_no_longer_available() -> None:
    item, order_id = lamps(5), uuid4()

    reservation = item.reserve(order_id, 2)

    assert reservation == Reservation(order_id=order_id, sku="lamp", quantity=2)
    assert item.available == 3
    assert item.recorded_events == (StockReserved(order_id, "lamp", 2),)


def test_last_pieces_are_reserved() -> None:
    item = lamps(2)

    assert item.reserve(uuid4(), 2) is not None
    assert item.available == 0


def test_stock_never_falls_below_zero() -> None:
    item, order_id = lamps(2), uuid4()

    assert item.reserve(order_id, 3) is None
    assert item.available == 2
    assert item.recorded_events == (StockRanShort(order_id, "lamp"),)


def test_released_pieces_are_available_again() -> None:
    item, order_id = lamps(5), uuid4()
    reservation = item.reserve(order_id, 2)
    assert reservation is not None

    item.release(reservation, "declined")

    assert item.available == 5
    assert item.recorded_events[-1] == StockReleased(order_id, "declined")


def test_reservation_is_released_once() -> None:
    item = lamps(5)
    reservation = item.reserve(uuid4(), 2)
    assert reservation is not None
    item.release(reservation, "declined")

    with pytest.raises(ReservationReleasedError, match="released already"):
        item.release(reservation, "declined")

    assert item.available == 5


@pytest.mark.parametrize("quantity", [0, -3])
def test_at_least_one_piece_arrives(quantity: int) -> None:
    item = lamps(1)

    with pytest.raises(ValueError, match="at least one"):
        item.receive(quantity)

    assert item.available == 1


def test_held_pieces_are_no_longer_available() -> None:
    item, hold_id, expiry_id = lamps(5), uuid4(), uuid4()

    hold = item.hold(hold_id, 5, expiry_id)

    assert hold == Hold(id=hold_id, sku="lamp", quantity=5, expiry_id=expiry_id)
    assert item.available == 0
    assert item.recorded_events == ()


def test_more_than_there_is_cannot_be_held() -> None:
    item = lamps(5)

    with pytest.raises(StockTooLowError, match="6 pieces of lamp are wanted, 5 are there"):
        item.hold(uuid4(), 6, uuid4())

    assert item.available == 5
