"""A supervised loop goes on whatever goes wrong in it, and what went wrong is in the log."""

import asyncio

import pytest
from structlog.testing import capture_logs

from mediator.messaging import supervision
from mediator.messaging.supervision import ended, keep_running


async def test_a_loop_that_returns_is_not_run_again() -> None:
    runs: list[int] = []

    async def loop() -> None:
        runs.append(1)

    await keep_running("quiet", loop)

    assert runs == [1]


async def test_a_loop_that_raises_is_run_again_after_pauses_that_double() -> None:
    errors = iter([ValueError("one"), KeyError("two")])

    async def loop() -> None:
        if (error := next(errors, None)) is not None:
            raise error

    with capture_logs() as logs:
        await keep_running("shaky", loop)

    assert [(entry["event"], entry["loop"], entry["pause_seconds"]) for entry in logs] == [
        ("loop.failed", "shaky", 0.1),
        ("loop.failed", "shaky", 0.2),
    ]
    assert all(entry["exc_info"] for entry in logs)


async def test_a_cancellation_that_nobody_asked_for_is_an_error_like_any_other() -> None:
    runs: list[int] = []

    async def loop() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise asyncio.CancelledError

    with capture_logs() as logs:
        await keep_running("leaky", loop)

    assert runs == [1, 1]
    assert [entry["event"] for entry in logs] == ["loop.failed"]


async def test_cancelling_ends_it() -> None:
    started = asyncio.Event()

    async def loop() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(keep_running("endless", loop))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_ends_its_pause() -> None:
    failed = asyncio.Event()

    async def loop() -> None:
        failed.set()
        raise ValueError("always")

    with capture_logs():
        task = asyncio.create_task(keep_running("failing", loop))
        await failed.wait()
        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()


async def test_a_task_that_loses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_AGAIN_SECONDS", 0.01)
    lost: list[int] = []

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if len(lost) < 2:
                lost.append(1)
                raise ConnectionResetError("while cleaning up")

    with capture_logs():
        task = asyncio.create_task(keep_running("cut off", loop))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await ended([task], patience_seconds=0)

    assert task.cancelled()
