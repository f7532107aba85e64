"""Placing an order: here every story begins.

The order, the loyalty points and the integration events commit together, or none of them does.
"""

from dataclasses import dataclass
from uuid import UUID

from mediator import Command, CommandHandler, DomainEventHandler
from sample_app.ordering.domain import Customers, Offers, Order, OrderPlaced, Orders

__all__ = ["AwardLoyaltyPoints", "PlaceOrder", "PlaceOrderHandler"]


@dataclass(frozen=True)
class PlaceOrder(Command[UUID]):
    customer_id: UUID
    sku: str
    quantity: int


class PlaceOrderHandler(CommandHandler[PlaceOrder, UUID]):
    def __init__(self, orders: Orders, offers: Offers) -> None:
        self.orders = orders
        self.offers = offers

    async def handle(self, command: PlaceOrder) -> UUID:
        offer = await self.offers.look_up(command.sku)
        order = Order.place(command.customer_id, offer, command.quantity)
        self.orders.add(order)
        return order.id


class AwardLoyaltyPoints(DomainEventHandler[OrderPlaced]):
    """Runs in the transaction of the order: no points without the order, no order without the points."""

    def __init__(self, customers: Customers) -> None:
        self.customers = customers

    async def handle(self, event: OrderPlaced) -> None:
        customer = await self.customers.get(event.customer_id)
        customer.earn_points(event.total)
