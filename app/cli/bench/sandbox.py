"""The sandbox PSP alone: what the pipeline cannot be faster than on this machine."""

import itertools
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from app.cli import programs
from app.cli.bench import load
from app.cli.bench.cpu import Meter
from app.cli.bench.house import BenchError, House
from app.cli.bench.load import Client, Spread

_NAME = "sandbox-alone"


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """How many charges a second the sandbox makes when nobody else works; two calls each."""

    rate: float
    latency_ms: Spread
    cpu_ms_each: dict[str, float]


class _Intent(msgspec.Struct):
    id: str


async def measure(house: House, *, concurrency: int, seconds: float) -> Alone:
    """Charge through a second sandbox, with the requests that the adapter sends, and no events."""
    port = house.spare_port()
    folder = house.folder / _NAME
    folder.mkdir()
    environment = house.environment | {
        "PORT": str(port - 1),
        "SANDBOX_URL": f"http://127.0.0.1:{port}",
    }
    program = programs.sandbox(environment, folder)
    quiet = {**program.environment, "SANDBOX_WEBHOOK_URL": ""}
    house.supervisor.start(msgspec.structs.replace(program, name=_NAME, environment=quiet))
    house.supervisor.wait_ready(_NAME, 30.0)
    headers = {
        "Authorization": f"Bearer {environment['SANDBOX_SECRET_KEY']}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    client, numbers = Client("127.0.0.1", port, f"127.0.0.1:{port}", headers), itertools.count()

    async def charge() -> None:
        number = next(numbers)
        key = f"alone-{number:08}"
        wish = {
            "amount": 1000 + number % 9000,
            "currency": "eur",
            "capture_method": "automatic",
            "payment_method": "pm_card_visa",
            "payment_method_types[0]": "card",
            "description": f"Demo order {number}",
            "metadata[attempt_id]": key,
        }
        intent = await _call(client, "/v1/payment_intents", wish, key)
        confirm = {"off_session": "true", "expand[0]": "latest_charge.balance_transaction"}
        await _call(client, f"/v1/payment_intents/{intent}/confirm", confirm, f"{key}-confirm")

    meter = Meter({"sandbox": house.supervisor.pid(_NAME)})
    try:
        await load.closed(charge, concurrency=concurrency, seconds=0.5)
        meter.start()
        run = await load.closed(charge, concurrency=concurrency, seconds=seconds)
        meter.stop()
    finally:
        client.close()
    return Alone(
        rate=round(run.rate, 1),
        latency_ms=load.spread(run.latencies),
        cpu_ms_each=meter.milliseconds_each(len(run.latencies)),
    )


async def _call(client: Client, path: str, form: Mapping[str, object], key: str) -> str:
    status, body = await client.send("POST", path, urlencode(form).encode(), Idempotency_Key=key)
    if status != 200:
        raise BenchError(f"the sandbox refused a charge: {status} {body.decode()[:300]}")
    return msgspec.json.decode(body, type=_Intent).id


async def count_calls(house: House) -> int:
    """Return how many API requests the sandbox of the pipeline has had."""
    port = house.port + 1
    client = Client("127.0.0.1", port, f"127.0.0.1:{port}", {})
    try:
        _, body = await client.send("GET", "/_sandbox/requests?limit=10000000")
    finally:
        client.close()
    return len(msgspec.json.decode(body, type=list[msgspec.Raw]))
