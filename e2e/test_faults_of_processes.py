"""A killed worker, a flushed or restarted Valkey cost no payment and no second charge."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from e2e.conftest import Counterfoil, started, wait


def _charge(at: Counterfoil, method: str = "pm_card_visa", amount: int = 1_999) -> Any:
    body = {"amount": amount, "currency": "eur", "payment_method": method}
    made = at.api("POST", "/v1/payments", body)
    assert made.status == 201, made.body
    return made.body


def _charged(at: Counterfoil, payment_id: str) -> int:
    """Return how often the sandbox's own book has charged a payment's customer."""
    attempts = at.api("GET", f"/v1/payments/{payment_id}").body["attempts"]
    book = at.psp("GET", "/book")["by_metadata"]
    return sum(book.get(attempt, {}).get("charged_count", 0) for attempt in attempts)


def test_a_lost_reply_charges_once_and_the_timeline_tells_it(counterfoil: Counterfoil) -> None:
    """F12."""
    made = _charge(counterfoil, "pm_fault_reply_lost")
    paid = counterfoil.settled(made["id"])
    assert paid["status"] == "succeeded"
    assert _charged(counterfoil, made["id"]) == 1
    story = counterfoil.api("GET", f"/v1/payments/{made['id']}/timeline").body
    assert "unknown" in str(story).lower()
    counterfoil.verify()


def test_a_worker_killed_between_the_psps_answer_and_our_commit_charges_once(
    tmp_path: Path,
) -> None:
    """F05. The second hit: the intent is made, the confirm has charged."""
    settings = {"FAILPOINT": "psp.after_answer:kill:2", "LEASE_SECONDS": "3"}
    with started(tmp_path / "data", **settings) as at:
        before = at.worker_pid()
        made = _charge(at)
        wait(lambda: at.pids("workers") not in ([], [before]))
        paid = at.settled(made["id"])
        assert paid["status"] == "succeeded"
        assert _charged(at, made["id"]) == 1
        at.verify()


def test_a_worker_killed_with_bytes_on_the_wire_charges_once(counterfoil: Counterfoil) -> None:
    """F04."""
    made = _charge(counterfoil, "pm_fault_slow")
    time.sleep(1.0)
    os.kill(counterfoil.worker_pid(), signal.SIGKILL)
    assert counterfoil.settled(made["id"], 90)["status"] == "succeeded"
    assert _charged(counterfoil, made["id"]) == 1
    counterfoil.verify()


@pytest.mark.parametrize("how", ["flush", "kill"])
def test_a_flushed_or_restarted_valkey_loses_nothing_under_load(tmp_path: Path, how: str) -> None:
    """F35, F37."""
    with started(tmp_path / "data") as at:
        made: list[str] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                made.append(_charge(at)["id"])

        shop = threading.Thread(target=load)
        shop.start()
        for _ in range(3):
            time.sleep(1.0)
            if how == "flush":
                _flush(at)
            else:
                os.kill(wait(lambda: at.pids("valkey"))[0], signal.SIGKILL)
        stop.set()
        shop.join(timeout=30)
        assert len(made) > 10
        for payment_id in made:
            assert at.settled(payment_id)["status"] == "succeeded"
        book = at.psp("GET", "/book")["by_currency"]["eur"]
        assert book["charged_count"] == len(made)
        assert at.api("GET", "/v1/balance").body["pending"]
        at.verify()


def _flush(at: Counterfoil) -> None:
    # Its address and password are in the worker's environment, as in every process of ours.
    environment = Path(f"/proc/{at.worker_pid()}/environ").read_bytes().decode().split("\0")
    url = next(line for line in environment if line.startswith("REDIS_URL=")).partition("=")[2]
    client = redis.Redis.from_url(url)
    client.flushall()
    client.close()


def test_stopping_takes_less_than_ten_seconds_and_leaves_nothing_running(tmp_path: Path) -> None:
    with started(tmp_path / "data") as at:
        pids = at.pids(".")
        assert len(pids) >= 4
        assert at.stop() < 10
        listing = subprocess.run(
            ["ps", "-o", "pid=", "-p", ",".join(map(str, pids))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert listing.stdout.strip() == ""
        first = at.ready
    with started(tmp_path / "data") as again:
        assert again.ready["users"] == first["users"]
        assert again.ready["api_key"] == first["api_key"]
