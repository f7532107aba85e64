"""Commands and queries go to their one handler, through the behaviours, in one unit of work with what they send."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from mediator import (
    Command,
    CommandHandler,
    IntegrationEventPublisher,
    LoggingBehavior,
    Mediator,
    MessageContext,
    Outgoing,
    PipelineBehavior,
    Query,
    QueryHandler,
    ValidationBehavior,
    Validator,
    WithEvents,
)
from mediator.application.behaviors import Proceed
from mediator.errors import (
    EventRefusedError,
    HandlerNotFoundError,
    NotRunningError,
    UnitOfWorkRequiredError,
    ValidationFailedError,
)
from mediator.messaging.lineage import current_lineage
from mediator.publishing.unit_of_work import current_unit_of_work
from tests.publishing.bank import READ_ONLY, Do, FactV1, Happened, HappenedConverter, facts, published
from tests.support import Account, AppFactory, Effect, effects, module_of


@dataclass(frozen=True)
class Open(Command[str]):
    owner: str
    then: Command[Any] | None = None
    fail: bool = False


class OpenHandler(CommandHandler[Open, str]):
    def __init__(self, session: AsyncSession, mediator: Mediator) -> None:
        self.session, self.mediator = session, mediator

    async def handle(self, command: Open) -> str:
        account = Account(owner=command.owner)
        account.record_event(Happened(command.owner))
        self.session.add(account)
        if command.then is not None:
            await self.mediator.send(command.then)
        if command.fail:
            raise ValueError(command.owner)
        return f"opened {command.owner}"


@dataclass(frozen=True)
class Owners(Query[list[str]]):
    pass


class OwnersHandler(QueryHandler[Owners, list[str]]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: Owners) -> list[str]:
        return list((await self.session.exec(select(Account.owner).order_by(Account.owner))).all())


BANK = (OpenHandler, OwnersHandler, HappenedConverter)


async def test_a_command_gives_its_result_and_is_committed(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", *BANK)) as app:
        assert await app.mediator.send(Open("Ada")) == "opened Ada"
        assert await app.mediator.send(Owners()) == ["Ada"]
        assert await facts(app, database_url) == ["Ada"]


async def test_a_nested_command_joins_the_transaction(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", *BANK)) as app:
        await app.mediator.send(Open("Ada", then=Open("Bob")))
        with pytest.raises(ValueError, match="Cid"):
            await app.mediator.send(Open("Cid", then=Open("Dan"), fail=True))
        with pytest.raises(ValueError, match="Fay"):
            await app.mediator.send(Open("Eve", then=Open("Fay", fail=True)))

        assert await app.mediator.send(Owners()) == ["Ada", "Bob"]
        assert await facts(app, database_url) == ["Ada", "Bob"]


async def test_a_query_within_a_command_sees_what_is_not_committed_yet(make_app: AppFactory) -> None:
    class Look(CommandHandler[Do, Any]):
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, command: Do) -> Any:
            await self.mediator.send(Open("Ada"))
            return await self.mediator.send(Owners())

    async with make_app(module_of("bank", *BANK, Look)) as app:
        assert await app.mediator.send(Do()) == ["Ada"]


@pytest.mark.parametrize("message", [Do(), Query[int](), "a text"])
async def test_what_nobody_handles_is_named(make_app: AppFactory, message: Any) -> None:
    async with make_app(module_of("bank", *BANK)) as app:
        with pytest.raises(HandlerNotFoundError, match=f"no .* for .*{type(message).__qualname__}"):
            await app.mediator.send(message)


async def test_a_subclass_of_a_command_is_another_command(make_app: AppFactory) -> None:
    class OpenTwice(Open):
        pass

    async with make_app(module_of("bank", *BANK)) as app:
        with pytest.raises(HandlerNotFoundError, match="OpenTwice"):
            await app.mediator.send(OpenTwice("Ada"))


async def test_nothing_is_sent_to_an_application_that_does_not_run(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", *BANK)) as app:
        mediator = app.mediator
    with pytest.raises(NotRunningError):
        await mediator.send(Owners())


async def test_events_next_to_the_result_are_published(make_app: AppFactory, database_url: str) -> None:
    class Answer(CommandHandler[Do, Any]):
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, command: Do) -> WithEvents[int]:
            if command.what == "outer":
                assert await self.mediator.send(Do("inner")) == 5
            return WithEvents(len(command.what), FactV1(what=command.what), Outgoing(FactV1(what="more")))

    async with make_app(module_of("bank", Answer)) as app:
        assert await app.mediator.send(Do("outer")) == 5
        assert await facts(app, database_url) == ["inner", "more", "outer", "more"]


async def test_a_result_without_events_is_only_a_result(make_app: AppFactory, database_url: str) -> None:
    class Answer(CommandHandler[Do, Any]):
        async def handle(self, command: Do) -> WithEvents[None]:
            return WithEvents(None)

    async with make_app(module_of("bank", Answer)) as app:
        assert await app.mediator.send(Do()) is None
        assert await facts(app, database_url) == []


async def test_a_plain_and_a_blocking_handler_give_their_results(make_app: AppFactory) -> None:
    class Plain(CommandHandler[Do, Any]):
        def handle(self, command: Do) -> str:
            return command.what

    @dataclass(frozen=True)
    class Compute(Query[int]):
        number: int

    class Blocking(QueryHandler[Compute, int]):
        blocking = True

        def handle(self, query: Compute) -> int:
            return query.number**2

    async with make_app(module_of("bank", Plain, Blocking)) as app:
        assert await app.mediator.send(Do("plain")) == "plain"
        assert await app.mediator.send(Compute(7)) == 49


@dataclass(frozen=True)
class Write(Query[None]):
    flush: bool


class WriteHandler(QueryHandler[Write, None]):
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def handle(self, query: Write) -> None:
        self.session.add(Effect(what="written by a query"))
        if query.flush:
            await self.session.flush()


async def test_a_query_cannot_write(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", WriteHandler, *BANK)) as app:
        with pytest.raises(DBAPIError, match=READ_ONLY):
            await app.mediator.send(Write(flush=True))

        assert await effects(app) == []
        assert await app.mediator.send(Open("Ada")) == "opened Ada"


async def test_what_a_query_would_write_is_not_dropped_in_silence(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", WriteHandler)) as app:
        with pytest.raises(DBAPIError, match=READ_ONLY):
            await app.mediator.send(Write(flush=False))

        assert await effects(app) == []


async def test_a_query_cannot_publish(make_app: AppFactory, database_url: str) -> None:
    class Publish(QueryHandler[Owners, list[str]]):
        def __init__(self, publisher: IntegrationEventPublisher) -> None:
            self.publisher = publisher

        async def handle(self, query: Owners) -> list[str]:
            self.publisher.publish(FactV1(what="never"))
            return []

    async with make_app(module_of("bank", Publish)) as app:
        with pytest.raises(UnitOfWorkRequiredError, match="publish"):
            await app.mediator.send(Owners())
        assert await facts(app, database_url) == []


async def test_a_command_that_a_query_sends_cannot_write(make_app: AppFactory) -> None:
    class Sneak(QueryHandler[Owners, list[str]]):
        def __init__(self, mediator: Mediator) -> None:
            self.mediator = mediator

        async def handle(self, query: Owners) -> list[str]:
            await self.mediator.send(Do())
            return []

    class DoHandler(CommandHandler[Do, Any]):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, command: Do) -> None:
            self.session.add(Effect(what="never"))
            await self.session.flush()

    async with make_app(module_of("bank", Sneak, DoHandler)) as app:
        with pytest.raises(DBAPIError, match=READ_ONLY):
            await app.mediator.send(Owners())
        assert await effects(app) == []


CALLS: list[str] = []


class Noting(PipelineBehavior):
    async def handle(self, message: Any, proceed: Proceed) -> Any:
        where = "inside" if current_unit_of_work() else "outside"
        CALLS.append(f"{type(self).__name__} {where}")
        result = await proceed()
        CALLS.append(f"{type(self).__name__} done")
        return result


class First(Noting):
    inside_transaction = False


class Second(Noting):
    inside_transaction = False


class Third(Noting):
    pass


class Fourth(Noting):
    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        assert context.message_type == "Open"
        self.session = session


@pytest.fixture
def calls() -> Iterator[list[str]]:
    CALLS.clear()
    yield CALLS
    CALLS.clear()


async def test_behaviours_stand_in_their_order_around_the_transaction(make_app: AppFactory, calls: list[str]) -> None:
    async with make_app(module_of("bank", *BANK), behaviors=[Third, First, Fourth, Second]) as app:
        await app.mediator.send(Open("Ada"))

    assert calls == [
        "First outside",
        "Second outside",
        "Third inside",
        "Fourth inside",
        "Fourth done",
        "Third done",
        "Second done",
        "First done",
    ]


async def test_a_behaviour_inside_shares_the_fate_of_the_transaction(make_app: AppFactory) -> None:
    class Audit(PipelineBehavior):
        def __init__(self, session: AsyncSession) -> None:
            self.session = session

        async def handle(self, message: Any, proceed: Proceed) -> Any:
            self.session.add(Effect(what=type(message).__name__))
            return await proceed()

    async with make_app(module_of("bank", OpenHandler), behaviors=[Audit]) as app:
        await app.mediator.send(Open("Ada"))
        with pytest.raises(ValueError, match="Bob"):
            await app.mediator.send(Open("Bob", fail=True))

        assert await effects(app) == [("Open", "")]


async def test_a_behaviour_may_answer_itself(make_app: AppFactory, database_url: str) -> None:
    class Cached(PipelineBehavior):
        inside_transaction = False

        async def handle(self, message: Any, proceed: Proceed) -> Any:
            return "cached"

    async with make_app(module_of("bank", *BANK), behaviors=[Cached]) as app:
        assert await app.mediator.send(Open("Ada")) == "cached"
        assert await facts(app, database_url) == []


class OwnerIsGiven(Validator[Open]):
    def validate(self, message: Open) -> Iterator[str]:
        if not message.owner:
            yield "owner: must not be empty"


class AnythingGoes(Validator[Command]):  # type: ignore[type-arg]
    def validate(self, message: Command[Any]) -> list[str]:
        return ["owner: too short"] if isinstance(message, Open) and len(message.owner) < 2 else []


async def test_every_problem_of_every_validator_is_told_before_the_transaction(
    make_app: AppFactory, database_url: str
) -> None:
    modules = module_of("bank", *BANK, OwnerIsGiven), module_of("rules", AnythingGoes)
    async with make_app(*modules, behaviors=[ValidationBehavior]) as app:
        with pytest.raises(ValidationFailedError) as refused:
            await app.mediator.send(Open(""))

        assert refused.value.problems == ("owner: must not be empty", "owner: too short")
        assert refused.value.message_type is Open
        assert await app.mediator.send(Open("Ada")) == "opened Ada"
        assert await facts(app, database_url) == ["Ada"]


async def test_an_invalid_nested_command_rolls_everything_back(make_app: AppFactory, database_url: str) -> None:
    async with make_app(module_of("bank", *BANK, OwnerIsGiven), behaviors=[ValidationBehavior]) as app:
        with pytest.raises(ValidationFailedError):
            await app.mediator.send(Open("Ada", then=Open("")))
        assert await facts(app, database_url) == []


async def test_messages_are_logged_without_their_content(make_app: AppFactory) -> None:
    async with make_app(module_of("bank", *BANK), behaviors=[LoggingBehavior]) as app:
        with capture_logs() as logs:
            await app.mediator.send(Open("secret"))
            with pytest.raises(ValueError, match="secret"):
                await app.mediator.send(Open("secret", fail=True))

    logged = [entry for entry in logs if entry["event"].startswith("message.")]
    assert logged == [
        {"event": "message.handled", "log_level": "info", "message_type": "Open"},
        {"event": "message.failed", "log_level": "warning", "message_type": "Open", "error": "ValueError"},
    ]
    assert "secret" not in str(logs)


async def test_lineage_is_bound_while_a_command_runs_and_restored_after(
    make_app: AppFactory, database_url: str
) -> None:
    seen: list[tuple[dict[str, Any], MessageContext]] = []

    class Look(CommandHandler[Do, Any]):
        def __init__(self, context: MessageContext, publisher: IntegrationEventPublisher) -> None:
            self.context, self.publisher = context, publisher

        async def handle(self, command: Do) -> None:
            seen.append((get_contextvars(), self.context))
            self.publisher.publish(FactV1(what=""))
            if command.what:
                raise ValueError(command.what)

    async with make_app(module_of("bank", Look)) as app:
        with bound_contextvars(correlation_id="mine", tenant="acme"):
            before = get_contextvars()
            await app.mediator.send(Do(), correlation_id="request-1")
            assert get_contextvars() == before
            with pytest.raises(ValueError, match="fails"):
                await app.mediator.send(Do("fails"), correlation_id="request-2")
            assert get_contextvars() == before
        assert current_lineage() is None
        assert current_unit_of_work() is None

        ((bound, context), (failed, _)) = seen
        assert bound == {"correlation_id": "request-1", "causation_id": str(context.message_id), "tenant": "acme"}
        assert failed["correlation_id"] == "request-2"
        assert (context.correlation_id, context.causation_id, context.module) == ("request-1", None, "bank")
        (row,) = await published(app, database_url)
        assert (row["correlation_id"], row["causation_id"]) == ("request-1", str(context.message_id))
        assert row["cause"] == "Do"


async def test_without_a_caller_a_command_begins_a_lineage_of_its_own(make_app: AppFactory) -> None:
    class Look(CommandHandler[Do, Any]):
        def __init__(self, context: MessageContext) -> None:
            self.context = context

        async def handle(self, command: Do) -> MessageContext:
            return self.context

    async with make_app(module_of("bank", Look)) as app:
        one, other = await app.mediator.send(Do()), await app.mediator.send(Do())

    assert one.correlation_id == str(one.message_id)
    assert other.correlation_id != one.correlation_id


@pytest.mark.parametrize("wrong", ["", "c" * 201, "a\nb", "\0", "\ud800"])
async def test_a_correlation_id_that_cannot_travel_is_refused(make_app: AppFactory, wrong: str) -> None:
    async with make_app(module_of("bank", *BANK)) as app:
        with pytest.raises(EventRefusedError, match="correlation id"):
            await app.mediator.send(Open("Ada"), correlation_id=wrong)
        assert await app.mediator.send(Owners()) == []
