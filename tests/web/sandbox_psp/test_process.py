"""The process: its start, its controls, its control page and its speed."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandbox import SandboxHandle, start_sandbox


def test_a_taken_port_and_a_book_in_use_are_one_clear_sentence(
    own_sandbox: Callable[..., SandboxHandle], tmp_path: Path
) -> None:
    running = own_sandbox()
    port = int(running.url.rsplit(":", 1)[1])
    with pytest.raises(RuntimeError, match=rf"sandbox PSP: port {port} .* cannot be used"):
        start_sandbox(tmp_path / "other", port=port)
    with pytest.raises(RuntimeError, match=r"the book in .* cannot be opened") as refused:
        start_sandbox(tmp_path)
    assert "Traceback" not in str(refused.value)


def test_a_folder_that_is_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "sandbox").write_text("not a folder")
    with pytest.raises(RuntimeError, match=r"the folder .* cannot be used"):
        start_sandbox(tmp_path)


def test_keys_that_are_not_given_are_made_once_and_kept_private(
    own_sandbox: Callable[..., SandboxHandle],
) -> None:
    empty = {"SANDBOX_SECRET_KEY": "", "SANDBOX_WEBHOOK_SECRET": ""}
    first = own_sandbox(**empty)
    file = first.data / "keys.json"
    keys = file.read_text("utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    first.stop()
    own_sandbox(**empty)
    assert file.read_text("utf-8") == keys


def test_the_control_page_cures_the_poison_and_takes_the_api_down(sandbox: SandboxHandle) -> None:
    page = sandbox.send("GET", "/_sandbox")
    assert page.status == 200
    assert "not cured" in page.body
    answer = sandbox.submit("/_sandbox/switch", {"name": "poison_cured", "value": "true"})
    assert (answer.status, answer.location) == (303, "/_sandbox#poison")
    assert sandbox.get("/settings")["poison_cured"]
    sandbox.submit("/_sandbox/switch", {"name": "down", "value": "true"})
    assert "Bring it up" in sandbox.send("GET", "/_sandbox").body
    sandbox.submit("/_sandbox/switch", {"name": "down", "value": "false"})
    assert sandbox.submit("/_sandbox/switch", {"name": "x", "value": "true"}).status == 400


def test_another_site_cannot_use_the_controls(sandbox: SandboxHandle) -> None:
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site}
        body = b'{"cured": true}'
        assert sandbox.send("POST", "/_sandbox/poison", body, headers).status == 403
    assert not sandbox.get("/settings")["poison_cured"]


@pytest.mark.parametrize("change", [{"key_window": "long"}, {"colour": "red"}, [], "x"])
def test_wrong_settings_are_refused(sandbox: SandboxHandle, change: Any) -> None:
    before = sandbox.get("/settings")
    with pytest.raises(RuntimeError, match="400"):
        sandbox.post("/settings", change)
    assert sandbox.get("/settings") == before


def cpu_seconds(sandbox: SandboxHandle) -> float:
    """Return the processor time that the sandbox has used."""
    fields = Path(f"/proc/{sandbox.process.pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_one_core_serves_more_than_150_charges_a_second(sandbox: SandboxHandle) -> None:
    async def lane(requests: int) -> None:
        port = int(sandbox.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"amount=100&currency=eur&payment_method=pm_card_visa&confirm=true"
        head = (
            "POST /v1/payment_intents HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {sandbox.secret_key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        for _ in range(requests):
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 OK" in answer
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    before = cpu_seconds(sandbox)
    await asyncio.gather(*(lane(25) for _ in range(16)))
    # Processor time, not the clock: the machine may be busy with other things.
    assert 400 / (cpu_seconds(sandbox) - before) > 150
