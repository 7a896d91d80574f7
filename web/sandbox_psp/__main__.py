"""Start the sandbox PSP: `python -m web.sandbox_psp --port P --data DIR`."""

import argparse
import asyncio
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from web.sandbox_psp.asgi import create_app
from web.sandbox_psp.config import read_config
from web.sandbox_psp.door import Door
from web.sandbox_psp.transport import CuttableProtocol


class _Server(uvicorn.Server):
    """A server whose orderly stop is a success: uvicorn would die of the signal afterwards."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal says stop; return 1 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="sandbox-psp", description="A payment provider for tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="folder of the book")
    options = parser.parse_args(arguments)
    try:
        listener = socket.create_server((options.host, options.port))
        # Each answer would wait 40 ms for an acknowledgement otherwise: asyncio sets this itself
        # only on sockets that name their protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        return _refuse(f"port {options.port} on {options.host} cannot be used: {error.strerror}")
    address = f"http://{options.host}:{listener.getsockname()[1]}"
    try:
        config = read_config(os.environ, data=options.data, address=address)
    except OSError as error:
        return _refuse(f"the folder {options.data} cannot be used: {error.strerror}")
    try:
        door = Door(listener)
        app = create_app(config, door)
    except sqlite3.Error as error:
        return _refuse(f"the book in {options.data} cannot be opened: {error}")
    server = _Server(
        uvicorn.Config(
            app,
            http=CuttableProtocol,
            loop="asyncio",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=3,
            timeout_keep_alive=75,
        )
    )
    door.hang_in(server)
    sys.stdout.write(f"sandbox PSP listens on {address}\n")
    sys.stdout.flush()
    asyncio.run(server.serve(sockets=[listener.dup()]))
    # A thread that waits for a silent webhook endpoint would hold the exit for its whole timeout.
    # The book is closed, and what flew is sent again after the next start.
    sys.stdout.flush()
    os._exit(0)


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"sandbox PSP: {sentence}.\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
