from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import date

from contracts import Deprecation, IntegrationEvent, event_topic, upcaster
from mediator import (
    Command,
    CommandHandler,
    DomainEvent,
    DomainEventHandler,
    IntegrationEventConverter,
    IntegrationEventHandler,
    Query,
    QueryHandler,
    StreamQuery,
    StreamQueryHandler,
)
from tests.consuming.notes import NotedV1, RemarkedV1, listener, writes
from tests.hosting.wirings import app_of
from tests.support import module_of


@dataclass(frozen=True)
class Open(Command[None]):
    pass


@dataclass(frozen=True)
class Owners(Query[int]):
    pass


@dataclass(frozen=True)
class Stream(StreamQuery[int]):
    pass


@dataclass(frozen=True)
class Opened(DomainEvent):
    pass


@dataclass(frozen=True)
class Closed(DomainEvent):
    pass


class OpenHandler(CommandHandler[Open, None]):
    async def handle(self, command: Open) -> None: ...


class OwnersHandler(QueryHandler[Owners, int]):
    async def handle(self, query: Owners) -> int:
        return 0


class StreamHandler(StreamQueryHandler[Stream, int]):
    async def handle(self, query: Stream) -> AsyncGenerator[int, None]:
        yield 1


class Greet(DomainEventHandler[Opened]):
    async def handle(self, event: Opened) -> None: ...


class OpenedConverter(IntegrationEventConverter[Opened, NotedV1]):
    def convert(self, event: Opened) -> NotedV1:
        return NotedV1()


def test_the_report_shows_the_topics_that_a_handler_names() -> None:
    mail = module_of("mail", listener("Send", writes, topics=("{environment}.bank.#", "elsewhere")))

    assert app_of(mail).describe().splitlines()[-1] == "  handler mail.send <- NotedV1 from test.bank.#, elsewhere"


@event_topic("prices", domain="bank", version="v2", name="priced")
class PricedV2(IntegrationEvent):
    pass


@event_topic(
    "prices", domain="bank", name="priced", deprecated=Deprecation(date(2026, 3, 1), date(2026, 9, 1), PricedV2)
)
class PricedV1(IntegrationEvent):
    pass


@event_topic("rates", domain="bank", owner="team-rates", deprecated=Deprecation(date(2026, 3, 1)))
class RatedV1(IntegrationEvent):
    pass


class PricedConverter(IntegrationEventConverter[Opened, PricedV1]):
    def convert(self, event: Opened) -> PricedV1:
        return PricedV1()


class Answered(IntegrationEventHandler[PricedV2]):
    async def handle(self, event: PricedV2) -> None: ...


def test_the_report_shows_what_is_deprecated_and_who_still_makes_and_reads_it() -> None:
    bank = module_of("bank", Opened, PricedConverter)
    mail = module_of(
        "mail", listener("Send", writes, PricedV1 | RatedV1), Answered, upcaster(PricedV1, PricedV2)(lambda data: data)
    )

    report = app_of(bank, mail).describe().splitlines()

    start = next(number for number, line in enumerate(report) if line.startswith("deprecated "))
    assert report[start:] == [
        "deprecated PricedV1 since 2026-03-01 until 2026-09-01, use PricedV2",
        "  made by bank: PricedConverter",
        "  read by mail.send",
        "  read by mail.answered",
        "deprecated RatedV1 since 2026-03-01, of team-rates",
        "  read by mail.send",
    ]


def test_the_report_shows_who_handles_what_and_what_stays_inside() -> None:
    bank = module_of(
        "bank", Open, Owners, Stream, Opened, Closed, OpenHandler, OwnersHandler, StreamHandler, Greet, OpenedConverter
    )
    mail = module_of("mail", listener("Send", writes, NotedV1 | RemarkedV1))

    report = app_of(bank, mail).describe()

    assert report.splitlines() == [
        "shop (test)",
        "module bank",
        "  command Open -> OpenHandler",
        "  query Owners -> OwnersHandler",
        "  stream Stream -> StreamHandler",
        "  domain event Opened -> Greet",
        "    OpenedConverter -> NotedV1 (test.bank.public.notes.v1)",
        "  domain event Closed -> no handler",
        "    stays in the module: no converter",
        "module mail",
        "  handler mail.send <- NotedV1 (test.bank.public.notes.v1), RemarkedV1 (test.bank.public.remarks.v1)",
    ]
