"""Gates that let everything through: for stories that are about something else."""

from collections.abc import Awaitable, Callable

from app.psp.gates import Gates, Shut, T
from app.psp.port import Result


class OpenGates(Gates):
    """A PSP that fails half of the time in a test's script is called all the same.

    `before` is called right before each call: what passes between a note and its request.
    `meanwhile` is awaited right before the next one. So many as `keeps` says are not let out.
    """

    before: Callable[[], None] | None = None
    meanwhile: Callable[[], Awaitable[object]] | None = None
    keeps = 0

    def shut(self, connection_id: str, operation: str, *, retry: bool = False) -> Shut | None:
        return None

    def held(self) -> list[str]:
        return []

    async def through(
        self,
        connection_id: str,
        operation: str,
        send: Callable[[], Awaitable[T]],
        *,
        retry: bool = False,
    ) -> T | Result:
        if self.keeps:
            self.keeps -= 1
            why = "The PSP gets as many calls as it may."
            return Result(cls="not_sent", message=why, retry_after=1.0, turned_away=True)
        if self.before is not None:
            self.before()
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await send()
