"""Each test has a place of its own on a broker, which is empty again when it ends; a broker that is missing is told."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiormq
import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from redis.asyncio import Redis

from mediator.transports import transport_for
from mediator.transports.rabbitmq.topology import Names
from tests.support import kafka
from tests.support.brokers import Brokers
from tests.support.databases import in_a_thread
from tests.support.envelopes import GROUP, TOPIC
from tests.support.nats import api
from tests.support.rabbitmq import SHARED

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


async def in_redis(url: str, prefix: str) -> bool:
    async with Redis.from_url(url) as redis:
        return bool([key async for key in redis.scan_iter(f"{prefix}*")])


async def in_rabbitmq(_url: str, prefix: str) -> bool:
    names = Names(prefix, 8)
    exchanges = (names.exchange, names.lanes, names.topic(TOPIC), names.listening(GROUP, TOPIC))
    return any([await is_declared(name, "exchange") for name in exchanges]) or any(
        [await is_declared(name, "queue") for name in names.queues(GROUP)]
    )


async def is_declared(name: str, kind: str) -> bool:
    async with aiormq.connect(SHARED) as connection:
        channel = await connection.channel()
        try:
            if kind == "queue":
                await channel.queue_declare(name, passive=True)
            else:
                await channel.exchange_declare(name, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True


async def in_nats(url: str, prefix: str) -> bool:
    return "error" not in await api(url, f"STREAM.INFO.{prefix}")


async def in_kafka(url: str, prefix: str) -> bool:
    return bool(await kafka.made(url, prefix))


@pytest.mark.parametrize(
    ("name", "is_in_use"), [("redis", in_redis), ("rabbitmq", in_rabbitmq), ("nats", in_nats), ("kafka", in_kafka)]
)
def test_what_was_made_at_a_place_is_removed(
    brokers: Brokers, name: str, is_in_use: Callable[[str, str], Coroutine[Any, Any, bool]]
) -> None:
    async def use() -> bool:
        transport = transport_for(place.url)
        await transport.open()
        await transport.provision([TOPIC], {GROUP: [TOPIC]})
        await transport.close()
        return await is_in_use(brokers.url(name), prefix)

    with brokers.new_place(name) as place:
        prefix = place.url.partition("prefix=")[2].partition("&")[0]
        assert in_a_thread(use())

    assert not in_a_thread(is_in_use(brokers.url(name), prefix))


SAMPLE = """
def test_it(broker):
    pass

def test_one(brokers):
    brokers.url("nats")

def test_another(brokers):
    brokers.url("nats")
"""


@pytest.mark.parametrize("ci", ["", "true"])
def test_tests_without_their_broker_are_counted_and_fail_in_ci(tmp_path: Path, ci: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nowhere = f"://guest:secret@127.0.0.1:{listening.getsockname()[1]}"
    found = {"REDIS": "redis", "RABBITMQ": "amqp", "NATS": "nats"}
    places = {f"MEDIATOR_TEST_{name}": f"{scheme}{nowhere}" for name, scheme in found.items()}

    done = run_tests(tmp_path, CI=ci, **places)

    for service, count in {"redis": 1, "rabbitmq": 1, "nats": 3}.items():
        assert f"tests that had no {service} to run on: {count}" in done.stdout
    assert "no kafka" not in done.stdout
    assert "secret" not in done.stdout
    assert ("2 passed, 5 skipped" in done.stdout) is not bool(ci)
    assert (done.returncode != 0) is bool(ci)


def run_tests(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_sample.py").write_text(SAMPLE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "-rs", str(folder)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
