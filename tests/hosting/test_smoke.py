from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import (
    Command,
    CommandHandler,
    DomainEvent,
    IntegrationEventConverter,
    IntegrationEventHandler,
)
from tests.support import Account, AppFactory, Effect, effects, module_of


async def test_a_domain_event_becomes_an_integration_event_and_is_handled_once(make_app: AppFactory) -> None:
    @dataclass(frozen=True)
    class Opened(DomainEvent):
        owner: str

    @event_topic("accounts", domain="bank")
    class OpenedV1(IntegrationEvent):
        owner: str

    @dataclass(frozen=True)
    class Open(Command[None]):
        owner: str

    class OpenHandler(CommandHandler[Open, None]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, command: Open) -> None:
            account = Account(owner=command.owner)
            account.record_event(Opened(command.owner))
            self.session.add(account)

    class Converter(IntegrationEventConverter[Opened, OpenedV1]):
        def convert(self, event: Opened) -> OpenedV1:
            return OpenedV1(owner=event.owner)

    class Welcome(IntegrationEventHandler[OpenedV1]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, event: OpenedV1) -> None:
            self.session.add(Effect(what="welcomed", detail=event.owner))

    app = make_app(module_of("bank", Open, OpenHandler, Opened, Converter), module_of("mail", Welcome))
    async with app:
        await app.mediator.send(Open("Ada"))
        await app.drained()

        assert await effects(app) == [("welcomed", "Ada")]
