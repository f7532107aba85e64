"""What is wrong with a URL, a server or a stream of NATS is said clearly, and never with a password."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from mediator.errors import BrokerError, SettingsError
from mediator.transports import transport_for
from mediator.transports.nats import NatsTransport
from mediator.transports.nats.address import NatsAddress
from tests.support.envelopes import TOPIC
from tests.support.nats import api, delete_streams
from tests.support.own_nats import DISTRIBUTED, NEWEST, NatsServer


def test_the_scheme_names_the_transport() -> None:
    for scheme in ("nats", "tls"):
        transport = transport_for(f"{scheme}://somebody:secret@host")
        assert isinstance(transport, NatsTransport)
        assert transport.name == scheme


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nats://", "host:4222"),
        ("nats://user:secret@", "host:4222"),
        ("nats://user:secret@host:port", "host:4222"),
        ("nats://user:secret@host:99999", "host:4222"),
        ("nats://user:secret@one,,two", "host:4222"),
        ("nats://user:secret@host/shop", "'/shop'"),
        ("nats://user:secret@host?lane=3", "transport parameter lane"),
        ("nats://user:secret@host?lanes=0", "transport parameter lanes = '0'"),
        ("nats://user:secret@host?lanes=", "transport parameter lanes = ''"),
        ("nats://user:secret@host?lanes=many", "from 1 to 1024"),
        ("nats://user:secret@host?replicas=6", "transport parameter replicas = '6'"),
        ("nats://user:secret@host?max_age=-1", "transport parameter max_age = '-1'"),
        ("nats://user:secret@host?prefix=a.", "transport parameter prefix = 'a.'"),
        ("nats://user:secret@host?prefix=$JS", "transport parameter prefix"),
        ("nats://user:secret@host?prefix=", "transport parameter prefix"),
    ],
)
def test_a_wrong_url_is_refused(url: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        NatsAddress.of(url)

    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_url_is_taken_apart() -> None:
    address = NatsAddress.of("tls://a%40b:p%3Aw@one,[::1]:5?prefix=shop.eu&lanes=3&max_age=7&replicas=3")

    assert (address.user, address.password) == ("a@b", "p:w")
    assert address.servers == ["tls://one:4222", "tls://[::1]:5"]
    assert (address.prefix, address.lanes, address.max_age_days, address.replicas) == ("shop.eu", 3, 7, 3)
    assert (address.stream, address.topics_stream) == ("shop_eu", "shop_eu-topics")
    assert "p:w" not in repr(address) + str(address)


def test_different_names_stay_different() -> None:
    groups = ["a.b", "a_b", "a%5Fb", "a-1", "a", "g" * 300, "g" * 301]
    names = {NatsAddress.consumer(group, 1, 1) for group in groups}

    assert len(names) == len(groups)
    assert all(len(name) <= 255 and "." not in name for name in names)
    assert NatsAddress.epochs("a", 1, sorted(names)) == [1]


@pytest.fixture(params=[DISTRIBUTED, NEWEST], ids=["distributed", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    with NatsServer(request.param) as server:
        yield server


async def refusal(url: str) -> str:
    transport = NatsTransport(url)
    try:
        with pytest.raises(BrokerError) as refused:
            await transport.open()
    finally:
        await transport.close()
    return str(refused.value)


async def test_a_server_that_is_not_there_is_named(server: NatsServer) -> None:
    message = await refusal(server.url(user="user:secret"))

    assert f"nats://127.0.0.1:{server.port}: it cannot be used" in message
    assert "refused" in message.lower() or "Connect call failed" in message
    assert "Start it, or correct the URL" in message
    assert "secret" not in message


@pytest.mark.parametrize("login", ["", "user", "user:wrong"])
async def test_a_wrong_password_is_told(server: NatsServer, login: str) -> None:
    server.start(user="user", **{"pass": "secret"})

    message = await refusal(server.url(user=login))

    assert "Authorization" in message
    assert "Correct the user and the password" in message
    assert "wrong" not in message
    transport = NatsTransport(server.url(user="user:secret"))
    await transport.open()
    await transport.close()


async def test_a_token_is_a_user_without_a_password(server: NatsServer) -> None:
    server.start(auth="t@ken")
    transport = NatsTransport(server.url(user="t%40ken"))

    await transport.open()

    assert (await transport.health()).ok
    await transport.close()


async def test_a_server_without_jetstream_is_told(server: NatsServer) -> None:
    server.start(jetstream=False)

    assert "Start it with JetStream" in await refusal(server.url())


async def test_nothing_is_told_to_a_server_that_does_not_encrypt(server: NatsServer) -> None:
    server.start(user="user", **{"pass": "secret"})

    message = await refusal(server.url(driver="tls", user="user:secret"))

    assert "does not require TLS" in message
    assert "tls:// or nats://" in message


async def test_another_number_of_lanes_is_refused(nats_transport: NatsTransport, nats_url: str) -> None:
    await nats_transport.provision([TOPIC], {})
    other = NatsTransport(f"{nats_url}?prefix={nats_transport._address.prefix}&lanes=3")
    await other.open()

    for create in (True, False):
        with pytest.raises(BrokerError, match=r"has 2 lanes, and the URL says 3. Use \?lanes=2"):
            await other.provision([TOPIC], {}, create=create)
    await other.close()


async def test_subjects_of_somebody_else_are_left_alone(nats_transport: NatsTransport, nats_url: str) -> None:
    prefix = nats_transport._address.prefix
    await api(nats_url, f"STREAM.CREATE.{prefix}-theirs", {"name": f"{prefix}-theirs", "subjects": [f"{prefix}.>"]})

    with pytest.raises(BrokerError, match=r"\?prefix="):
        await nats_transport.provision([TOPIC], {})

    await api(nats_url, f"STREAM.DELETE.{prefix}-theirs")


async def test_a_stream_of_somebody_else_is_no_stream_of_ours(nats_transport: NatsTransport, nats_url: str) -> None:
    prefix = nats_transport._address.prefix
    await api(nats_url, f"STREAM.CREATE.{prefix}", {"name": prefix, "subjects": [f"{prefix}.orders"]})

    with pytest.raises(BrokerError, match="has other subjects"):
        await nats_transport.provision([TOPIC], {})


async def test_replicas_need_a_cluster(nats_transport: NatsTransport, nats_url: str) -> None:
    other = NatsTransport(f"{nats_url}?prefix={nats_transport._address.prefix}&replicas=3")
    await other.open()

    with pytest.raises(BrokerError, match="replicas > 1 not supported"):
        await other.provision([TOPIC], {})
    await other.close()


async def test_what_it_made_itself_has_no_fault(nats_transport: NatsTransport) -> None:
    assert list(await nats_transport.check()) == []

    await nats_transport.provision([TOPIC], {"shop.billing": [TOPIC]})

    assert list(await nats_transport.check()) == []


@pytest.mark.parametrize(
    ("setting", "harm"),
    [
        ({"storage": "memory"}, "lost when the server stops"),
        ({"retention": "interest"}, "too slowly"),
        ({"max_age": 3600 * 10**9}, "dropped after that time"),
        ({"max_bytes": 10_000_000}, "dropped although"),
        ({"max_msgs": 1_000, "discard": "old"}, "dropped although"),
        ({"max_msg_size": 1_000}, "larger messages are refused"),
        ({"no_ack": True}, "ever confirmed"),
    ],
)
async def test_a_setting_that_breaks_a_promise_is_a_fault(
    nats_transport: NatsTransport, nats_url: str, setting: dict[str, Any], harm: str
) -> None:
    wanted = {**nats_transport._streams._messages(), **setting}
    await api(nats_url, f"STREAM.CREATE.{wanted['name']}", wanted)
    await nats_transport.provision([TOPIC], {})

    (fault,) = await nats_transport.check()

    assert harm in fault.what
    assert next(iter(setting)) in fault.where


async def test_refusing_when_full_is_no_fault(nats_transport: NatsTransport, nats_url: str) -> None:
    wanted = {**nats_transport._streams._messages(), "max_bytes": 10_000_000, "discard": "new"}
    await api(nats_url, f"STREAM.CREATE.{wanted['name']}", wanted)

    assert list(await nats_transport.check()) == []


async def test_an_answer_that_ignores_a_setting_is_refused(
    nats_transport: NatsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = nats_transport._streams._messages()
    monkeypatch.setattr(nats_transport._streams, "_messages", lambda: {**messages, "of_the_future": "on"})

    with pytest.raises(BrokerError, match="of_the_future"):
        await nats_transport.provision([TOPIC], {})


async def test_what_an_account_may_not_do_is_told(server: NatsServer) -> None:
    configuration = server.folder / "server.conf"
    configuration.write_text(
        'authorization { users = [{ user: "u", password: "p", permissions: '
        '{ publish: ["$JS.API.INFO"], subscribe: ["_INBOX.>"] } }] }'
    )
    server.start(config=configuration)
    transport = NatsTransport(server.url(user="u:p"))
    await transport.open()

    with pytest.raises(BrokerError, match=r"(?i)permissions violation"):
        await transport.provision([TOPIC], {})
    await transport.close()


async def test_two_processes_may_provision_at_the_same_time(nats_url: str) -> None:
    prefix = f"trial-{uuid4().hex[:12]}"
    transports = [NatsTransport(f"{nats_url}?prefix={prefix}") for _ in range(4)]
    for transport in transports:
        await transport.open()

    done = await asyncio.gather(
        *(transport.provision([TOPIC], {"shop.billing": [TOPIC]}) for transport in transports), return_exceptions=True
    )

    assert done == [None] * 4
    for transport in transports:
        await transport.close()
    await delete_streams(nats_url, prefix)
