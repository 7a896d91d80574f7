"""Gates that let everything through: for stories that are about something else."""

from collections.abc import Awaitable, Callable

from app.psp.gates import Gates, Shut, T
from app.psp.port import Result


class OpenGates(Gates):
    """A PSP that fails half of the time in a test's script is called all the same.

    `before` is called right before each call: what passes between a note and its request.
    """

    before: Callable[[], None] | None = None

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
        if self.before is not None:
            self.before()
        return await send()
