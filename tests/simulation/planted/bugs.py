"""The planted bugs: each breaks one rule of the real code for as long as its block lasts.

Ordinary tests patch nothing. Here patching is the point: a checker that never sees a bug proves
nothing, and the application itself must not carry switches that break it.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

import msgspec
from sqlalchemy.orm.attributes import set_committed_value

from app import jobs
from app.deadletters import queries as letters
from app.deadletters.verdict import judge
from app.desk import processing as desk
from app.desk.finding import Finding
from app.inbox import processing as inbox
from app.ledger import postings, rows
from app.money import Money
from app.payments import attempts, calls, outcomes, processing, receipts, refunding, resolving
from app.payments.change import Change, lock
from app.payments.models import Attempt, Payment
from app.payments.ruling import DONE, Ruling
from app.payments.suspense import Apart
from app.psp.port import Result
from tests.simulation import world as worlds
from tests.simulation.planted.house import (
    acknowledged_before_commit,
    key_not_scoped,
    outbox_outside,
    plain_begin,
    swap,
    sweeper_off,
)
from workers import runner

Plant = Callable[[], AbstractContextManager[Any]]


def janitor_off() -> AbstractContextManager[Any]:
    """Nobody asks the PSP what became of an unknown outcome."""

    async def resolve(rt: Any, *, attempt_id: str) -> Ruling:
        return DONE

    return swap(resolving, "resolve", resolve)


def new_key_each_time() -> AbstractContextManager[Any]:
    """A retry goes out under a new PSP key."""
    real = calls.note

    def call(change: Any, *args: Any, **values: Any) -> Any:
        if values.get("key"):
            values["key"] = f"{values['key']}:{change.rt.ids('key')}"
        return real(change, *args, **values)

    return swap(calls, "note", call)


def _unknown_is(cls: str, only: Callable[[Result], bool]) -> AbstractContextManager[Any]:
    real = outcomes.apply

    async def apply(change: Change, attempt: Attempt, result: Result, **more: Any) -> Ruling:
        if result.cls == "unknown" and result.resend and only(result):
            result.cls, result.code = cls, "failed"  # type: ignore[assignment] # A word of the port.
        return await real(change, attempt, result, **more)

    return swap(outcomes, "apply", apply)


def timeout_is_failed() -> AbstractContextManager[Any]:
    """No answer in time counts as a no."""
    return _unknown_is("declined", lambda result: result.http_status is None)


def error_500_is_failed() -> AbstractContextManager[Any]:
    """A 5xx counts as a no."""
    real = outcomes.apply

    async def apply(change: Change, attempt: Attempt, result: Result, **more: Any) -> Ruling:
        if result.cls == "unknown" and (result.http_status or 0) >= 500:
            result.cls, result.code = "declined", "failed"
        return await real(change, attempt, result, **more)

    return swap(outcomes, "apply", apply)


def one_miss_is_proof() -> AbstractContextManager[Any]:
    """A look-up that finds nothing counts as never sent."""

    async def no_effect(
        rt: Any, change: Change, attempt: Attempt, result: Result, **more: Any
    ) -> Any:
        if result.cls == "not_found":
            result.cls, result.code = "declined", "not_sent"
            return None, await outcomes.apply(change, attempt, result)
        return await real(rt, change, attempt, result, **more)

    real = resolving._no_effect_so_far
    return swap(resolving, "_no_effect_so_far", no_effect)


def event_is_believed() -> AbstractContextManager[Any]:
    """A received event is applied for what its name says, in the order of arrival."""
    real = inbox._bring_about

    async def bring_about(rt: Any, job: Any, found: Any, attempt: Any, *, over: bool) -> Ruling:
        failed = found.type in {"payment_intent.payment_failed", "checkout.session.expired"}
        if not failed or attempt.kind not in {"charge", "checkout"}:
            return await real(rt, job, found, attempt, over=over)

        async def work(session: Any) -> None:
            change = await lock(session, rt, payment_id=attempt.payment_id)
            row = await attempts.find(session, attempt.id)
            if row is not None and change.payment.status in {"processing", "requires_action"}:
                change.move("processing", tell=False)
                receipts.end_attempt(change, row, "declined")
                change.move("failed")
            await change.save()

        await rt.sessions.run(work)
        return DONE

    return swap(inbox, "_bring_about", bring_about)


def events_not_deduplicated() -> AbstractContextManager[Any]:
    """The same event of the PSP is stored again under another name."""
    from app.inbox import operations

    real = operations.store

    async def store(session: Any, **values: Any) -> bool:
        found = values["event"]
        values["event"] = msgspec.structs.replace(found, id=values["ids"](found.id))
        return await real(session, **values)

    return swap(operations, "store", store)


def no_fence() -> AbstractContextManager[Any]:
    """Who lost the lease of a job writes all the same, and a call once made counts again."""
    stack = ExitStack()

    async def check(session: Any, *, job: Any) -> None:
        """Hold nothing and check nothing."""

    def held(job: Any) -> Any:
        return (jobs._JOBS.c.id == job.id,)

    stack.enter_context(swap(jobs, "check", check))
    stack.enter_context(swap(jobs, "_held", held))
    return stack


def cancelled_is_failed() -> AbstractContextManager[Any]:
    """A call that was cut off by a shutdown counts as a no."""
    real = processing.call

    async def call(rt: Any, step: Any) -> Any:
        try:
            return await real(rt, step)
        except asyncio.CancelledError:
            return Result(cls="declined", code="cancelled"), 0.0

    stack = ExitStack()
    stack.enter_context(swap(processing, "call", call))
    stack.enter_context(swap(resolving, "call", call))
    return stack


def stale_balance() -> AbstractContextManager[Any]:
    """The ledger's writer moves an account from a balance that it read earlier."""
    real = rows.lock_accounts
    kept: dict[str, tuple[int, int]] = {}

    async def lock(session: Any, names: Any, *, now: Any) -> Any:
        found = await real(session, names, now=now)
        for name, balance in found.items():
            before = kept.get(f"{id(worlds)}:{name}")
            kept[f"{id(worlds)}:{name}"] = (balance.minor, balance.version)
            if before is not None and before[1] < balance.version:
                balance.minor = before[0]
        return found

    return swap(rows, "lock_accounts", lock)


def fee_loses_a_cent() -> AbstractContextManager[Any]:
    """The fee of a payment and the fee in its posting are rounded differently."""
    real = postings.capture

    def capture(**values: Any) -> Any:
        fee = values["fee"]
        return real(**values | {"fee": fee - 1 if fee % 2 else fee})

    return swap(postings, "capture", capture)


def fee_in_euros() -> AbstractContextManager[Any]:
    """The PSP's fee is booked in euros, whatever it was taken in."""
    real = postings.psp_fee

    def psp_fee(**values: Any) -> Any:
        return real(**values | {"amount": Money(values["amount"].minor, "eur")})

    return swap(postings, "psp_fee", psp_fee)


def reserve_not_released() -> AbstractContextManager[Any]:
    """A refund that fails leaves its money set aside."""
    real = refunding.fail_refund

    def fail(change: Any, refund: Any, **values: Any) -> None:
        real(change, refund, **values | {"reserved": False})

    from app.deadletters import operations

    stack = ExitStack()
    for module in (refunding, outcomes, resolving, operations):
        stack.enter_context(swap(module, "fail_refund", fail))
    return stack


def replay_not_idempotent() -> AbstractContextManager[Any]:
    """Retrying a dead letter makes new work each time, also for one that is due already."""
    from app.deadletters import operations

    async def revive(session: Any, *, job_id: str, now: Any, why: str) -> Any:
        found = await session.get(jobs.Job, job_id)
        if found.state == "dead":
            return await real(session, job_id=job_id, now=now, why=why)
        return found

    async def judged(session: Any, rt: Any, job_id: str) -> Any:
        letter = await letters.letter(session, job_id=job_id)
        return None, letter, judge(letter)

    real = jobs.revive
    stack = ExitStack()
    stack.enter_context(swap(jobs, "revive", revive))
    stack.enter_context(swap(operations, "_judged", judged))
    return stack


def poison_for_ever() -> AbstractContextManager[Any]:
    """A job that always fails is put back without end."""
    stack = ExitStack()
    stack.enter_context(swap(runner, "MAX_FAILURES", 10**9))

    async def capture(rt: Any, job: Any) -> None:
        raise ValueError("poison")

    from workers.jobs import JOBS

    stack.enter_context(mock.patch.dict(JOBS, {"payments.capture": runner.Known(capture)}))
    return stack


def cancel_while_unknown() -> AbstractContextManager[Any]:
    """A cancel ends a payment although a call about it is an open question."""
    from app.payments import operations

    return swap(operations, "payable", lambda _attempts: False)


def tenant_missing() -> AbstractContextManager[Any]:
    """A payment is found by its id alone."""
    from app.payments import operations

    def without(real: Any) -> Any:
        async def work(*args: Any, **values: Any) -> Any:
            values.pop("merchant_id", None)
            values.pop("livemode", None)
            return await real(*args, **values)

        return work

    return swap(operations, "lock", without(lock))


def sent_before_reserved() -> AbstractContextManager[Any]:
    """A refund goes to the PSP as soon as it is asked for."""
    from app.payments import operations

    real = refunding.new_refund

    def new_refund(change: Change, *args: Any, **values: Any) -> Any:
        made = real(change, *args, **values)
        ids = {"payment_id": made.payment_id, "refund_id": made.id}
        change.job("payments.send_refund", queue="psp", args=ids)
        return made

    return swap(operations, "new_refund", new_refund)


def no_jitter() -> AbstractContextManager[Any]:
    """Everybody waits equally long before the next try."""

    def backoff(rt: Any, tries: int, *, cap: float = 3600.0, at_least: float = 0.0) -> float:
        return max(at_least, min(cap, 2.0 ** min(tries, 20)))

    stack = ExitStack()
    for module in (processing, runner):
        stack.enter_context(swap(module, "backoff", backoff))
    return stack


def refunds_not_locked() -> AbstractContextManager[Any]:
    """The room of a refund is checked against what was read, and taken without a condition."""
    from app.payments import operations

    seen: dict[str, tuple[float, int]] = {}

    async def unlocked(session: Any, rt: Any, **values: Any) -> Change:
        """Return what was there before the others wrote, as a read without a lock does."""
        change = await lock(session, rt, **values)
        payment = change.payment
        at, amount = seen.get(payment.id, (-9.0, 0))
        if rt.timer() - at < 1.0:
            set_committed_value(payment, "amount_refunded", amount)
        else:
            seen[payment.id] = rt.timer(), payment.amount_refunded
        return change

    async def take(session: Any, payment: Payment, amount: int) -> None:
        payment.amount_refunded += amount

    stack = ExitStack()
    stack.enter_context(swap(operations, "lock", unlocked))
    stack.enter_context(swap(operations, "_take_room", take))
    return stack


def people_are_believed() -> AbstractContextManager[Any]:
    """What somebody says at the review desk is done, whatever the PSP says."""

    def believed(result: Result, **_: Any) -> Finding:
        return Finding(agrees=True, words=f"The PSP says {result.cls}, but somebody knows better.")

    return swap(desk, "of_did_not_happen", believed)


def gone_for_good() -> AbstractContextManager[Any]:
    """Money that went back counts as gone, also when the bank sends it back."""
    return swap(Apart, "came_back", lambda _self, _seen: [])


def held_is_taken() -> AbstractContextManager[Any]:
    """What the risk check holds is left to the shop once the customer has agreed."""

    async def keep_back(_change: Any) -> bool:
        return False

    return swap(outcomes, "keep_back", keep_back)


BUGS: dict[str, Plant] = {
    made.__name__: made
    for made in (
        *(plain_begin, refunds_not_locked, key_not_scoped, acknowledged_before_commit),
        *(outbox_outside, sweeper_off, janitor_off, new_key_each_time, timeout_is_failed),
        *(error_500_is_failed, one_miss_is_proof, event_is_believed, events_not_deduplicated),
        *(no_fence, cancelled_is_failed, stale_balance, fee_loses_a_cent, reserve_not_released),
        *(replay_not_idempotent, poison_for_ever, cancel_while_unknown, tenant_missing),
        *(sent_before_reserved, no_jitter, people_are_believed, gone_for_good),
        *(held_is_taken, fee_in_euros),
    )
}
