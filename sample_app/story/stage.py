"""The stage of a scenario: a database, dice, somebody who wants to buy something, and a record of what was checked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from textwrap import wrap
from typing import Any
from uuid import UUID, uuid4

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from mediator import MediatorApp
from mediator.messaging.transport import Transport
from mediator.operations.lineage import LineageNode
from mediator.storage.database import Database
from mediator.transports import transport_for
from sample_app.inventory.application.receive_goods import ReceiveGoods
from sample_app.ordering.application.customers import RegisterCustomer
from sample_app.ordering.application.offers import OfferProduct
from sample_app.ordering.application.place_order import PlaceOrder
from sample_app.wiring import PREFIX, create_tables, make_shop

__all__ = ["IN_STOCK", "Purchase", "Scenario", "Stage"]

IN_STOCK = 10
"""Pieces of every product when a scenario begins."""
_CUSTOMERS = ("Ada", "Barbara", "Edsger", "Frances", "Grace", "Kristen", "Niklaus", "Radia")
_PRODUCTS = ("coffee grinder", "desk lamp", "fountain pen", "kettle", "mechanical keyboard", "reading chair", "teapot")


@dataclass(frozen=True)
class Purchase:
    """Who wants to buy what. Customer and product are new, whatever the database knows already."""

    customer_id: UUID
    customer: str
    email: str
    sku: str
    product: str
    quantity: int
    price: int
    currency: str

    @property
    def total(self) -> int:
        return self.price * self.quantity

    @property
    def order(self) -> PlaceOrder:
        return PlaceOrder(self.customer_id, self.sku, self.quantity)

    def __str__(self) -> str:
        return f"{self.customer} orders {self.quantity} × {self.product} for {self.total / 100:.2f} {self.currency}"


class Stage:
    """Where a scenario is played; counts the checks and shows them."""

    def __init__(self, database: str, transport: str, random: Random, console: Console) -> None:
        self.database, self.transport = database, transport
        self.passed = self.failed = 0
        self._random, self._console = random, console

    def shop(self, **options: Any) -> MediatorApp:
        """The shop, closed; `options` are those of `make_shop`."""
        return make_shop(self.database, **{"transport": self.transport, **options})

    async def set_up(self, shop: MediatorApp, *, price: int | None = None, currency: str = "EUR") -> Purchase:
        """A customer, and a product on the shelf."""
        await create_tables(shop)
        name, product = self._random.choice(_CUSTOMERS), self._random.choice(_PRODUCTS)
        sku = f"{product.replace(' ', '-')}-{uuid4().hex[:12]}"
        email = f"{name.lower()}@example.org"
        price, quantity = price or self._random.randrange(900, 9_900, 10), self._random.randint(1, 3)
        customer_id = await shop.mediator.send(RegisterCustomer(name, email))
        await shop.mediator.send(OfferProduct(sku, price, currency))
        await shop.mediator.send(ReceiveGoods(sku, IN_STOCK))
        return Purchase(customer_id, name, email, sku, product, quantity, price, currency)

    def tell(self, what: str) -> None:
        self._print(what)

    def draw(self, roots: Sequence[LineageNode]) -> None:
        """Show causation trees."""
        for root in roots:
            tree = Tree(_label(root), guide_style="dim")
            _grow(tree, root.children)
            self._console.print(tree)

    def check(self, statement: str, found: Any, expected: Any) -> None:
        """Write down whether the statement holds."""
        if found == expected:
            self.passed += 1
            self._print(statement, mark="[green]✓[/] ")
        else:
            self.fail(statement, f"expected {expected!r}, found {found!r}")

    def fail(self, statement: str, why: str) -> None:
        self.failed += 1
        self._print(f"{statement}: {why}", mark="[red]✗[/] ")

    async def count(self, rows: str, **values: object) -> int:
        """Count rows (`table where ...`) past the toolkit, as somebody would who does not trust it."""
        async with create_async_engine(self.database, poolclass=NullPool).connect() as connection:
            counted = await connection.execute(text(f"select count(*) from {rows}"), values)  # noqa: S608 - our own text
            return int(counted.scalar_one())

    async def unsettled(self, group: str, event: str) -> int:
        """How many events have still to be handled by a group: in the outbox, or on the broker."""
        waiting = await self.count(f"{PREFIX}outbox where type = :event", event=event)
        async with self.way() as transport:
            await transport.open()
            try:
                return waiting + (await transport.backlog([group]))[group]
            finally:
                await transport.close()

    @asynccontextmanager
    async def way(self) -> AsyncIterator[Transport]:
        """The transport alone, closed; `sql://` needs a database."""
        database = Database(self.database, prefix=PREFIX)
        await database.open()
        try:
            yield transport_for(self.transport, database)
        finally:
            await database.close()

    def _print(self, text: str, *, mark: str = "") -> None:
        indent = "    " if mark else "  "
        lines = wrap(text, self._console.width - len(indent))
        self._console.print(f"  {mark}" + escape(f"\n{indent}".join(lines)))


@dataclass(frozen=True)
class Scenario:
    """A scene of the story."""

    title: str
    happens: str
    play: Callable[[Stage], Awaitable[None]]


def _grow(tree: Tree, nodes: Sequence[LineageNode]) -> None:
    for node in nodes:
        _grow(tree.add(_label(node)), node.children)


def _label(node: LineageNode) -> str:
    # The detail names the aggregate by its id, which is another one in every run.
    cause = node.detail.partition(" of ")[0]
    return f"{node.kind} [bold]{escape(node.name)}[/]{f' [dim]from {escape(cause)}[/]' if cause else ''}"
