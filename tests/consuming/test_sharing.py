"""The lanes of a group are shared out among its processes, and none is under way in two of them."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from typing import Self, cast

import pytest
import pytest_asyncio

from mediator.consuming.sharing import LaneShare
from mediator.messaging.supervision import background
from mediator.messaging.transport import Subscription
from mediator.storage.database import Database
from mediator.storage.slots import LockSession, slot_locks
from tests.storage.rows import end_session, eventually, session_of

LANES = frozenset(range(8))
SOME_LOOKS_SECONDS = 1.5


class Member:
    """A process of the group: its subscription is the record of what it takes."""

    def __init__(self, url: str, group: str = "shop.billing") -> None:
        self.database = Database(url)
        self.session = LockSession(self.database)
        self.lanes: frozenset[int] = frozenset()
        self.busy: set[int] = set()
        self.gives_up_slowly = False
        self.history: list[frozenset[int]] = []
        self.locks = slot_locks(self.database, f"{group}.lanes", len(LANES), self.session)
        self.share = LaneShare(self.locks, lambda: self.busy)
        self.stack = AsyncExitStack()

    async def take(self, lanes: Collection[int]) -> None:
        if self.gives_up_slowly and not self.lanes <= set(lanes):
            await asyncio.sleep(2)
        self.lanes = frozenset(lanes)
        self.history.append(self.lanes)

    @property
    def subscription(self) -> Subscription:
        return cast(Subscription, self)

    async def __aenter__(self) -> Self:
        await self.stack.enter_async_context(background("lanes", lambda: self.share.keep(self.subscription)))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stack.aclose()
        await self.share.end()
        await self.session.close()
        await self.database.close()


@pytest_asyncio.fixture
async def members(database_url: str) -> AsyncIterator[tuple[Member, Member]]:
    async with Member(database_url) as one, Member(database_url) as other:
        yield one, other


servers = pytest.mark.databases("postgresql", "mariadb", "psycopg")


def are_shared_out(*members: Member) -> bool:
    shares = [member.lanes for member in members]
    return all(shares) and frozenset().union(*shares) == LANES and sum(map(len, shares)) == len(LANES)


@pytest.mark.every_database
async def test_one_alone_has_all(database_url: str) -> None:
    async with Member(database_url) as one:
        await eventually(lambda: one.lanes == LANES)
        await asyncio.sleep(SOME_LOOKS_SECONDS)
        assert one.lanes == LANES, "nobody wants any of them"


@servers
async def test_two_share_fairly(members: tuple[Member, Member]) -> None:
    await eventually(lambda: are_shared_out(*members) and {len(member.lanes) for member in members} == {4})
    shares = [member.lanes for member in members]
    await asyncio.sleep(SOME_LOOKS_SECONDS)
    assert [member.lanes for member in members] == shares, "a fair share is kept"


@pytest.mark.databases("sqlite")
async def test_on_sqlite_the_second_waits_for_the_first_to_go(database_url: str) -> None:
    async with Member(database_url) as one, Member(database_url) as other:
        await eventually(lambda: (one.lanes, other.lanes) in [(LANES, frozenset()), (frozenset(), LANES)])
        stays, goes = (one, other) if other.lanes else (other, one)
        await goes.share.stop(goes.subscription)
        await eventually(lambda: stays.lanes == LANES)
        assert not goes.lanes


@servers
async def test_a_lane_changes_hands_only_when_nothing_of_it_is_under_way(database_url: str) -> None:
    async with Member(database_url) as one:
        await eventually(lambda: one.lanes == LANES)
        one.busy = set(LANES)

        async with Member(database_url) as other:
            await eventually(lambda: len(one.lanes) == 4)
            await asyncio.sleep(1.5)
            assert not other.lanes
            one.busy = set()
            await eventually(lambda: are_shared_out(one, other))


@servers
async def test_nothing_is_taken_that_another_still_fetches_from(database_url: str) -> None:
    async with Member(database_url) as one:
        await eventually(lambda: one.lanes == LANES)
        one.gives_up_slowly = True

        async with Member(database_url) as other:

            def is_shared_safely() -> bool:
                assert not one.lanes & other.lanes
                return are_shared_out(one, other)

            await eventually(is_shared_safely)


@servers
async def test_whoever_stops_leaves_its_lanes_to_the_others(members: tuple[Member, Member]) -> None:
    one, other = members
    await eventually(lambda: are_shared_out(one, other))
    one.busy = {min(one.lanes)}

    await one.share.stop(one.subscription)
    await eventually(lambda: other.lanes == LANES - one.busy)
    one.busy = set()
    await one.share.end()

    await eventually(lambda: other.lanes == LANES)
    assert not one.lanes


@servers
async def test_a_member_that_dies_loses_its_lanes_to_the_others(members: tuple[Member, Member]) -> None:
    one, other = members
    await eventually(lambda: are_shared_out(one, other))

    shares = one.lanes, other.lanes
    await one.stack.aclose()
    await one.session.close()

    await eventually(lambda: other.lanes == LANES)
    assert shares[1] < other.lanes == shares[0] | shares[1]


@servers
async def test_a_lost_connection_costs_the_lanes_until_it_is_there_again(database_url: str) -> None:
    async with Member(database_url) as one:
        await eventually(lambda: one.lanes == LANES)
        assert one.session._connection is not None

        end_session(database_url, await session_of(one.session._connection))

        await eventually(lambda: one.history[-2:] == [frozenset(), LANES])


@servers
async def test_groups_on_one_connection_do_not_mix(database_url: str) -> None:
    async with Member(database_url) as one, Member(database_url, "shop.stock") as other:
        locks = slot_locks(one.database, "shop.mail.lanes", len(LANES), one.session)

        await eventually(lambda: one.lanes == other.lanes == LANES)
        assert await locks.acquire(()) == LANES
        await locks.release()
        await one.locks.release()

        assert await locks.acquire(()) == LANES
