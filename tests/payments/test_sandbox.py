"""The same turns with the real adapter and the sandbox PSP: what the book in memory only plays."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from app.psp import registry
from app.runtime import Runtime
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.support.runtime import Clock, make_runtime, test_settings
from tests.support.sandbox import WEBHOOK_SECRET, SandboxHandle, start_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxHandle]:
    with start_sandbox(tmp_path) as handle:
        yield handle


@pytest.fixture
async def story(
    database_url: str, tmp_path: Path, clock: Clock, sandbox: SandboxHandle
) -> AsyncIterator[Story]:
    settings = test_settings(
        database_url,
        tmp_path,
        sandbox_url=sandbox.url,
        sandbox_secret_key=sandbox.secret_key,
        sandbox_webhook_secret=WEBHOOK_SECRET,
    )
    rt: Runtime = make_runtime(settings, clock)
    async with rt.sessions.begin() as session:
        await registry.ensure_rows(session, rt.connections, now=clock())
    yield await Story.begin(rt, cast("BookPsp", None))
    await rt.close()


async def _page_url(story: Story, payment_id: str) -> str:
    attempt = (await story.attempts(payment_id))[0][-1]
    assert attempt.page_url is not None
    return attempt.page_url


async def test_a_hosted_payment_and_its_refund(story: Story, sandbox: SandboxHandle) -> None:
    made = await story.create(5_000)
    await story.work()
    page = await _page_url(story, made.id)
    sandbox.pay(page, number="4000 0000 0000 0002")
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "requires_action"
    sandbox.pay(page)
    await story.resolved(made.id)
    assert (await story.get(made.id)).status == "succeeded"
    refund = await story.refund(made.id, 2_000)
    await story.work()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    await story.end()


async def test_an_open_page_is_canceled_and_a_paid_one_is_not(
    story: Story, sandbox: SandboxHandle
) -> None:
    open_one, paid_one = await story.create(), await story.create()
    await story.work()
    for made in (open_one, paid_one):
        await story.cancel(made.id)
    sandbox.pay(await _page_url(story, paid_one.id))
    await story.work()
    for _ in range(2):
        await story.hurry()
    assert (await story.get(open_one.id)).status == "canceled"
    assert (await story.get(paid_one.id)).status == "succeeded"
    await story.end()


async def test_a_held_page_that_is_canceled_lets_go(story: Story, sandbox: SandboxHandle) -> None:
    made = await story.create(capture_method="manual")
    await story.work()
    await story.cancel(made.id)
    sandbox.pay(await _page_url(story, made.id))
    await story.work()
    for _ in range(3):
        await story.hurry()
    assert (await story.get(made.id)).status == "canceled"
    assert await story.dead() == []
    await story.end()


async def test_a_capture_that_was_accepted_gives_way_to_a_cancel(
    story: Story, sandbox: SandboxHandle
) -> None:
    held = await story.charge(capture_method="manual")
    assert held.status == "requires_capture"
    await story.capture(held.id)
    await story.cancel(held.id)
    await story.work()
    assert (await story.get(held.id)).status == "canceled"
    await story.end()


@pytest.mark.parametrize("wish", [True, False])
async def test_a_confirm_that_never_arrived_is_replayed_or_closed_for_a_cancel(
    story: Story, sandbox: SandboxHandle, wish: bool
) -> None:
    """F13: replayed with its key, or, with a cancel, the intent is canceled at the PSP."""
    sandbox.fault("before", "drop_request", method="POST", path="/confirm", count=1)
    made = await story.charge()
    assert made.status_reason == "outcome_unknown"
    if wish:
        await story.cancel(made.id)
    for _ in range(2):
        await story.hurry()
    assert (await story.get(made.id)).status == ("canceled" if wish else "succeeded")
    closed = [one for one in sandbox.requests() if one["path"].endswith("/cancel")]
    assert len(closed) == (1 if wish else 0)
    await story.end()


async def test_a_refused_charge_is_held_and_a_cancel_ends_it(
    story: Story, sandbox: SandboxHandle
) -> None:
    held = await story.create(payment_method="pm_fault_poison")
    await story.work()
    seen = await story.get(held.id)
    assert (seen.status, seen.status_reason) == ("processing", "held_for_operator")
    await story.cancel(held.id)
    await story.work()
    assert (await story.get(held.id)).status == "canceled"
    await story.end()
