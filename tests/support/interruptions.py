"""Cancelling a task at its n-th suspension: wherever it may be interrupted, a test can do so."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["Interruption"]


class Interruption:
    """Cancels the task that awaits `of(work)` when `work` suspends for the `number`-th time."""

    def __init__(self, number: int, *, soon: bool = False) -> None:
        self.number, self.soon, self.happened = number, soon, False

    async def of(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await self._steps(work)

    @types.coroutine
    def _steps(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        suspensions, error = 0, None
        while True:
            try:
                waits_for = work.send(None) if error is None else work.throw(error)
            except StopIteration as end:
                return end.value
            suspensions += 1
            if suspensions == self.number:
                self._interrupt()
            try:
                yield waits_for
                error = None
            except BaseException as thrown:  # noqa: BLE001 - handed on to the work
                error = thrown

    def _interrupt(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.happened = True
        if self.soon:
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()
