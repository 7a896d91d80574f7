"""A small TCP proxy that stands between two processes and spoils what passes, on demand.

A held byte is late, not lost: TCP itself would send it again after a partition, so a stream is
never corrupted, only delayed, slowed or cut.
"""

import asyncio
import contextlib
import random
import socket
import struct

import msgspec

_CHUNK = 65_536
_CONNECT_SECONDS = 2.0


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How the line is. `up` is from who connects to who listens, `down` the answer's way.

    Times in seconds, sizes in bytes; 0 and empty mean: as the machine is.
    """

    latency: float = 0.0
    jitter: float = 0.0
    slices: int = 0
    bytes_a_second: int = 0
    refused: bool = False
    holds: frozenset[str] = frozenset()
    cuts: str = ""
    cut_after: int = 0


FAIR = Weather()


class Link:
    """One line: listens on a loopback port and passes on to an address or a Unix socket."""

    def __init__(self, name: str, target: int | str, seed: int) -> None:
        """Prepare; `target` is a port of this machine or the path of a socket."""
        self.name = name
        self.target = target
        self.port = 0
        self._weather = FAIR
        self._changed = asyncio.Event()
        self._chance = random.Random(f"{seed}:{name}")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port of the loopback address."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no longer and let go of every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    def set(self, weather: Weather) -> None:
        """Change the weather for the connections that are and those that come."""
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()
        if weather.refused:
            self.cut()

    def cut(self) -> int:
        """Reset every connection at once; return how many ends there were."""
        ends = list(self._open)
        for writer in ends:
            _reset(writer)
        return len(ends)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._weather.refused:
            _reset(writer)
            return
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                there_reader, there = await self._reach()
        except (OSError, TimeoutError):
            _reset(writer)
            return
        ends = {writer, there}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, there, "up"))
                group.create_task(self._pass(there_reader, writer, "down"))
        except* (OSError, asyncio.IncompleteReadError):
            for end in ends:
                _reset(end)
        except* asyncio.CancelledError:
            # The drill ends; asyncio's own callback of a connection cannot bear a cancelled one.
            pass
        finally:
            self._open -= ends
            for end in ends:
                end.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        passed = 0
        while data := await reader.read(self._weather.slices or _CHUNK):
            for part in self._sliced(data):
                await self._wait(way, len(part))
                weather = self._weather
                left = weather.cut_after - passed
                if weather.cuts == way and left < len(part):
                    writer.write(part[: max(0, left)])
                    raise ConnectionResetError("cut by the weather")
                writer.write(part)
                passed += len(part)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    def _sliced(self, data: bytes) -> list[bytes]:
        size = self._weather.slices or len(data)
        return [data[start : start + size] for start in range(0, len(data), size)]

    async def _wait(self, way: str, size: int) -> None:
        while way in self._weather.holds:
            await self._changed.wait()
        weather = self._weather
        seconds = weather.latency + self._chance.uniform(-weather.jitter, weather.jitter)
        if weather.bytes_a_second:
            seconds += size / weather.bytes_a_second
        if seconds > 0:
            await asyncio.sleep(seconds)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering the other side sees a reset, as when a machine is gone, and no polite end.
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
