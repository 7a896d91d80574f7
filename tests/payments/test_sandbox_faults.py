"""Every answer that says less than the truth: unknown first, then one charge and no more."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import func, select

from app.ledger.models import PostingRow
from app.psp import registry
from app.runtime import Runtime
from app.settings import Deadlines
from tests.payments.story import Story
from tests.support.psp import BookPsp
from tests.support.runtime import Clock, make_runtime, test_settings
from tests.support.sandbox import WEBHOOK_SECRET, SandboxHandle, start_sandbox


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxHandle]:
    with start_sandbox(tmp_path_factory.mktemp("sandbox")) as handle:
        yield handle


@pytest.fixture
def sandbox(shared: SandboxHandle) -> Iterator[SandboxHandle]:
    shared.reset()
    yield shared
    shared.reset()


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
        deadlines=Deadlines(confirm=1.5),
    )
    rt: Runtime = make_runtime(settings, clock)
    async with rt.sessions.begin() as session:
        await registry.ensure_rows(session, rt.connections, now=clock())
    yield await Story.begin(rt, cast("BookPsp", None))
    await rt.close()


UNKNOWN: list[tuple[str, str, dict[str, Any]]] = [
    ("after", "html", {}),
    ("before", "html", {}),
    ("after", "truncate", {}),
    ("after", "garbage", {}),
    ("after", "slow_body", {"seconds": 6.0}),
    *[("after", "reset", {"bytes": count}) for count in (0, 1, 20, 150, 400, 900)],
    ("after", "status", {"status": 500}),
    ("before", "status", {"status": 502}),
]


async def charged(story: Story, sandbox: SandboxHandle, payment_id: str) -> list[int]:
    ours = {attempt.id for attempt in (await story.attempts(payment_id))[0]}
    charges = sandbox.book()["charges"]
    mine = [one for one in charges if one["metadata"].get("attempt_id") in ours]
    return [one["amount_captured"] for one in mine if one["captured"]]


@pytest.mark.parametrize(("when", "kind", "fields"), UNKNOWN)
async def test_an_answer_that_proves_nothing_is_unknown_until_it_is_looked_up(
    story: Story, sandbox: SandboxHandle, when: str, kind: str, fields: dict[str, Any]
) -> None:
    """F12, F14, F15, F18, F50: never failed, never charged twice."""
    sandbox.fault(when, kind, method="POST", path="/confirm", **fields)
    made = await story.charge()
    assert (made.status, made.status_reason) == ("processing", "outcome_unknown")
    for _ in range(3):
        await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert await charged(story, sandbox, made.id) == [10_000]
    await story.end()


async def test_f17_a_key_in_use_is_sent_again_and_charged_once(
    story: Story, sandbox: SandboxHandle
) -> None:
    sandbox.fault("before", "key_in_use", method="POST", path="/confirm")
    made = await story.charge()
    assert made.status == "processing"
    await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    confirms = [one for one in sandbox.requests() if one["path"].endswith("/confirm")]
    assert confirms[-1]["key"] == confirms[-2]["key"]
    await story.end()


@pytest.mark.parametrize(
    ("kind", "times", "status"),
    [
        ("key_mismatch", 1, "succeeded"),
        ("key_mismatch", 2, "processing"),
        ("wrong_amount", 1, "processing"),
    ],
)
async def test_f17_f21_a_mismatch_is_looked_at_then_for_a_person_and_never_gets_a_new_key(
    story: Story, sandbox: SandboxHandle, kind: str, times: int, status: str
) -> None:
    """F17, F21: an answer alone freezes nothing; what the PSP keeps, or says again, does."""
    for _ in range(times):
        sandbox.fault("before", kind, method="POST", path="/confirm")
    before = len(sandbox.requests(limit="100000"))
    made = await story.charge()
    for _ in range(3):
        await story.hurry()
    seen = await story.get(made.id)
    assert seen.status == status
    assert (seen.status_reason == "held_for_review") == (status == "processing")
    log = sandbox.requests(limit="100000")[before:]
    confirms = {one["key"] for one in log if one["path"].endswith("/confirm")}
    assert len(confirms) == 1
    await story.end()


@pytest.mark.parametrize("path", ["/confirm", "/v1/payment_intents"])
async def test_f21_an_answer_that_lies_about_the_amount_is_looked_up_and_books_nothing_wrong(
    story: Story, sandbox: SandboxHandle, path: str
) -> None:
    sandbox.fault("after", "wrong_amount", method="POST", path=path)
    made = await story.charge()
    for _ in range(3):
        await story.hurry()
    assert (await story.get(made.id)).status == "succeeded"
    assert await charged(story, sandbox, made.id) == [10_000]
    await story.end()


async def test_f21_a_hold_of_a_wrong_amount_is_nobodys_money(story: Story) -> None:
    made = await story.create(payment_method="pm_fault_wrong_amount", capture_method="manual")
    await story.work()
    for _ in range(2):
        await story.hurry()
    assert (await story.get(made.id)).status_reason == "held_for_review"
    async with story.rt.sessions.read() as session:
        posted = await session.scalar(select(func.count()).select_from(PostingRow))
    assert posted == 0
    await story.end()


async def test_f20_a_refund_that_the_psp_takes_back_is_compensated(
    story: Story, sandbox: SandboxHandle
) -> None:
    made = await story.charge()
    refund = await story.refund(made.id, 2_000)
    await story.work()
    assert (await story.get_refund(refund.id)).status == "succeeded"
    sandbox.post("/refund_fail", {"refund": sandbox.book()["refunds"][-1]["id"]})
    assert sandbox.book()["refunds"][-1]["status"] == "failed"
    await story.end()
