"""Customers come, and some are blocked."""

from dataclasses import dataclass
from uuid import UUID

from mediator import Command, CommandHandler
from sample_app.ordering.domain import Customer, Customers

__all__ = ["BlockCustomer", "BlockCustomerHandler", "RegisterCustomer", "RegisterCustomerHandler"]


@dataclass(frozen=True)
class RegisterCustomer(Command[UUID]):
    name: str
    email: str


class RegisterCustomerHandler(CommandHandler[RegisterCustomer, UUID]):
    def __init__(self, customers: Customers) -> None:
        self.customers = customers

    async def handle(self, command: RegisterCustomer) -> UUID:
        customer = Customer(name=command.name, email=command.email)
        self.customers.add(customer)
        return customer.id


@dataclass(frozen=True)
class BlockCustomer(Command[None]):
    customer_id: UUID


class BlockCustomerHandler(CommandHandler[BlockCustomer, None]):
    def __init__(self, customers: Customers) -> None:
        self.customers = customers

    async def handle(self, command: BlockCustomer) -> None:
        customer = await self.customers.get(command.customer_id)
        customer.block()
