"""Cutting a coroutine off at its n-th await, as a shutdown does."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CutAt:
    """Runs a coroutine in the present task and cancels the task at the n-th suspension."""

    def __init__(self, work: Coroutine[Any, Any, Any], n: int) -> None:
        self._work = work
        self._left = n

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                waits = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            thrown = None
            self._left -= 1
            task = asyncio.current_task()
            if self._left == 0 and task is not None:
                task.cancel()
            try:
                yield waits
            except BaseException as error:  # noqa: BLE001 - whatever comes belongs to the coroutine.
                thrown = error


async def cut(work: Coroutine[Any, Any, Any], n: int) -> bool:
    """Run `work`, cut at its n-th await; tell whether it came that far."""

    async def run() -> None:
        await CutAt(work, n)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if task.cancelled():
        return True
    error = task.exception()
    if error is not None:
        raise error
    return False
