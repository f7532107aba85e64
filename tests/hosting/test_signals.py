"""Signals: the first stops the application in order, the second does not wait for what is under way."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support.databases import execute

PROGRAM = """
import asyncio, sys
from datetime import timedelta
from typing import Any
from contracts import IntegrationEvent, event_topic
from mediator import IntegrationEventHandler, MediatorApp, MediatorSettings, Module

@event_topic("ticks", domain="clock")
class TickedV1(IntegrationEvent):
    pass

class Hang(IntegrationEventHandler[TickedV1]):
    timeout = timedelta(hours=1)

    async def handle(self, event: TickedV1) -> None:
        print("handling", flush=True)
        await asyncio.Event().wait()

class App(MediatorApp):
    async def __aenter__(self) -> Any:
        await super().__aenter__()
        if "publish" in sys.argv:
            await self.publish_in_own_transaction(TickedV1())
        print("started", flush=True)
        return self

    async def __aexit__(self, *error: Any) -> None:
        print("stopping", flush=True)
        await super().__aexit__(*error)
        print("stopped", flush=True)

app = App(
    "clock", modules=[Module("clock", package="__main__")], database=sys.argv[1], environment="test",
    settings=MediatorSettings(drain_on_stop=timedelta(minutes=10)),
)
asyncio.run(app.run())
print("end", flush=True)
"""


@contextmanager
def running(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, url, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], text: str) -> None:
    """Read what the process says up to a line with this text."""
    said: IO[str] | None = process.stdout
    assert said is not None
    assert any(text in line for line in said), text


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'clock.db'}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_in_order(url: str, number: int) -> None:
    with running(url) as process:
        until(process, "started")
        process.send_signal(number)
        until(process, "stopped")
        until(process, "end")

        assert process.wait() == 0


def test_the_second_signal_does_not_wait_for_what_is_under_way(url: str) -> None:
    with running(url, "publish") as process:
        until(process, "handling")
        process.send_signal(signal.SIGTERM)
        until(process, "stopping")
        process.send_signal(signal.SIGTERM)
        until(process, "end")

        assert process.wait() == 0
    # Nothing was committed, and no attempt was counted: it comes again.
    assert execute(url, "SELECT attempts FROM mediator_outbox") == [(0,)]
    assert execute(url, "SELECT count(*) FROM mediator_inbox") == [(0,)]
    assert execute(url, "SELECT count(*) FROM mediator_parked") == [(0,)]
