"""The conformance suite fails for a transport that breaks a promise: each variant here breaks one."""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import timedelta
from typing import Any

import pytest

from mediator.messaging.cloudevents import to_headers
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Capabilities, Delivery, Health, Settlement, Subscription, Transport
from mediator.testing import TransportSuite
from mediator.transports import MemoryTransport
from mediator.transports.memory import _delivery

Outcomes = AsyncIterator[tuple[Envelope, Exception | None]]


class Passing:
    """A subscription that does as it should."""

    def __init__(self, inner: Subscription) -> None:
        self.inner = inner
        self.unsettled: list[Delivery] = []

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        found = await self.inner.fetch(at_most, timeout)
        self.unsettled += found
        return found

    async def take(self, lanes: Collection[int]) -> None:
        await self.inner.take(lanes)

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        await self.inner.settle(outcomes)

    async def widen(self, topics: Sequence[str]) -> None:
        await self.inner.widen(topics)

    async def extend(self, deliveries: Sequence[Delivery]) -> None:
        await self.inner.extend(deliveries)

    async def close(self) -> None:
        await self.inner.close()


class FillsUp(Passing):
    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        found: list[Delivery] = []
        while len(found) < at_most and (more := await self.inner.fetch(at_most - len(found), timeout)):
            found += more
        return found


class GivesMoreThanAskedFor(Passing):
    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        return await self.inner.fetch(at_most + 1, timeout)


class GivesNoneTwice(Passing):
    """Gives what comes again to nobody."""

    async def fetch(self, at_most: int, timeout: timedelta) -> Sequence[Delivery]:
        return [delivery for delivery in await self.inner.fetch(at_most, timeout) if delivery.attempt == 1]


class SettlesAll(Passing):
    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        await self.inner.settle([(delivery, Settlement.ACK) for delivery in self.unsettled])


class SettlesUpToTheLast(Passing):
    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        last = max((self.unsettled.index(delivery) for delivery, _ in outcomes), default=-1)
        await self.inner.settle([(delivery, Settlement.ACK) for delivery in self.unsettled[: last + 1]])


class SettlesById(Passing):
    """Takes the settlement of an earlier arrival for that of the one which is under way."""

    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        last = {delivery.event_id: delivery for delivery in self.unsettled}
        await self.inner.settle([(last[delivery.event_id], how) for delivery, how in outcomes])


class SettlesNothing(Passing):
    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        """They come again."""


class NeverGivesBack(Passing):
    async def settle(self, outcomes: Sequence[tuple[Delivery, Settlement]]) -> None:
        await self.inner.settle([(delivery, Settlement.ACK) for delivery, _ in outcomes])


class LosesWhatIsUnsettled(Passing):
    async def close(self) -> None:
        await self.inner.settle([(delivery, Settlement.ACK) for delivery in self.unsettled])


class GivesBackBackwards(Passing):
    async def close(self) -> None:
        await self.inner.settle([(delivery, Settlement.GIVE_BACK) for delivery in self.unsettled])


class ForgetsWhatIsUnsettled(Passing):
    async def close(self) -> None:
        """It stays with a member that is gone."""


class ClosesOnce(Passing):
    closed = False

    async def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True
        await self.inner.close()


class CannotWiden(Passing):
    async def widen(self, topics: Sequence[str]) -> None:
        """It stays as it was."""


class Honest(MemoryTransport):
    subscription: type[Passing] = Passing

    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return self.subscription(await super().subscribe(group, topics, prefetch))


class LosesOne(Honest):
    async def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        async for outcome in super().publish(batch[:-1]):
            yield outcome
        for envelope in batch[-1:]:
            yield envelope, None


class ForgetsAnOutcome(Honest):
    async def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        outcomes = [outcome async for outcome in super().publish(batch)]
        for outcome in outcomes[: len(outcomes) - len(outcomes) // 2]:
            yield outcome


class TellsOfOneTwice(Honest):
    async def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        async for outcome in super().publish(batch):
            yield outcome
        yield outcome


class PublishesBackwards(Honest):
    def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        return super().publish(batch[::-1])


class RaisesWhenClosed(Honest):
    async def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        if not self._open:
            raise RuntimeError("closed")
        async for outcome in super().publish(batch):
            yield outcome


class ConfirmsWhenClosed(Honest):
    async def publish(self, batch: Sequence[Envelope]) -> Outcomes:
        async for envelope, _ in super().publish(batch):
            yield envelope, None


class HangsWhenClosed(Honest):
    async def close(self) -> None:
        """Publications go on for ever."""


class DeliversTwice(Honest):
    def _hand_out(self, envelope: Envelope, outcomes: Any) -> Any:
        publication = super()._hand_out(envelope, outcomes)
        for name in publication.waiting_for:
            self._groups[name].put(_delivery(envelope, to_headers(envelope), 1), publication)
        return publication


class OneGroupGetsIt(Honest):
    def _hand_out(self, envelope: Envelope, outcomes: Any) -> Any:
        groups = self._groups
        self._groups = dict(list(groups.items())[:1])
        try:
            return super()._hand_out(envelope, outcomes)
        finally:
            self._groups = groups


class EveryMemberGetsIt(Honest):
    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return await super().subscribe(f"{group}-{len(self._groups)}", topics, prefetch)


class IgnoresPrefetch(Honest):
    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return await super().subscribe(group, topics, 10_000)


class KeepsFewerUnderWay(Honest):
    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return await super().subscribe(group, topics, prefetch - 1)


class LosesAHeader(Honest):
    def _hand_out(self, envelope: Envelope, outcomes: Any) -> Any:
        publication = super()._hand_out(envelope, outcomes)
        for group in self._groups.values():
            for delivery, _ in group.waiting:
                delivery.headers.pop("ce-callback", None)  # type: ignore[attr-defined]
        return publication


class DecodesHeaders(Honest):
    def _hand_out(self, envelope: Envelope, outcomes: Any) -> Any:
        publication = super()._hand_out(envelope, outcomes)
        for group in self._groups.values():
            for delivery, _ in group.waiting:
                delivery.headers.update(envelope.headers)  # type: ignore[attr-defined]
        return publication


class ChangesBytes(Honest):
    def _hand_out(self, envelope: Envelope, outcomes: Any) -> Any:
        changed = envelope.body.decode(errors="replace").encode()
        object.__setattr__(envelope, "body", changed)
        return super()._hand_out(envelope, outcomes)


class ListensToEverything(Honest):
    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return await super().subscribe(group, ["#"], prefetch)


class KnowsNoPatterns(Honest):
    async def subscribe(self, group: str, topics: Sequence[str], prefetch: int) -> Subscription:
        return await super().subscribe(group, [topic.replace("#", "*") for topic in topics], prefetch)


class SaysThatItHasNoPatterns(Honest):
    capabilities = Capabilities(durable=True, ordered=True, in_process=True)


class IsAlwaysWell(Honest):
    async def health(self) -> Health:
        return Health(ok=True, round_trip=timedelta(0))


class ChecksWithWords(Honest):
    async def check(self) -> Any:
        return ["appendonly is off"]


class InAHurry(TransportSuite):
    """The suite, for what can only fail."""

    has_lanes = False
    durable_groups = False
    refuses_unknown_topics = False
    confirms_after_acknowledgement = True
    patience = timedelta(milliseconds=500)
    quiet = timedelta(milliseconds=50)
    longest = timedelta(seconds=3)

    def __init__(self, transport: type[Honest]) -> None:
        self.transport = transport

    def make_transport(self, application: str) -> Transport:
        return self.transport()


def with_members(subscription: type[Passing]) -> type[Honest]:
    return type(subscription.__name__, (Honest,), {"subscription": subscription})


CAUGHT: dict[type[Honest], str] = {
    LosesOne: "test_every_envelope_of_a_large_batch_is_confirmed_and_arrives",
    ForgetsAnOutcome: "test_the_same_envelope_twice_has_two_outcomes",
    TellsOfOneTwice: "test_publications_at_the_same_time_get_their_own_outcomes",
    PublishesBackwards: "test_a_key_keeps_its_order_over_several_members_and_topics",
    RaisesWhenClosed: "test_publishing_when_closed_ends_as_unavailable",
    ConfirmsWhenClosed: "test_publishing_when_closed_ends_as_unavailable",
    HangsWhenClosed: "test_closing_while_busy_ends_with_an_outcome_for_everything",
    DeliversTwice: "test_members_share_what_their_group_gets",
    OneGroupGetsIt: "test_every_group_gets_a_copy",
    EveryMemberGetsIt: "test_members_share_what_their_group_gets",
    IgnoresPrefetch: "test_no_more_than_the_prefetch_is_unsettled",
    KeepsFewerUnderWay: "test_no_more_than_the_prefetch_is_unsettled",
    LosesAHeader: "test_every_attribute_and_header_arrives_unchanged",
    DecodesHeaders: "test_every_attribute_and_header_arrives_unchanged",
    ChangesBytes: "test_a_large_body_arrives_unchanged",
    ListensToEverything: "test_a_group_gets_only_what_it_listens_to",
    KnowsNoPatterns: "test_a_hash_is_any_number_of_segments",
    SaysThatItHasNoPatterns: "test_it_can_do_what_the_suite_was_told",
    IsAlwaysWell: "test_it_is_not_well_when_it_is_closed",
    ChecksWithWords: "test_checking_gives_faults",
    with_members(FillsUp): "test_fetching_does_not_wait_to_fill_up",
    with_members(GivesMoreThanAskedFor): "test_fetching_gives_no_more_than_asked_for",
    with_members(GivesNoneTwice): "test_what_is_given_back_comes_again_with_a_higher_attempt",
    with_members(SettlesAll): "test_of_what_is_settled_out_of_order_only_the_rest_comes_again",
    with_members(SettlesUpToTheLast): "test_settling_out_of_order_loses_nothing",
    with_members(SettlesById): "test_the_settlement_of_what_was_given_back_is_ignored",
    with_members(SettlesNothing): "test_what_is_settled_never_comes_again",
    with_members(NeverGivesBack): "test_what_is_given_back_loses_nothing_of_what_came_with_it",
    with_members(LosesWhatIsUnsettled): "test_settling_after_closing_is_harmless",
    with_members(GivesBackBackwards): "test_what_a_closed_member_did_not_settle_comes_again_in_order",
    with_members(ForgetsWhatIsUnsettled): "test_closing_a_member_twice_is_harmless",
    with_members(ClosesOnce): "test_closing_a_member_twice_is_harmless",
    with_members(CannotWiden): "test_a_member_may_widen_what_it_receives",
}


@pytest.mark.parametrize("broken", CAUGHT, ids=lambda broken: broken.__name__)
async def test_a_broken_promise_is_noticed(broken: type[Honest]) -> None:
    test = getattr(InAHurry, CAUGHT[broken])
    await test(InAHurry(Honest))

    with pytest.raises((AssertionError, RuntimeError, TimeoutError)):
        await test(InAHurry(broken))


def test_what_a_transport_does_not_have_is_no_test() -> None:
    test = "test_nothing_comes_before_a_lane_is_taken"

    class Again(InAHurry):
        has_lanes = True

    class OfItsOwn(InAHurry):
        def test_nothing_comes_before_a_lane_is_taken(self) -> None:  # type: ignore[override]
            """Instead of the suite's."""

    assert getattr(InAHurry, test) is None
    assert callable(getattr(Again, test))
    assert callable(getattr(OfItsOwn, test))
    assert getattr(InAHurry, "test_after_a_break_it_publishes_again_by_itself") is None  # noqa: B009 - for mypy
