"""The door: the listening socket, which can refuse connections for a while and come back."""

import asyncio
import errno
import logging
import socket

import uvicorn


class Door:
    """The port that the process serves on.

    While it is shut the port stays bound, so that nobody else can take it, yet the kernel refuses
    each connection: surely not sent, unlike a connection that is taken and cut.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._server: uvicorn.Server | None = None
        self._shut: asyncio.Task[None] | None = None

    def hang_in(self, server: uvicorn.Server) -> None:
        """Tell which server serves behind the door, before it starts."""
        self._server = server

    def shut_for(self, seconds: float) -> None:
        """Refuse connections for a while, soon after the request that asks for it is answered."""
        if self._shut is None or self._shut.done():
            self._shut = asyncio.create_task(self._stay_shut(seconds))
            self._shut.add_done_callback(_tell)

    async def _stay_shut(self, seconds: float) -> None:
        server = self._server
        if server is None:
            raise RuntimeError("no server behind the door")
        await asyncio.sleep(0.1)
        for serving in server.servers:
            serving.close()
        address = self._listener.getsockname()
        self._listener.shutdown(socket.SHUT_RDWR)
        try:
            # The kernel lets go of a port that it chose itself, and keeps one that was asked for.
            self._listener.bind(address)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        for connection in list(server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(seconds)
        self._listener.listen(socket.SOMAXCONN)
        config, lifespan = server.config, server.lifespan

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg, operator, assignment, unused-ignore]  # uvicorn types it loosely.
                config=config, server_state=server.server_state, app_state=lifespan.state
            )
            return made

        loop = asyncio.get_running_loop()
        server.servers = [await loop.create_server(protocol, sock=self._listener.dup())]


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logging.getLogger(__name__).error("the door stays shut", exc_info=task.exception())
