"""The benchmarks as a user runs them, in small; how fast it is decides nothing here."""

import asyncio
import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

import pytest

from app.__main__ import ROOT
from app.cli import postgres
from app.cli.bench import cpu, load
from app.cli.bench.house import BenchError
from app.cli.bench.receiver import Receiver


def bench(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "bench", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done


def report(*words: str) -> dict[str, Any]:
    return dict(json.loads(bench(*words, "--json").stdout))


needs_postgres = pytest.mark.skipif(
    postgres.why_missing() is not None and not os.environ.get("CI"),
    reason=f"PostgreSQL cannot run here: {postgres.why_missing()}",
)


@needs_postgres
@pytest.mark.timeout(180)
def test_accepting_is_compared_with_the_inserts_alone() -> None:
    found = report("accept", "--rounds", "2", "--seconds", "0.5", "--concurrency", "4")
    assert found["machine"]["postgres"]["fsync"] == "on"
    assert len(found["api"]["rates"]) == len(found["raw"]["rates"]) == 2
    assert found["api"]["rate"] > 0
    # How large it is, a test does not judge: the machine may have something else to do meanwhile.
    both = zip(found["api"]["rates"], found["raw"]["rates"], strict=True)
    each = [ours / raw for ours, raw in both]
    assert found["ratio"] == pytest.approx(median(each), rel=0.01)
    work = [sum(found[of]["cpu_ms_each"].values()) for of in ("api", "raw")]
    assert work[0] > work[1] > 0  # The inserts alone are a limit: accepting does them, and more.
    # Each side is charged with what it uses: the raw inserts never touch the web process.
    assert found["api"]["cpu_ms_each"]["web"] > found["raw"]["cpu_ms_each"]["web"]
    latency = found["half_latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]


@needs_postgres
@pytest.mark.timeout(180)
def test_the_whole_way_of_payments_is_measured_and_the_ledger_holds() -> None:
    found = report("pipeline", "--payments", "12", "--warm-up", "4", "--concurrency", "4")
    assert found["payments"] == 12
    assert found["rate"] > 0
    # payment.created and payment.succeeded; two calls make a charge.
    assert found["webhooks_each"] >= 2
    assert found["psp_calls_each"] >= 2
    assert found["statements_each"] > 10
    assert set(found["cpu_ms_each"]) == {
        *{"web", "worker", "sandbox", "postgres", "valkey", "client"}
    }
    assert list(found["stage_latency_ms"])[-1] == "webhook delivered"
    assert found["sandbox_alone"]["rate"] > 0
    assert found["verdict"]["holds"] is True
    assert found["verdict"]["counts"]["payments"] == 16


@needs_postgres
@pytest.mark.timeout(180)
def test_a_database_with_a_shop_in_it_is_left_alone() -> None:
    with postgres.Cluster() as cluster:
        small = ("accept", "--rounds", "1", "--seconds", "0.2", "--concurrency", "2")
        first = bench(*small, "--database-url", cluster.url())
        assert "ratio API to raw" in first.stdout
        again = bench(*small, "--database-url", cluster.url(), expect=1)
    assert "the database is not empty" in again.stderr


def test_percentiles_are_of_the_nearest_rank() -> None:
    found = load.spread([number / 1000 for number in range(1, 201)])
    assert (found.p50, found.p95, found.p99, found.max) == (100, 190, 198, 200)
    with pytest.raises(BenchError):
        load.spread([])


async def test_an_open_loop_counts_what_a_stall_holds_up() -> None:
    lock = asyncio.Lock()

    async def one_at_a_time() -> None:
        async with lock:
            await asyncio.sleep(0.02)

    run = await load.opened(one_at_a_time, rate=100, seconds=0.5)
    # Twice as many come as can be served, so the last has waited for about half of them.
    assert max(run.latencies) > 0.1
    assert len(run.latencies) > 20


async def test_the_client_uses_a_connection_again_and_notices_its_end() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhe")
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(b"llo")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = load.Client("127.0.0.1", server.sockets[0].getsockname()[1], "localhost", {})
        assert await client.send("GET", "/") == (201, b"hello")
        assert await client.send("GET", "/") == (201, b"hello")
        assert connections == 1
        with pytest.raises(BenchError, match="closed"):
            await client.send("GET", "/")
        assert await client.send("GET", "/") == (201, b"hello")
        assert connections == 2
        client.close()


async def test_the_receiver_tells_who_waits_also_when_the_event_was_first() -> None:
    receiver = Receiver("payment.succeeded")
    for kind, payment in (("payment.created", "pay_1"), ("payment.succeeded", "pay_2")):
        receiver.take(json.dumps({"type": kind, "data": {"object": {"id": payment}}}).encode())
    await receiver.wait_for("pay_2", 0.1)
    with pytest.raises(TimeoutError):
        await receiver.wait_for("pay_1", 0.05)
    assert receiver.received == 2


def test_processor_time_is_counted_with_that_of_children() -> None:
    before = cpu.seconds({"me": os.getpid(), "nobody": 2**30})
    assert set(before) == {"me"}
    # It spins for longer than is asked for: the kernel counts in ticks of ten
    # milliseconds and leaves out what is less than a whole one.
    spin = "import time\nwhile time.process_time() < 0.6: pass\ninput()"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])",
        ],
        stdin=subprocess.PIPE,
    )
    try:
        used = 0.0
        for _ in range(300):
            used = cpu.seconds({"it": process.pid})["it"]
            if used >= 0.5:
                break
            process.poll()
            subprocess.run(["sleep", "0.05"], check=True)
        assert used >= 0.5
    finally:
        process.communicate(b"\n")
