"""What `publish` promises: one outcome for each envelope, and what an outcome means."""

from collections import Counter

from mediator.errors import PublishRefusedError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.testing.conformance.promises import Promises, promise
from mediator.testing.conformance.trial import BILLING, ORDERS, Outcome, Trial, bodies

__all__ = ["PublishingPromises"]

_UNKNOWN = "test.shop.public.nowhere.v1"


class PublishingPromises(Promises):
    """Tests of publishing."""

    @promise()
    async def test_every_envelope_of_a_large_batch_is_confirmed_and_arrives(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        batch = trial.numbered(1000, keys=[f"order-{number}" for number in range(50)])
        publication = trial.publishing(*batch)

        came = await trial.consume([member], len(batch))

        assert _by_identity(await publication) == Counter((id(envelope), None) for envelope in batch)
        assert {delivery.event_id for delivery in came} == {str(envelope.event_id) for envelope in batch}

    @promise()
    async def test_an_empty_batch_has_no_outcomes(self, trial: Trial) -> None:
        assert await trial.outcomes([]) == []

    @promise()
    async def test_a_topic_that_no_group_listens_to_is_confirmed(self, trial: Trial) -> None:
        await trial.provision(topics=[ORDERS])
        sent = trial.envelope()

        assert await trial.outcomes([sent]) == [(sent, None)]

    @promise()
    async def test_the_same_envelope_twice_has_two_outcomes(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        sent = trial.envelope("1", key="order-1")
        publication = trial.publishing(sent, sent)

        # Whether a copy arrives is the broker's business.
        await member.acknowledge(*await member.fetch(1))
        await member.acknowledge(*await member.subscription.fetch(1, self.quiet))

        assert _by_identity(await publication) == Counter({(id(sent), None): 2})

    @promise()
    async def test_publications_at_the_same_time_get_their_own_outcomes(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        batches = [trial.numbered(20, keys=[f"order-{number}"]) for number in range(5)]
        publications = [trial.publishing(*batch) for batch in batches]

        await trial.consume([member], 100)

        for batch, publication in zip(batches, publications, strict=True):
            assert _by_identity(await publication) == Counter((id(envelope), None) for envelope in batch)

    @promise()
    async def test_a_publication_that_nobody_waits_for_any_more_disturbs_no_other(self, trial: Trial) -> None:
        await trial.provision(topics=[ORDERS])
        abandoned = trial.transport.publish([trial.envelope() for _ in range(10)])
        async for _ in abandoned:
            break
        await abandoned.aclose()  # type: ignore[attr-defined]
        sent = trial.envelope()

        assert await trial.outcomes([sent]) == [(sent, None)]

    @promise("refuses_unknown_topics")
    async def test_an_unknown_topic_is_refused_and_the_others_are_confirmed(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        first, lost, last = trial.envelope("1"), trial.envelope("2", topic=_UNKNOWN), trial.envelope("3")

        outcomes = await trial.outcomes([first, lost, last])

        assert (_of(outcomes, first), _of(outcomes, last)) == (None, None)
        assert isinstance(_of(outcomes, lost), PublishRefusedError)
        assert _UNKNOWN in str(_of(outcomes, lost))
        assert sorted(bodies(await member.fetch(2))) == ["1", "3"]
        await member.fetch_nothing()

    @promise("refuses_unknown_topics")
    async def test_a_key_stops_at_its_first_failure(self, trial: Trial) -> None:
        await trial.provision(BILLING)
        member = await trial.join()
        first = trial.envelope("1", key="order-1")
        failing = trial.envelope("2", key="order-1", topic=_UNKNOWN)
        behind = trial.envelope("3", key="order-1")
        other = trial.envelope("4", key="order-2")

        outcomes = await trial.outcomes([first, failing, behind, other])

        assert (_of(outcomes, first), _of(outcomes, other)) == (None, None)
        assert isinstance(_of(outcomes, failing), PublishRefusedError)
        assert repr(_of(outcomes, behind)) == repr(_of(outcomes, failing))
        assert sorted(bodies(await member.fetch(2))) == ["1", "4"]
        await member.fetch_nothing()

    @promise("refuses_unknown_topics")
    async def test_envelopes_without_a_key_do_not_stop_each_other(self, trial: Trial) -> None:
        await trial.provision(topics=[ORDERS])
        failing, behind = trial.envelope(topic=_UNKNOWN), trial.envelope()

        outcomes = await trial.outcomes([failing, behind])

        assert isinstance(_of(outcomes, failing), PublishRefusedError)
        assert _of(outcomes, behind) is None

    @promise()
    async def test_publishing_when_closed_ends_as_unavailable(self, trial: Trial) -> None:
        await trial.provision(topics=[ORDERS])
        await trial.transport.close()
        batch = trial.numbered(3, keys=["order-1", "order-2", None])

        outcomes = await trial.outcomes(batch)

        assert Counter(id(envelope) for envelope, _ in outcomes) == Counter(map(id, batch))
        assert {type(error) for _, error in outcomes} == {TransportUnavailableError}


def _by_identity(outcomes: list[Outcome]) -> Counter[tuple[int, Exception | None]]:
    return Counter((id(envelope), error) for envelope, error in outcomes)


def _of(outcomes: list[Outcome], envelope: Envelope) -> Exception | None:
    (error,) = [error for sent, error in outcomes if sent is envelope]
    return error
