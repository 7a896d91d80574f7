"""One change of one payment: the locked row, and the rows that follow from it, saved together."""

from typing import Any

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import db, jobs
from app.errors import NotFound
from app.ledger import operations as ledger
from app.ledger.models import PostingRow
from app.ledger.postings import Posting
from app.payments import schemas
from app.payments.models import Attempt, Customer, Payment, Refund
from app.payments.states import (
    FINAL,
    HELD,
    PAYMENT_MOVES,
    REFUND_MOVES,
    REVIEW_AFTER,
    may_move,
)
from app.psp.gates import fair_key
from app.reviews import operations as reviews
from app.risk.models import RiskCheck
from app.runtime import Runtime
from app.secrets import Sealer
from app.webhooks import operations as webhooks
from app.webhooks.models import Event

# Which of a PSP's gates a kind of work has to pass.
_OPERATIONS = {
    "payments.open_checkout": "checkout",
    "payments.charge": "charge",
    "payments.capture": "capture",
    "payments.void": "void",
    "payments.expire": "void",
    "payments.send_refund": "refund",
    "payments.fetch_fee": "lookup",
    "janitor.resolve": "lookup",
}


class PaymentUnknown(NotFound):
    """No such payment of this merchant in this mode."""

    code = "payment_not_found"


class WrongMove(Exception):
    """The code tried an edge that the state graph does not have: our own bug, never a status."""


class Change:
    """Collects what one transaction does to a payment; `save` writes it in few round trips.

    The payment's row is locked from `lock` to the end of the transaction.
    """

    def __init__(
        self, session: AsyncSession, rt: Runtime, payment: Payment, customer: Customer | None
    ) -> None:
        self.session = session
        self.rt = rt
        self.now = rt.clock()
        self.payment = payment
        self.customer = customer
        self.data = schemas.data_sealer(customer, rt.sealer) if customer else None
        self.hold_only = False  # A page that is made now only holds the money, whatever was asked.
        self._left_review = False
        self._rows: list[tuple[Any, dict[str, Any]]] = []
        self._queues: set[str] = set()
        self._reviews: list[dict[str, Any]] = []
        self._answered: list[str] = []

    def shape(self) -> schemas.PaymentShape:
        """Return the payment's public shape as it is now."""
        return shape_of(self.rt, self.payment, self.customer)

    def sealer(self) -> Sealer:
        """Return the payment's own sealer; the general one once the customer was erased."""
        return self.data or self.rt.sealer

    def move(self, status: str, reason: str | None = None, *, tell: bool = True) -> None:
        """Move the payment along its graph and tell the merchant. Raises WrongMove."""
        payment, old = self.payment, self.payment.status
        if not may_move(PAYMENT_MOVES, old, status):
            raise WrongMove(f"payment {payment.id}: {old} to {status}")
        self._left_review |= payment.status_reason == HELD != reason
        payment.status, payment.status_reason = status, reason
        payment.updated_at = self.now
        if status == old:
            return
        if status in FINAL:
            payment.finished_at = self.now
        if tell:
            self.event(f"payment.{status}", schemas.plain(self.shape()), previous=old)

    def move_refund(self, refund: Refund, status: str) -> None:
        """Move a refund along its graph and tell the merchant. Raises WrongMove."""
        old = refund.status
        if not may_move(REFUND_MOVES, old, status):
            raise WrongMove(f"refund {refund.id}: {old} to {status}")
        refund.status, refund.status_reason = status, None
        refund.updated_at = refund.finished_at = self.now
        if status != old:
            self.refund_event(refund, f"refund.{status}", previous=old)

    def refund_event(self, refund: Refund, kind: str, *, previous: str | None) -> None:
        """Tell the merchant about a refund."""
        shape = schemas.plain(schemas.refund(refund))
        self.event(kind, shape, previous=previous, refund_id=refund.id)

    def event(
        self,
        kind: str,
        shape: dict[str, Any],
        *,
        previous: str | None,
        refund_id: str | None = None,
    ) -> None:
        """Add an event to merchants, numbered in the payment's row."""
        self.payment.event_sequence += 1
        values = webhooks.event_row(
            id=self.rt.ids("evt"),
            merchant_id=self.payment.merchant_id,
            livemode=self.payment.livemode,
            type=kind,
            object=shape,
            sequence=self.payment.event_sequence,
            previous_status=previous,
            payment_id=self.payment.id,
            refund_id=refund_id,
            sealer=self.sealer(),
            now=self.now,
        )
        self._rows.append((Event, values))
        self._queues.add("webhooks")

    def post(self, posting: Posting) -> None:
        """Add a posting; the ledger's writer answers it."""
        self._rows.append((PostingRow, ledger.row(posting, now=self.now)))
        self._queues.add("ledger")

    def job(
        self,
        kind: str,
        *,
        queue: str,
        args: dict[str, Any],
        after: float = 0.0,
    ) -> None:
        """Add work, due `after` seconds from now."""
        self._rows.append((jobs.Job, self._job(kind, queue, args, after)))
        self._queues.add(queue)

    def _job(self, kind: str, queue: str, args: dict[str, Any], after: float) -> dict[str, Any]:
        return jobs.row(
            id=self.rt.ids("job"),
            kind=kind,
            args=args,
            queue=queue,
            now=self.now,
            after=after,
            fair_key=work_key(kind, self.payment),
            merchant_id=self.payment.merchant_id,
            livemode=self.payment.livemode,
            payment_id=self.payment.id,
        )

    def review(
        self,
        attempt: Attempt,
        kind: str,
        why: str,
        *,
        amount: int | None = None,
        currency: str | None = None,
        suggestion: str = "compare",
        reference: str | None = None,
    ) -> None:
        """Have a person look at an attempt; one open item of a kind is enough."""
        self._reviews.append(
            reviews.row(
                id=self.rt.ids("rev"),
                merchant_id=attempt.merchant_id,
                livemode=attempt.livemode,
                payment_id=attempt.payment_id,
                attempt_id=attempt.id,
                kind=kind,
                amount=amount or attempt.amount,
                currency=currency or attempt.currency,
                why=why,
                suggestion=suggestion,
                reference=reference or attempt.psp_reference or attempt.session_reference,
                now=self.now,
            )
        )

    def answered(self, attempt: Attempt) -> None:
        """Note that an attempt is about to be known: what a person was asked is answered."""
        # Hardly any attempt has an item, so only those that may have one cost a statement.
        since = attempt.first_sent_at or attempt.created_at
        if attempt.state == "needs_review" or self.now - since >= REVIEW_AFTER:
            self._answered.append(attempt.id)

    def row(self, table: Any, values: dict[str, Any]) -> None:
        """Add a row of another table."""
        self._rows.append((table, values))

    async def save(self) -> None:
        """Write everything; the caller's transaction commits it."""
        await self.session.flush()
        if self._left_review:
            await self._close_review()
        if self._rows:
            rows, self._rows = self._rows, []
            await db.insert_all(self.session, rows)
        for values in self._reviews:
            await reviews.open_once(self.session, values)
        if self._answered:
            await reviews.close_answered(self.session, attempt_ids=self._answered, now=self.now)
        self._reviews, self._answered = [], []
        db.wake(self.session, self._queues)

    async def _close_review(self) -> None:
        # Whatever made the payment go on without a decision (a cancel, the end of its hold), its
        # review is nobody's work any more. A decision has closed it by itself.
        await self.session.execute(
            update(RiskCheck)
            .where(RiskCheck.payment_id == self.payment.id, RiskCheck.review == "waiting")
            .values(review="over", version=RiskCheck.version + 1)
            .execution_options(synchronize_session=False)
        )


def operation_of(kind: str) -> str | None:
    """Return which of a PSP's operations a kind of job carries out; None: it needs no PSP."""
    return _OPERATIONS.get(kind)


def work_key(kind: str, payment: Payment) -> str | None:
    """Return what jobs of a kind are claimed by: while its gate is shut, they are left alone."""
    operation = operation_of(kind)
    if operation is None:
        return None
    return fair_key(payment.connection_id, operation, payment.merchant_id)


def shape_of(rt: Runtime, payment: Payment, customer: Customer | None) -> schemas.PaymentShape:
    """Return a payment's public shape with its customer and checkout address."""
    url = None
    if payment.hosted:
        token = schemas.checkout_token(rt.sealer, payment.id)
        url = f"{rt.settings.public_url}/checkout/{token}"
    return schemas.payment(payment, who=schemas.customer(customer, rt.sealer), checkout_url=url)


# Every step of every payment needs these; building a statement costs more than running it.
_LOCK = (
    select(Payment, Customer)
    .outerjoin(Customer, Customer.payment_id == Payment.id)
    .where(Payment.id == bindparam("payment"))
    .with_for_update(of=Payment)
    .execution_options(populate_existing=True)
)
_LOCK_OF_MERCHANT = _LOCK.where(
    Payment.merchant_id == bindparam("merchant"), Payment.livemode == bindparam("mode")
)
_ATTEMPTS = (
    select(Attempt)
    .where(Attempt.payment_id == bindparam("payment"))
    .order_by(Attempt.id)
    .execution_options(populate_existing=True)
)


async def lock(
    session: AsyncSession,
    rt: Runtime,
    *,
    payment_id: str,
    merchant_id: str | None = None,
    livemode: bool | None = None,
) -> Change:
    """Lock a payment for a change. Raises PaymentUnknown.

    A shell names merchant and mode; a worker, whose job row carries the id, may leave them out.
    """
    values: dict[str, Any] = {"payment": payment_id}
    statement = _LOCK
    if merchant_id is not None:
        values |= {"merchant": merchant_id, "mode": livemode}
        statement = _LOCK_OF_MERCHANT
    found = (await session.execute(statement, values)).first()
    if found is None:
        raise PaymentUnknown("There is no such payment.")
    payment, customer = found
    return Change(session, rt, payment, customer)


async def attempts_of(session: AsyncSession, payment_id: str) -> list[Attempt]:
    """Return a payment's attempts, oldest first."""
    return list((await session.scalars(_ATTEMPTS, {"payment": payment_id})).all())


def json_bytes(value: Any) -> bytes:
    """Write canonical JSON: sorted keys, no spaces."""
    return msgspec.json.encode(value, order="deterministic")
