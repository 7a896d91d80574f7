"""The risk check before a payment's first call: read (a moment), ask (nothing open), write.

The accepting request never comes here. A crash before the write asks again, which is harmless.
"""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import earliest
from app.jobs import Claim, Postpone
from app.payments import holding
from app.payments.change import Change
from app.payments.models import Attempt, Customer, Payment
from app.payments.states import FINAL, HELD
from app.risk import fallback, hashes, queries
from app.risk.http import HttpProvider
from app.risk.models import RiskCheck
from app.risk.port import Answer, Counts, Provider, ProviderDown, Question, stricter
from app.risk.rules import RuleSet, Terms
from app.runtime import Runtime

_HOUR = timedelta(hours=1)
CHECKED = frozenset({"charge", "checkout"})  # What a payment may start with at its PSP.


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """An answer about a payment, with who gave it and when; `failure`: why nobody did."""

    provider: str
    answer: Answer
    asked_at: datetime
    answered_at: datetime
    failure: str | None = None


async def ask(rt: Runtime, job: Claim, kind: str) -> Opinion | None:
    """Ask the provider of RISK_URL about a payment that nobody was asked about yet.

    None: there is nothing to ask, or the rule set alone decides, inside of the transaction.
    """
    url = rt.settings.risk_url
    if url is None or kind not in CHECKED:
        return None
    async with rt.sessions.read() as session:
        payment = await session.get(Payment, job.args["payment_id"])
        if payment is None or payment.status in FINAL:
            return None
        if await queries.check_of(session, payment.id) is not None:
            return None
        tried = select(Attempt.id).where(Attempt.payment_id == payment.id).limit(1)
        if await session.scalar(tried) is not None:
            return None
        question, terms, rules = await _prepared(session, rt, payment)
    asked_at = rt.clock()
    own = await rules.ask(question)
    if own.decision == "refuse":
        return _opinion(rt, rules.name, own, asked_at)
    provider = HttpProvider(
        rt.http, url=url, token=rt.settings.risk_token, seconds=rt.settings.deadlines.risk
    )
    try:
        answer = await _asked(rt, provider, question)
    except ProviderDown as down:
        answer = stricter(own, fallback.decide(question, terms))
        return _opinion(rt, provider.name, answer, asked_at, failure=down.detail)
    return _opinion(rt, provider.name, stricter(own, answer), asked_at)


async def _asked(rt: Runtime, provider: Provider, question: Question) -> Answer:
    """Ask, unless that was in vain again and again just now. Raises ProviderDown."""
    era = rt.risk_fuse.enter(rt.timer())
    if era is None:
        raise ProviderDown("it failed several times in a row and is left alone for a moment")
    try:
        answer = await provider.ask(question)
    except ProviderDown:
        rt.risk_fuse.failed(era, rt.timer(), rt.ids.uniform)
        raise
    rt.risk_fuse.worked()
    return answer


def _opinion(
    rt: Runtime, name: str, answer: Answer, asked_at: datetime, *, failure: str | None = None
) -> Opinion:
    return Opinion(
        provider=name, answer=answer, asked_at=asked_at, answered_at=rt.clock(), failure=failure
    )


async def _prepared(
    session: AsyncSession, rt: Runtime, payment: Payment
) -> tuple[Question, Terms, RuleSet]:
    """Read what is asked about a payment, and what its shop has set."""
    terms = await queries.terms(session, merchant_id=payment.merchant_id)
    customer = await session.get(Customer, payment.id)
    hashed = customer.email_hash if customer else None
    method = payment.payment_method
    question = Question(
        payment_id=payment.id,
        merchant_id=payment.merchant_id,
        livemode=payment.livemode,
        amount=payment.amount,
        currency=payment.currency,
        hosted=payment.hosted,
        created_at=payment.created_at,
        email_hash=hashed,
        method_hash=hashes.of_method(rt.sealer, method) if method else None,
        country=customer.country if customer else None,
        card_country=customer.card_country if customer else None,
        counts=await _counts(session, payment, hashed, terms, every=bool(rt.settings.risk_url)),
    )
    return question, terms, RuleSet(terms, await queries.met_blocks(session, question))


async def _counts(
    session: AsyncSession, payment: Payment, hashed: str | None, terms: Terms, *, every: bool
) -> Counts:
    """Count what was accepted within an hour before a payment, as far as somebody wants to know.

    Both come from an index and stop at the limit that they are compared with.
    """
    mine = (payment.merchant_id, payment.livemode)
    since = earliest("pay", payment.created_at - _HOUR)

    async def number(table: type[Payment | Customer], limit: int | None) -> int:
        if limit is None and not every:
            return 0
        id_column = Customer.payment_id if table is Customer else Payment.id
        found = select(id_column).where(
            table.merchant_id == mine[0],
            table.livemode == mine[1],
            id_column >= since,
            id_column < payment.id,
        )
        if table is Customer:
            found = found.where(Customer.email_hash == hashed)
        counted = select(func.count()).select_from(found.limit(limit or 10_000).subquery())
        return await session.scalar(counted) or 0

    customer = await number(Customer, terms.customer_per_hour) if hashed is not None else 0
    return Counts(
        customer_hour=customer, merchant_hour=await number(Payment, terms.merchant_per_hour)
    )


async def clear(change: Change, attempts: list[Attempt], opinion: Opinion | None) -> bool:
    """Tell whether a payment may go to its PSP now; its decision is written down with the rest.

    A hosted payment that is held goes as well: its page only holds the money. Raises Postpone.
    """
    row = await queries.check_of(change.session, change.payment.id)
    if row is None and attempts:
        return True  # It went to its PSP under a release that checked nothing.
    if row is None:
        row = _written(change, opinion or await _by_rules(change))
        if row.decision == "refuse":
            holding.refuse(change)
    if row.decision == "allow" or row.review == "approved":
        return True
    if not holding.awaits_person(row):
        return False
    if change.payment.hosted:
        change.hold_only = True
        return True
    change.move("processing", HELD)
    return False


async def _by_rules(change: Change) -> Opinion:
    rt = change.rt
    if rt.settings.risk_url is not None:
        # What was read before the payment was locked is older than what is so now.
        raise Postpone(1.0, "The risk provider has not been asked yet.")
    question, _, rules = await _prepared(change.session, rt, change.payment)
    return Opinion(
        provider=rules.name,
        answer=await rules.ask(question),
        asked_at=change.now,
        answered_at=change.now,
    )


def _written(change: Change, opinion: Opinion) -> RiskCheck:
    payment, answer = change.payment, opinion.answer
    review = None
    if answer.decision == "hold":
        review = "later" if payment.hosted else "waiting"
    values = {
        "payment_id": payment.id,
        "merchant_id": payment.merchant_id,
        "livemode": payment.livemode,
        "provider": opinion.provider,
        "decision": answer.decision,
        "reasons": msgspec.to_builtins(answer.reasons),
        "score": answer.score,
        "fallback": opinion.failure is not None,
        "fallback_rule": fallback.RULE if opinion.failure is not None else None,
        "failure": opinion.failure,
        "asked_at": opinion.asked_at,
        "answered_at": opinion.answered_at,
        "review": review,
        "held_at": change.now if review == "waiting" else None,
        "version": 1,
    }
    change.row(RiskCheck, values)
    return RiskCheck(**values)
