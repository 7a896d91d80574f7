"""The review queue: payments that the risk check holds, approved or refused by a person."""

from typing import Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.errors import Problem
from app.ids import is_id
from app.payments import reviewing
from app.payments.models import Customer, Payment
from app.payments.queries import payment_shapes
from app.payments.reviewing import Held, ReviewUnknown
from app.risk import queries as risk
from app.risk.models import RiskCheck
from web.dashboard import forms
from web.dashboard.access import Looking, Viewer, shop_pages
from web.dashboard.forms import FINE, Faults, Sent
from web.dashboard.views import name_of
from web.deps import runtime
from web.render import render, with_toast

Req = Request[Any, Any, Any]


class ReviewSent(Sent):
    """The form of a decision; `seen` is the version that the person looked at."""

    reason: str = ""
    decision: str = ""
    seen: str = ""


class ReviewLine(msgspec.Struct, frozen=True, kw_only=True):
    """A payment in the queue."""

    row: Payment
    name: str
    why: str
    since: Any


class ReviewPage(msgspec.Struct, frozen=True, kw_only=True):
    """One payment to decide about, with what each button does."""

    row: Payment
    risk: RiskCheck
    name: str
    who: str | None
    country: str | None
    card_country: str | None
    waits: bool
    may_decide: bool
    tone: str
    icon: str
    title: str
    text: str
    button: str
    effect: str


@get("/reviews", opt={"permission": "payments:read"})
async def listing(request: Req, viewer: Looking) -> Response[str]:
    """Show what waits for a person, oldest first."""
    async with runtime(request).sessions.read() as session:
        found = await reviewing.waiting(session, **viewer.tenant)
        total = await risk.count_waiting(session, **viewer.tenant)
    return render(
        request,
        "reviews/index.html",
        shell=viewer.shell("reviews"),
        base=viewer.base,
        items=[_line(one) for one in found],
        total=total,
        may_decide=viewer.can("payments:review"),
    )


def _line(held: Held) -> ReviewLine:
    return ReviewLine(
        row=held.payment,
        name=name_of(held.payment),
        why=" ".join(str(one["text"]) for one in held.check.reasons),
        since=held.check.held_at,
    )


@get("/reviews/{payment_id:str}", opt={"permission": "payments:read"})
async def show(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[str]:
    """Show one payment with its reasons and the form. Raises ReviewUnknown."""
    form = ReviewSent(form_key=runtime(request).ids.token(16))
    return await _page(request, viewer, payment_id, form, FINE)


async def _page(
    request: Req, viewer: Viewer, payment_id: str, form: ReviewSent, wrong: Faults
) -> Response[str]:
    if not is_id(payment_id, "pay"):
        raise ReviewUnknown("There is no such review.")
    async with runtime(request).sessions.read() as session:
        page = await _load(session, request, viewer, payment_id)
    return render(
        request,
        "reviews/review.html",
        status_code=wrong.status,
        shell=viewer.shell("reviews"),
        base=viewer.base,
        page=page,
        form=form,
        wrong=wrong,
    )


async def _load(session: AsyncSession, request: Req, viewer: Viewer, payment_id: str) -> ReviewPage:
    held = await reviewing.held(session, **viewer.tenant, payment_id=payment_id)
    (shape,) = await payment_shapes(session, rt=runtime(request), rows=[held.payment])
    customer = await session.get(Customer, payment_id)
    who = shape.customer
    tone, icon, title, text = _says(held)
    button, effect = _effects(held.payment)
    return ReviewPage(
        row=held.payment,
        risk=held.check,
        name=name_of(held.payment),
        who=(who.name or who.email) if who else None,
        country=customer.country if customer else None,
        card_country=customer.card_country if customer else None,
        waits=held.check.review == "waiting",
        may_decide=viewer.can("payments:review"),
        tone=tone,
        icon=icon,
        title=title,
        text=text,
        button=button,
        effect=effect,
    )


def _says(held: Held) -> tuple[str, str, str, str]:
    """Return tone, icon, title and text of where the review stands."""
    check = held.check
    if check.review == "approved":
        return "ok", "shield-check", f"Approved by {check.reviewed_by}", check.review_reason or ""
    if check.review == "refused":
        return "bad", "shield-x", f"Refused by {check.reviewed_by}", check.review_reason or ""
    if check.review == "over":
        text = "It was cancelled, has lapsed or was captured before anybody decided."
        return "quiet", "ban", "There is nothing to decide any more", text
    text = " ".join(str(one["text"]) for one in check.reasons)
    return "wait", "user-exclamation", "Is this payment all right?", text


def _effects(row: Payment) -> tuple[str, str]:
    """Return the label of the button that approves, and what both buttons do."""
    amount = money.text(row.amount, row.currency)
    approve = f"Approve {amount}"
    if not row.hosted:
        takes = "is held on" if row.capture_method == "manual" else "is charged to"
        effect = f"Approved, {amount} {takes} the saved card. Refused, the payment fails unsent."
        return approve, effect
    if row.capture_method == "manual":
        effect = f"Approved, {amount} stays held until your shop captures it. Refused, it is let go"
        return approve, f"{effect} and the payment fails."
    effect = f"{amount} is held on the customer's card. Approved, it is taken now. Refused, it is"
    return f"Approve and take {amount}", f"{effect} let go and the payment fails."


@post("/reviews/{payment_id:str}", opt={"permission": "payments:review"})
async def decide(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[Any]:
    """Approve or refuse, once however often it is pressed. Raises ReviewUnknown."""
    sent, rt = await forms.read(request, ReviewSent), runtime(request)
    approves = sent.decision == "approve"
    if sent.decision not in {"approve", "refuse"}:
        wrong = Faults(text="Choose whether to approve or to refuse.", status=422)
        return await _page(request, viewer, payment_id, _again(request, sent), wrong)
    chosen: Literal["approve", "refuse"] = "approve" if approves else "refuse"

    async def work(session: AsyncSession) -> str:
        await reviewing.decide(
            session,
            rt=rt,
            actor=viewer.actor(request),
            **viewer.tenant,
            payment_id=payment_id,
            decision=chosen,
            why=sent.reason,
            seen=_version(sent.seen),
        )
        return payment_id

    try:
        done = await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    except Problem as problem:
        wrong = forms.faults(problem)
        wrong.status = problem.status if problem.status == 409 else wrong.status
        return await _page(request, viewer, payment_id, _again(request, sent), wrong)
    answer: Response[Any] = Redirect(f"{viewer.base}/reviews", status_code=303)
    if not done.replayed:
        with_toast(answer, "The payment is approved." if approves else "The payment is refused.")
    return answer


def _version(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _again(request: Req, sent: ReviewSent) -> ReviewSent:
    return ReviewSent(form_key=runtime(request).ids.token(16), reason=sent.reason[:1000])


router = shop_pages(listing, show, decide)
