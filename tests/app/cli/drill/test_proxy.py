"""The fault proxy spoils a line as it is told to, and never changes a byte (F49, F50, F55)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.cli.drill.proxy import FAIR, Link, Weather


class Echo:
    """Answers every line with itself, and keeps what came."""

    def __init__(self) -> None:
        self.came = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.came += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def link(echo: Echo) -> AsyncIterator[Link]:
    made = Link("line", echo.port, seed=1)
    await made.start()
    yield made
    await made.stop()


async def ask(link: Link, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


async def is_reset(link: Link) -> bool:
    """Tell whether a connection ends without an answer."""
    try:
        return await ask(link, b"x") == b""
    except ConnectionError:
        return True


DATA = bytes(range(256)) * 40


@pytest.mark.parametrize(
    "weather",
    [
        FAIR,
        Weather(slices=64),
        Weather(latency=0.01, jitter=0.02),
        Weather(bytes_a_second=200_000, slices=1024),
    ],
)
async def test_bad_weather_delays_and_never_corrupts(link: Link, weather: Weather) -> None:
    link.set(weather)
    assert await ask(link, DATA) == DATA


async def test_a_refused_line_lets_nobody_in_and_drops_who_is_there(link: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    link.set(Weather(refused=True))
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()
    assert await is_reset(link)
    link.set(FAIR)
    assert await ask(link, b"z") == b"z"


@pytest.mark.parametrize("size", [0, 1, 63, 1000])
async def test_a_request_is_cut_at_the_byte(echo: Echo, link: Link, size: int) -> None:
    link.set(Weather(cuts="up", cut_after=size))
    with pytest.raises((ConnectionError, AssertionError)):
        assert len(await ask(link, DATA)) > size
    await asyncio.sleep(0.05)
    assert echo.came == DATA[:size]


@pytest.mark.parametrize("size", [0, 1, 63, 1000])
async def test_an_answer_is_cut_at_the_byte_after_the_effect(
    echo: Echo, link: Link, size: int
) -> None:
    link.set(Weather(cuts="down", cut_after=size))
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(DATA)
    got = b""
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(100):
            got += part
    writer.close()
    assert len(got) <= size
    assert DATA.startswith(got)
    assert echo.came.startswith(DATA[:1])


async def test_a_blackhole_one_way_holds_and_then_passes_on(echo: Echo, link: Link) -> None:
    link.set(Weather(holds=frozenset({"down"})))
    asking = asyncio.create_task(ask(link, b"hello"))
    await asyncio.sleep(0.1)
    assert echo.came == b"hello"  # It arrived; only the answer does not.
    assert not asking.done()
    link.set(FAIR)
    assert await asyncio.wait_for(asking, 5) == b"hello"


async def test_a_line_leads_to_a_socket_of_the_machine_too(tmp_path: Path) -> None:
    made = Echo()
    server = await asyncio.start_unix_server(made.serve, str(tmp_path / "s"))
    link = Link("line", str(tmp_path / "s"), seed=1)
    await link.start()
    assert await ask(link, b"hello") == b"hello"
    await link.stop()
    server.close()


async def test_nobody_there_is_a_reset(link: Link) -> None:
    gone = Link("gone", 1, seed=1)
    await gone.start()
    assert await is_reset(gone)
    await gone.stop()
