"""A private PostgreSQL server comes back with its data after it was killed (F41, one node)."""

import asyncio
import os
import signal
import time

import asyncpg
import pytest

from app.cli.postgres import Cluster, why_missing


async def ask(cluster: Cluster, statement: str) -> object:
    folder = cluster.socket.rpartition("/")[0]
    connection = await asyncpg.connect(user="postgres", database="postgres", host=folder)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_what_was_committed_is_there_after_a_kill(number: signal.Signals) -> None:
    assert why_missing() is None
    with Cluster(durable=True) as cluster:
        await ask(cluster, "CREATE TABLE kept (id int)")
        await ask(cluster, "INSERT INTO kept VALUES (7)")
        assert cluster.pid is not None
        os.kill(cluster.pid, number)
        deadline = time.monotonic() + 60
        while cluster.alive:
            assert time.monotonic() < deadline
        assert not cluster.ready()
        while not cluster.ready():
            # Until its last child is gone, the new server refuses to start; then the next one.
            if not cluster.alive:
                cluster.launch()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert await ask(cluster, "SELECT id FROM kept") == 7
