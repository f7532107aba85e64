"""Redis Streams: the promises of every transport, and what is Redis's own.

MEDIATOR_TEST_REDIS says where it is; without it, the usual place on this machine.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs

from mediator.errors import BrokerError, PublishRefusedError, SettingsError, TransportUnavailableError
from mediator.messaging.envelope import Envelope
from mediator.messaging.transport import Delivery, Settlement, Transport, lane_of
from mediator.testing import TransportSuite
from mediator.testing.conformance.trial import BILLING, INVOICES, ORDERS, STOCK, Member, Trial, bodies, in_order_per_key
from mediator.transports import transport_for
from mediator.transports.redis import RedisTransport, server
from mediator.transports.redis import transport as redis_transport
from mediator.transports.redis.ownership import Lane, shares
from mediator.transports.redis.subscription import RedisSubscription
from tests.storage.rows import eventually
from tests.support.brokers import Brokers
from tests.support.own_redis import RedisServer
from tests.support.redis import SHARED as URL
from tests.support.redis import delete_keys

NOBODY = "redis://127.0.0.1:1"
NOW = timedelta(0)


@pytest.fixture(autouse=True)
def shared(brokers: Brokers) -> None:
    """The server that the tests share, which has to answer."""
    brokers.url("redis")


@pytest.fixture(scope="module")
def stopped_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def own(stopped_server: RedisServer) -> Iterator[RedisServer]:
    """A server of the test's own, not started yet."""
    yield stopped_server
    stopped_server.kill()
    for file in stopped_server.data.glob("appendonlydir/*"):
        file.unlink()


def url_of(application: str, url: str = URL, lanes: int = 4) -> str:
    return f"{url}?prefix={application}&lanes={lanes}"


class TestRedisTransport(TransportSuite):
    url = URL

    def make_transport(self, application: str) -> Transport:
        return RedisTransport(url_of(application, self.url))

    async def clean_up(self, application: str) -> None:
        await delete_keys(self.url, f"{application}:")

    async def break_connection(self, transport: Transport) -> None:
        async with Redis.from_url(self.url) as redis:
            for connection in connections_of(transport):
                host, port = connection._writer.get_extra_info("sockname")[:2]
                await redis.client_kill(f"{host}:{port}")


def connections_of(transport: Transport) -> list[Any]:
    """What its clients are connected with."""
    server = cast("RedisTransport", transport)._server
    pools = [client.connection_pool for client in (server._redis, *server._connections) if client is not None]
    found = [link for pool in pools for link in (*pool._available_connections, *pool._in_use_connections)]
    return [link for link in found if link.is_connected]


@pytest_asyncio.fixture
async def trial(shared: None) -> AsyncIterator[Trial]:
    """A trial on the shared server."""
    async with Trial(TestRedisTransport()) as trial:
        yield trial


@asynccontextmanager
async def trial_on(server: RedisServer) -> AsyncIterator[Trial]:
    suite = TestRedisTransport()
    suite.url = server.url()
    async with Trial(suite) as trial:
        yield trial
        # What it made ends with the server, which may be gone.
        suite.url = URL


def made_by(trial: Trial) -> RedisTransport:
    return cast("RedisTransport", trial.transport)


@asynccontextmanager
async def connected(url: str = URL) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as redis:
        yield redis


async def lengths(trial: Trial) -> list[int]:
    async with connected() as redis:
        return [await redis.xlen(f"{trial.application}:lane:{lane}") for lane in trial.lanes]


async def taking_part(member: Member) -> list[str]:
    """Fetch and acknowledge what there is."""
    found = await member.fetch_all()
    await member.acknowledge(*found)
    return bodies(found)


# --- address ----------------------------------------------------------------------------------------------------------


def test_the_scheme_names_it() -> None:
    assert isinstance(transport_for("redis://127.0.0.1"), RedisTransport)
    assert transport_for("rediss://127.0.0.1").name == "rediss"
    assert transport_for("redis://127.0.0.1").capabilities.lanes == 16


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://", "name a host"),
        ("redis://:secret@broker:port", "port"),
        ("redis://:secret@broker/shop", "the database 'shop' is no number"),
        ("redis://:secret@broker?prefx=shop", "'prefx' is unknown"),
        ("redis://:secret@broker?prefix=", "prefix has"),
        ("redis://:secret@broker?prefix=a*b", "prefix has"),
        ("redis://:secret@broker?lanes=0", "lanes = '0'"),
        ("redis://:secret@broker?lanes=257", "lanes = '257'"),
        ("redis://:secret@broker?lanes=many", "lanes = 'many'"),
        ("redis://:secret@broker?ca=x", "'ca' is unknown"),
    ],
)
def test_a_wrong_address_is_refused_without_telling_the_password(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        transport_for(url)
    assert "secret" not in f"{refused.value}{refused.value!r}"


async def test_an_address_where_nobody_answers_is_refused() -> None:
    with pytest.raises(BrokerError, match=r"redis://127.0.0.1:1 does not answer .*Start it, or correct the URL"):
        await RedisTransport(NOBODY).open()


async def test_an_address_where_something_else_answers_is_refused() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerError, match="does not answer"):
            await RedisTransport(f"redis://127.0.0.1:{port}").open()


async def test_an_address_where_nobody_says_a_word_is_refused(own: RedisServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.3)
    own.start()
    own.pause()
    with pytest.raises(BrokerError, match="does not answer"):
        await RedisTransport(own.url()).open()
    own.resume()


async def test_a_database_that_is_not_there_is_refused() -> None:
    with pytest.raises(BrokerError, match="refuses the connection"):
        await RedisTransport(f"{URL}/9999").open()


async def test_a_user_without_rights_is_refused(own: RedisServer) -> None:
    own.start(user="limited on >word ~* &* +@all -eval")
    with pytest.raises(BrokerError, match=r"cannot be used .*NOPERM|cannot be used .*permissions"):
        await RedisTransport(own.url(user="limited:word")).open()


async def test_wrong_passwords_are_refused_and_not_told(own: RedisServer) -> None:
    own.start(requirepass="right-one")

    for user in ("", ":wrong-one"):
        with pytest.raises(BrokerError, match="refuses the user or the password") as refused:
            await RedisTransport(own.url(user=user)).open()
        assert "wrong-one" not in f"{refused.value}{refused.value!r}"
    transport = RedisTransport(own.url(user=":right%2Done"))
    await transport.open()
    assert (await transport.health()).ok
    await transport.close()


async def test_it_speaks_tls(own: RedisServer) -> None:
    authority, key = certificate_for_loopback(own.folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = {"tls-cert-file": authority, "tls-key-file": key}
    own.start(**{"tls-port": port, "tls-auth-clients": "no", **files})
    url = f"rediss://127.0.0.1:{port}"

    with pytest.raises(BrokerError, match="does not answer"):
        await RedisTransport(url).open()
    transport = RedisTransport(f"{url}?ca={authority}")
    await transport.open()
    assert (await transport.health()).ok
    await transport.close()


def certificate_for_loopback(folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a broker")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    signed = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(signed.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


async def test_another_number_of_lanes_is_refused(trial: Trial) -> None:
    early = RedisTransport(url_of(trial.application, lanes=5))
    await early.open()
    await trial.provision(BILLING)

    with pytest.raises(BrokerError, match=r"has 4 lanes .*asks for 5. Add lanes=4"):
        await RedisTransport(url_of(trial.application, lanes=5)).open()
    with pytest.raises(BrokerError, match="has 4 lanes"):
        await early.provision([ORDERS], {})
    await early.close()


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, []),
        ({"appendfsync": "always", "maxmemory": "100mb"}, []),
        ({"appendonly": "no"}, ["appendonly: is off"]),
        ({"appendfsync": "no"}, ["appendfsync: is no"]),
        ({"maxmemory-policy": "allkeys-lru"}, ["maxmemory-policy: is not noeviction"]),
        ({"appendonly": "no", "maxmemory-policy": "volatile-ttl"}, ["appendonly: is off", "maxmemory-policy: is not"]),
    ],
)
async def test_settings_that_break_promises_are_faults(
    own: RedisServer, settings: dict[str, str], told: list[str]
) -> None:
    own.start(**settings)
    async with trial_on(own) as trial:
        faults = await trial.transport.check()

        assert [told for told, fault in zip(told, faults, strict=True) if told not in str(fault)] == []


async def test_what_may_not_be_read_is_passed_over(own: RedisServer) -> None:
    own.start(appendonly="no", user="limited on >word ~* &* +@all -config")
    transport = RedisTransport(own.url(user="limited:word"))
    await transport.open()

    assert [fault.where.rpartition(" ")[2] for fault in await transport.check()] == ["appendonly"]

    async with connected(own.url()) as redis:
        await redis.acl_setuser("limited", commands=["-info"])
    assert await transport.check() == []
    await transport.close()


# --- what is on the broker --------------------------------------------------------------------------------------------


async def test_what_others_have_added_is_delivered_as_it_is(trial: Trial) -> None:
    await trial.provision(BILLING)
    member = await trial.join()
    stream = f"{trial.application}:lane:1"
    async with connected() as redis:
        await redis.xadd(stream, {"order": "7", "raw": b"\xff\x00"})
        await redis.xadd(stream, {"topic": ORDERS, "body": "{}"})
        await redis.xadd(stream, {"topic": "test.unknown", "body": "{}"})

    foreign, without_headers = await member.fetch(2)
    assert (foreign.topic, foreign.headers, foreign.body) == (stream, {"order": "7"}, b"order: 7\nraw: \xff\x00")
    assert (foreign.event_id, foreign.key, foreign.lane) == (None, None, 1)
    assert (without_headers.topic, without_headers.headers, without_headers.body) == (ORDERS, {}, b"{}")
    await member.acknowledge(foreign, without_headers)
    await member.close()
    await (await trial.join()).fetch_nothing()


async def test_what_was_deleted_by_hand_is_passed_over(trial: Trial) -> None:
    await trial.provision(BILLING)
    member = await trial.join()
    await trial.send(*trial.numbered(3, keys=["order-1"]))
    (first, *_) = await member.fetch(3)
    async with connected() as redis:
        stream = f"{trial.application}:lane:{first.lane}"
        await redis.xtrim(stream, maxlen=2, approximate=False)
    await member.close()

    assert await taking_part(await trial.join()) == ["1", "2"]


async def test_what_every_group_has_acknowledged_is_cut_off_and_nothing_else(trial: Trial) -> None:
    await trial.provision(BILLING, STOCK)
    billing, stock = await trial.join(BILLING), await trial.join(STOCK)
    for envelope in trial.numbered(10, keys=["order-1"]):
        await trial.send(envelope)
        await asyncio.sleep(0.002)  # Their ids have a moment each.
    await billing.acknowledge(*await billing.fetch(10))
    first, second, third, *_ = await stock.fetch(5)

    await made_by(trial)._trim()
    assert sum(await lengths(trial)) == 10, "the other group has acknowledged nothing"
    await stock.acknowledge(first, second)
    await made_by(trial)._trim()
    assert sum(await lengths(trial)) == 8, "one is unsettled, and five are not read"

    await stock.acknowledge(third)
    await stock.close()
    assert await taking_part(await trial.join(STOCK)) == [str(number) for number in range(3, 10)]
    await made_by(trial)._trim()
    assert sum(await lengths(trial)) <= 1, "the last one stays, as a mark"


async def test_what_is_published_for_nobody_is_cut_off(trial: Trial) -> None:
    await trial.provision()
    await trial.send(*trial.numbered(10))

    await made_by(trial)._trim()

    assert sum(await lengths(trial)) == 0
    await trial.provision(BILLING)
    await trial.send(trial.envelope("1"))
    assert await taking_part(await trial.join()) == ["1"]


async def test_a_group_begins_with_what_comes_after_it_was_made(trial: Trial) -> None:
    await trial.provision(BILLING)
    await trial.send(trial.envelope("before"))
    await trial.provision(STOCK)
    await trial.send(trial.envelope("after"))

    assert await taking_part(await trial.join(STOCK)) == ["after"]
    assert sorted(await taking_part(await trial.join(BILLING))) == ["after", "before"]


async def test_it_cuts_off_by_itself(trial: Trial, monkeypatch: Any) -> None:
    monkeypatch.setattr(redis_transport, "_TRIM_SECONDS", 0.05)
    other = await trial.open()
    await trial.provision()
    await trial.send(*trial.numbered(10), transport=other)

    while sum(await lengths(trial)):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


async def test_it_goes_on_when_everything_was_deleted(trial: Trial, monkeypatch: Any) -> None:
    # Nobody else has the lane.
    monkeypatch.setattr("mediator.transports.redis.subscription._YIELD_SECONDS", 3600)
    await trial.provision(BILLING)
    member = await trial.join()
    await trial.send(trial.envelope("1"))
    await member.fetch(1)
    await TestRedisTransport().clean_up(trial.application)

    with capture_logs() as logs:
        ((_, error),) = await trial.outcomes([trial.envelope("2")])
    assert isinstance(error, TransportUnavailableError)
    await trial.send(trial.envelope("3"))

    assert [line["event"] for line in logs] == ["transport.provisioned_again"]
    assert bodies(await member.fetch(1)) == ["3"]


async def test_a_member_makes_its_group_again_from_the_beginning(trial: Trial) -> None:
    await trial.provision(BILLING)
    member = await trial.join()
    async with connected() as redis:
        for lane in trial.lanes:
            await redis.xgroup_destroy(f"{trial.application}:lane:{lane}", BILLING)
    await trial.send(trial.envelope("1"))

    assert bodies(await member.fetch(1)) == ["1"]


async def test_who_may_not_provision_refuses_nothing_when_everything_is_gone(trial: Trial) -> None:
    guest = await trial.open()
    ((_, error),) = await trial.outcomes([trial.envelope()], guest)
    assert isinstance(error, TransportUnavailableError)
    assert "nothing is provisioned" in str(error)

    await trial.provision()
    await trial.send(trial.envelope(), transport=guest)
    ((_, error),) = await trial.outcomes([trial.envelope(topic="test.nowhere")], guest)
    assert isinstance(error, PublishRefusedError)


# --- lanes and reading ------------------------------------------------------------------------------------------------


async def test_who_took_a_lane_last_reads_it(trial: Trial) -> None:
    await trial.provision(BILLING)
    slow, quick = await trial.join(), await trial.join(transport=await trial.another_process(), lanes=())
    await trial.send(*trial.numbered(4, keys=["order-1"]))
    await slow.fetch(2)

    # The first does not know yet that the lanes are not its own any more.
    await quick.subscription.take(trial.lanes)
    came = await quick.fetch(4)
    await trial.send(trial.envelope("4", key="order-1"))

    await slow.fetch_nothing()
    assert bodies([*came, *await quick.fetch(1)]) == ["0", "1", "2", "3", "4"]


async def test_who_lost_a_lane_and_is_still_to_have_it_takes_it_again(trial: Trial, monkeypatch: Any) -> None:
    monkeypatch.setattr("mediator.transports.redis.subscription._YIELD_SECONDS", 0.1)
    await trial.provision(BILLING)
    member, passing = await trial.join(), await trial.join(transport=await trial.another_process())
    await member.fetch_nothing()
    await trial.send(*trial.numbered(3, keys=["order-1"]))
    await passing.fetch(2)
    await passing.subscription.take(())

    assert bodies(await member.fetch(3)) == ["0", "1", "2"]


async def test_what_a_member_has_does_not_come_again_when_it_takes_the_lane_back(trial: Trial) -> None:
    await trial.provision(BILLING)
    member = await trial.join()
    await trial.send(*trial.numbered(4, keys=["order-1"]))
    first = await member.fetch(2)

    await member.subscription.take(())
    await member.subscription.take(trial.lanes)

    assert bodies(await member.fetch(2)) == ["2", "3"]
    await member.acknowledge(*first)
    await member.close()
    assert await taking_part(await trial.join()) == ["2", "3"]


async def test_a_member_that_waits_is_woken_by_what_comes(trial: Trial, monkeypatch: Any) -> None:
    monkeypatch.setattr("mediator.transports.redis.subscription._LONGEST_WAIT_SECONDS", 3600)
    await trial.provision(BILLING)
    member = await trial.join()
    waiting = asyncio.create_task(member.subscription.fetch(1, timedelta(hours=1)))
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()

    await trial.send(trial.envelope("1"))

    async with asyncio.timeout(20):
        assert bodies([*await waiting]) == ["1"]


async def test_a_member_that_waits_for_room_is_woken(trial: Trial, monkeypatch: Any) -> None:
    monkeypatch.setattr("mediator.transports.redis.subscription._LONGEST_WAIT_SECONDS", 3600)
    await trial.provision(BILLING)
    member = await trial.join(prefetch=1)
    await trial.send(*trial.numbered(2, keys=["order-1"]))
    first = await member.fetch(1)
    waiting = asyncio.create_task(member.subscription.fetch(1, timedelta(hours=1)))
    await asyncio.wait([waiting], timeout=0.1)

    await member.acknowledge(*first)

    async with asyncio.timeout(20):
        assert bodies([*await waiting]) == ["1"]


async def test_a_fetch_that_is_broken_off_loses_nothing(trial: Trial) -> None:
    await trial.provision(BILLING)
    member = await trial.join()
    batch = trial.numbered(200, keys=["order-1", "order-2"])
    sending = asyncio.create_task(send_slowly(trial, batch))
    came: list[Delivery] = []
    while len(came) < len(batch):
        fetching = asyncio.ensure_future(member.subscription.fetch(5, timedelta(seconds=1)))
        await asyncio.wait([fetching], timeout=0.002 if len(came) % 2 else 0.02)
        fetching.cancel()
        await asyncio.wait([fetching])
        if not fetching.cancelled():
            came += fetching.result()
            await member.acknowledge(*fetching.result())
    await sending

    assert {key: sorted(numbers) for key, numbers in in_order_per_key(came).items()} == in_order_per_key(came)
    assert len(set(bodies(came))) == len(batch)


async def test_what_was_read_for_a_fetch_that_was_broken_off_comes_again(own: RedisServer) -> None:
    own.start()
    async with trial_on(own) as trial:
        await trial.provision(BILLING)
        member = await trial.join()
        await member.fetch_nothing()
        await trial.send(*trial.numbered(3, keys=["order-1"]))

        own.pause()
        fetching = asyncio.create_task(member.subscription.fetch(3, timedelta(hours=1)))
        await asyncio.wait([fetching], timeout=0.2)
        fetching.cancel()
        await asyncio.wait([fetching])
        own.resume()

        assert bodies(await member.fetch(3)) == ["0", "1", "2"]


async def send_slowly(trial: Trial, batch: Sequence[Envelope]) -> None:
    for envelope in batch:
        await trial.send(envelope)


@pytest.mark.parametrize("prefetch", [1, 10])
async def test_a_busy_lane_does_not_keep_others_waiting(trial: Trial, prefetch: int) -> None:
    await trial.provision(BILLING)
    member = await trial.join(prefetch=prefetch)
    lanes = {key: lane_of(trial.envelope(key=key), len(trial.lanes)) for key in ("order-1", "order-2", "order-3")}
    busy, other = min(lanes, key=lambda key: lanes[key]), max(lanes, key=lambda key: lanes[key])
    assert lanes[busy] < lanes[other]
    await trial.send(*trial.numbered(200, keys=[busy]), *trial.numbered(1, keys=[other], first=200))

    first = await member.subscription.fetch(10, NOW)
    await member.acknowledge(*first)
    came = [first]
    for _ in trial.lanes:
        came.append(await member.subscription.fetch(10, NOW))
        await member.acknowledge(*came[-1])

    assert "200" in [body for some in came for body in bodies(some)]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.integers(1, 600))
def test_a_fetch_has_room_for_what_it_asks_for(found: list[int], room: int) -> None:
    lanes = [Lane(number, found=count) for number, count in enumerate(found)]

    asked = shares(lanes, room)

    assert sum(asked.values()) <= room
    assert min(asked.values()) >= 1
    assert list(asked) == lanes[: len(asked)]
    assert len(asked) == len(lanes) or sum(asked.values()) == room


# --- a broker in trouble ----------------------------------------------------------------------------------------------


async def test_a_broker_that_is_killed_loses_nothing_that_it_confirmed(own: RedisServer) -> None:
    own.start()
    with capture_logs() as logs:
        async with trial_on(own) as trial:
            await trial.provision(BILLING)
            member = await trial.join(prefetch=50)
            keys = [f"order-{number}" for number in range(10)]
            consuming = asyncio.create_task(trial.consume([member], 1500))
            for first in range(0, 1500, 500):
                left = trial.numbered(500, keys=keys, first=first)
                publishing = asyncio.create_task(publish_until_confirmed(trial, left))
                await eventually(lambda: len(left) < 400)  # noqa: B023 - it ends here
                await kill_and_start(own, member, logs)
                await publishing
            came = await consuming

    for key, numbers in in_order_per_key(came).items():
        assert numbers == list(range(keys.index(str(key)), 1500, len(keys))), key
    assert events(logs) == ["transport.connection_lost", "transport.connected_again"] * 3


async def kill_and_start(own: RedisServer, member: Member, logs: Sequence[Any]) -> None:
    """Start it again when both have noticed: who notices after the other is connected again would tell it again."""
    subscription = cast("RedisSubscription", member.subscription)
    epoch, told = subscription._epoch, [*events(logs), "transport.connection_lost"]
    own.kill()
    await eventually(lambda: events(logs) == told and subscription._epoch > epoch)
    await asyncio.to_thread(own.start)


def events(logs: Sequence[Any]) -> list[str]:
    """What was told of the connection."""
    return [line["event"] for line in logs if line["event"].startswith("transport.connect")]


async def publish_until_confirmed(trial: Trial, left: list[Envelope]) -> None:
    """As a relay does: what was not confirmed is published again, with what comes after it."""
    while left:
        batch = left[:20]
        confirmed = {sent.event_id for sent, error in await trial.outcomes(batch) if error is None}
        left[:20] = [sent for sent in batch if sent.event_id not in confirmed]
        await asyncio.sleep(0.005 if len(confirmed) == len(batch) else 0.05)


async def test_a_broker_without_memory_takes_nothing_and_gives_all(own: RedisServer) -> None:
    own.start(maxmemory="8mb")
    async with trial_on(own) as trial, connected(own.url()) as redis:
        await trial.provision(BILLING)
        confirmed: list[Envelope] = []
        while True:
            batch = [trial.envelope(str(len(confirmed) + at).ljust(50_000), key="order-1") for at in range(10)]
            outcomes = await trial.outcomes(batch)
            confirmed += [sent for sent, error in outcomes if error is None]
            if errors := [error for _, error in outcomes if error is not None]:
                break
        assert isinstance(errors[0], TransportUnavailableError)
        assert "OOM" in str(errors[0])

        await redis.config_set("maxmemory", "1mb")
        member = await trial.join()
        came = await trial.consume([member], len(confirmed))
        assert in_order_per_key(came) == {"order-1": list(range(len(confirmed)))}

        await redis.config_set("maxmemory", "100mb")
        await trial.send(trial.envelope("again", key="order-1"))


async def test_a_broker_that_is_no_primary_any_more_is_looked_for_anew(own: RedisServer) -> None:
    own.start()
    async with trial_on(own) as trial, connected(own.url()) as redis:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(trial.envelope("1"))
        assert bodies(await member.fetch(1)) == ["1"]
        await redis.replicaof("127.0.0.1", "1")
        before = addresses(trial.transport)

        with capture_logs() as logs:
            outcomes = [await trial.outcomes([trial.envelope("2")]) for _ in range(2)]
            await member.subscription.fetch(1, timedelta(seconds=0.3))
        assert {type(error) for ((_, error),) in outcomes} == {TransportUnavailableError}
        assert "transport.refused" in [line["event"] for line in logs]
        await redis.replicaof("NO", "ONE")

        await trial.send(trial.envelope("3"))
        assert bodies(await member.fetch(2)) == ["1", "3"]
        assert before.isdisjoint(addresses(trial.transport))


def addresses(transport: Transport) -> set[Any]:
    return {link._writer.get_extra_info("sockname") for link in connections_of(transport)}


async def test_a_broker_that_hangs_ends_nothing_for_ever(own: RedisServer, monkeypatch: Any) -> None:
    own.start()
    async with trial_on(own) as trial:
        await trial.provision(BILLING)
        member = await trial.join()
        await trial.send(*trial.numbered(2, keys=["order-1"]))
        (delivery,) = await member.fetch(1)
        monkeypatch.setattr(server, "ANSWER_SECONDS", 0.3)
        monkeypatch.setattr(server.Server.ask_together, "__defaults__", (0.3,))
        monkeypatch.setattr(server.Server.ask, "__kwdefaults__", {"seconds": 0.3, "on": None})
        monkeypatch.setattr(redis_transport, "_PUBLISH_SECONDS", 0.5)

        own.pause()
        ((_, error),) = await trial.outcomes([trial.envelope()])
        health = await trial.transport.health()
        await member.settle(Settlement.ACK, delivery)
        fetched = await member.subscription.fetch(1, timedelta(seconds=0.5))
        own.resume()

        assert isinstance(error, TransportUnavailableError)
        assert (health.ok, health.detail) == (False, f"{trial_address(own)}: no answer in time")
        assert list(fetched) == []
        # What was not answered may have been done all the same, when it went on.
        assert "1" in bodies(await member.fetch_all())
        own.pause()
        await member.close()
        await trial.transport.close()
        own.resume()


def trial_address(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}"


async def test_a_topic_of_another_group_is_passed_over(trial: Trial) -> None:
    await trial.transport.provision([ORDERS, INVOICES], {BILLING: [ORDERS]})
    member = await trial.join(topics=[ORDERS])
    await trial.send(*(trial.envelope(str(number), topic=INVOICES) for number in range(500)), trial.envelope("500"))

    assert bodies(await member.fetch(1)) == ["500"]
    async with connected() as redis:
        pending = [await redis.xpending(f"{trial.application}:lane:{lane}", BILLING) for lane in trial.lanes]
    assert sum(lane["pending"] for lane in pending) == 1, "what nobody listens to is acknowledged"
