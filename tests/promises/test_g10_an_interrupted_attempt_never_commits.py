"""G10: a cancelled or timed-out handler never commits afterwards, and is tried again; shutdown costs no attempt."""

import asyncio
from datetime import timedelta
from typing import ClassVar

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, MessageContext, RetryPolicy
from tests.promises.arrivals import arrive, envelope_of
from tests.promises.conftest import CampaignFactory
from tests.promises.crash_points import assert_kept
from tests.support import AppFactory, Effect, effects, module_of, quick_settings

pytestmark = pytest.mark.every_database


@event_topic("jobs", domain="plant")
class StartedV1(IntegrationEvent):
    text: str = ""


class Work(IntegrationEventHandler[StartedV1]):
    """Writes down its attempt, then does what the test wants in the attempts before `ends_at`."""

    retry = RetryPolicy.fixed(3, timedelta(0))
    timeout = timedelta(milliseconds=500)
    ends_at: ClassVar[int] = 2

    def __init__(self, session: AsyncSession, context: MessageContext) -> None:
        self._session, self._context = session, context

    async def handle(self, event: StartedV1) -> None:
        self._session.add(Effect(what="attempt", detail=f"{self._context.attempt}"))
        await self._session.flush()
        if self._context.attempt < self.ends_at:
            await self.interrupted()

    async def interrupted(self) -> None:
        await asyncio.Event().wait()


class TimeOut(Work):
    pass


class HideTheTimeout(Work):
    async def interrupted(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._session.add(Effect(what="hidden"))


class HideItAndWriteOn(Work):
    async def interrupted(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._session.add(Effect(what="hidden"))
            await self._session.flush()


class RaiseAnotherErrorThen(Work):
    async def interrupted(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("something else") from None


class CancelMyself(Work):
    async def interrupted(self) -> None:
        raise asyncio.CancelledError


class RaiseTimeoutError(Work):
    async def interrupted(self) -> None:
        raise TimeoutError("mine")


KINDS = [TimeOut, HideTheTimeout, HideItAndWriteOn, RaiseAnotherErrorThen, CancelMyself, RaiseTimeoutError]


@pytest.mark.timeout(900)
def test_killed_in_a_retry(new_campaign: CampaignFactory) -> None:
    assert_kept(new_campaign(), "G10", members=4)


@pytest.mark.parametrize("handler", KINDS)
async def test_the_interrupted_attempt_leaves_nothing_and_the_next_succeeds(
    handler: type[Work], make_app: AppFactory
) -> None:
    async with make_app(module_of("plant", handler)) as app:
        await arrive(app, envelope_of(StartedV1()))
        await app.drained()

        assert await effects(app) == [("attempt", "2")]


@pytest.mark.parametrize("handler", KINDS)
async def test_every_interrupted_attempt_counts(handler: type[Work], make_app: AppFactory) -> None:
    class Never(handler):  # type: ignore[valid-type, misc]
        ends_at = 100

    async with make_app(module_of("plant", Never)) as app:
        await arrive(app, envelope_of(StartedV1()))
        await app.drained()

        assert await effects(app) == []
        assert [letter.attempts for letter in await app.dead_letters.list()] == [3]


async def test_a_timeout_is_told_as_such(make_app: AppFactory) -> None:
    class Never(HideTheTimeout):
        ends_at = 100

    async with make_app(module_of("plant", Never)) as app:
        await arrive(app, envelope_of(StartedV1()))
        await app.drained()

        (letter,) = await app.dead_letters.list()
        assert letter.error_type == "mediator.errors.HandlerTimeoutError"


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_shutdown_in_the_middle_of_an_attempt_costs_none(failures: int, make_app: AppFactory) -> None:
    entered, attempts = asyncio.Event(), list[int]()

    class Interrupted(Work):
        timeout = timedelta(seconds=30)
        retry = RetryPolicy.fixed(failures + 1, timedelta(0))

        async def handle(self, event: StartedV1) -> None:
            self._session.add(Effect(what="attempt", detail=f"{self._context.attempt}"))
            await self._session.flush()
            if self._context.attempt <= failures:
                raise RuntimeError("fails before that")
            attempts.append(self._context.attempt)
            if len(attempts) <= 2:
                entered.set()
                await asyncio.Event().wait()

    modules, settings = module_of("plant", Interrupted), quick_settings(drain_on_stop=timedelta(0))
    async with make_app(modules, settings=settings) as app:
        await app.publish_in_own_transaction(StartedV1())
        await entered.wait()
    entered.clear()
    async with make_app(modules, settings=settings):
        await entered.wait()
    async with make_app(modules, settings=settings) as app:
        await app.drained()

        # The last attempt that the policy allows, three times over, and it is not dead.
        assert attempts == [failures + 1] * 3
        assert await effects(app) == [("attempt", f"{failures + 1}")]
        assert await app.dead_letters.list() == []


async def test_a_shutdown_that_the_handler_hides_does_not_commit(make_app: AppFactory) -> None:
    entered = asyncio.Event()
    calls = list[str]()

    class Hide(Work):
        timeout = timedelta(seconds=30)

        async def handle(self, event: StartedV1) -> None:
            calls.append("call")
            self._session.add(Effect(what=f"call {len(calls)}"))
            if len(calls) == 1:
                entered.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return

    modules, settings = module_of("plant", Hide), quick_settings(drain_on_stop=timedelta(0))
    async with make_app(modules, settings=settings) as app:
        await app.publish_in_own_transaction(StartedV1())
        await entered.wait()
    async with make_app(modules, settings=settings) as app:
        await app.drained()

        assert await effects(app) == [("call 2", "")]


async def test_a_shutdown_waits_for_what_is_under_way(make_app: AppFactory) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    class Finish(Work):
        timeout = timedelta(seconds=30)

        async def handle(self, event: StartedV1) -> None:
            entered.set()
            await leave.wait()
            self._session.add(Effect(what="finished"))

    modules = module_of("plant", Finish)
    async with make_app(modules) as app:
        await app.publish_in_own_transaction(StartedV1())
        await entered.wait()
        asyncio.get_running_loop().call_soon(leave.set)

    async with make_app(modules) as app:
        assert await effects(app) == [("finished", "")]
