"""Refund, capture and cancel: dialogs that are pages of their own, each done once."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.accounts.identity import SignInFailed
from app.errors import Conflict, Problem, Refused, Stale
from app.payments import operations, queries
from app.payments.models import Payment
from web.dashboard import forms, payment_page
from web.dashboard.access import Looking, Viewer, step_up
from web.dashboard.forms import Sent, StepUp
from web.dashboard.payment import page_answer
from web.dashboard.payment_forms import (
    Form,
    add_effect,
    blank_form,
    needs_step_up,
    read_amount,
    read_refund,
)
from web.deps import runtime
from web.render import is_fragment, render, with_toast

Req = Request[Any, Any, Any]
_EFFECT = "refund-effect"


class RefundSent(StepUp):
    """The refund form; `available` is what was left in minor units when it was shown."""

    part: str = "full"
    amount: str = ""
    reason: str = ""
    available: str = ""


class CaptureSent(Sent):
    """The capture form."""

    amount: str = ""


class FormWrong(Problem):
    """The form has errors; it is shown again with them."""

    status = 422
    code = "form_wrong"

    def __init__(self, form: Form) -> None:
        super().__init__(form.error_text)
        self.form = form


@get("/payments/{payment_id:str}/refund", opt={"permission": "payments:refund"})
async def refund_form(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[str]:
    """Show the refund dialog; a change in it gets what the refund would do."""
    rt = runtime(request)
    sent = dict(request.query_params)
    if is_fragment(request) and request.headers.get("HX-Target") == _EFFECT:
        async with rt.sessions.read() as session:
            row = await queries.payment_row(session, **viewer.tenant, payment_id=payment_id)
            left = row.amount_captured - row.amount_refunded
            form = read_refund(sent, row, left, key="")
            await add_effect(session, viewer=viewer, row=row, form=form)
        return render(
            request,
            "payment/_effect.html",
            shell=viewer.shell("payments"),
            row=row,
            left=left,
            address=f"{viewer.base}/payments/{row.id}",
            form=form,
        )
    return await _dialog(request, viewer, payment_id, "refund")


@get("/payments/{payment_id:str}/capture", opt={"permission": "payments:capture"})
async def capture_form(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[str]:
    """Show the capture dialog."""
    return await _dialog(request, viewer, payment_id, "capture")


@get("/payments/{payment_id:str}/cancel", opt={"permission": "payments:cancel"})
async def cancel_form(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[str]:
    """Show the cancel dialog."""
    return await _dialog(request, viewer, payment_id, "cancel")


async def _dialog(
    request: Req,
    viewer: Viewer,
    payment_id: str,
    opened: str,
    form: Form | None = None,
    error: str = "",
) -> Response[str]:
    """Return the payment's page with a dialog open: blank, or as it was sent."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        page = await payment_page.load(session, rt=rt, viewer=viewer, payment_id=payment_id)
        if form is None:
            form = await blank_form(session, rt=rt, viewer=viewer, page=page)
        else:
            await add_effect(session, viewer=viewer, row=page.row, form=form)
    form.error_text = form.error_text or error
    allowed = {"refund": page.may.refund, "capture": page.may.capture, "cancel": page.may.cancel}
    if not allowed[opened] and not form.error_text:
        # It has been done or is impossible by now; the page says what is so.
        opened = ""
    return page_answer(request, viewer, page, form, opened=opened)


@post("/payments/{payment_id:str}/refund", opt={"permission": "payments:refund"})
async def refund(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[Any]:
    """Ask for the refund; the amount that was shown as left must still be left."""
    rt = runtime(request)
    sent = await forms.read(request, RefundSent)
    said = ""
    if refused := await _confirmed(request, viewer, payment_id, sent):
        return refused

    async def work(session: AsyncSession) -> str:
        nonlocal said
        row = await queries.payment_row(session, **viewer.tenant, payment_id=payment_id)
        left = row.amount_captured - row.amount_refunded
        form = read_refund(_plain(sent), row, left, key=rt.ids.token(16))
        if form.errors or form.minor is None:
            raise FormWrong(form)
        made = await operations.request_refund(
            session,
            rt=rt,
            actor=viewer.actor(request),
            **viewer.tenant,
            payment_id=payment_id,
            amount=form.minor,
            reason=form.reason or None,
            amount_available=_available(form),
            source="dashboard",
        )
        said = f"Refund of {money.text(form.minor, row.currency)} asked for."
        return made.id

    return await _act(request, viewer, payment_id, "refund", sent, work, lambda: said)


async def _confirmed(
    request: Req, viewer: Viewer, payment_id: str, sent: RefundSent
) -> Response[str] | None:
    """Ask for password and code above the shop's limit; None: nothing stands in the way."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        row = await queries.payment_row(session, **viewer.tenant, payment_id=payment_id)
    left = row.amount_captured - row.amount_refunded
    form = read_refund(_plain(sent), row, left, key=rt.ids.token(16))
    if form.minor is None or not needs_step_up(viewer.merchant, form.minor):
        return None
    try:
        await step_up(request, viewer, sent)
    except SignInFailed:
        form.refuse("confirm_password", "Password or code is not right.")
        return await _dialog(request, viewer, payment_id, "refund", form)
    return None


def _available(form: Form) -> int | None:
    return int(form.available) if form.available.isascii() and form.available.isdigit() else None


@post("/payments/{payment_id:str}/capture", opt={"permission": "payments:capture"})
async def capture(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[Any]:
    """Take what is held, or a part of it."""
    rt = runtime(request)
    sent = await forms.read(request, CaptureSent)
    said = ""

    async def work(session: AsyncSession) -> None:
        nonlocal said
        row = await queries.payment_row(session, **viewer.tenant, payment_id=payment_id)
        form = Form(key=rt.ids.token(16), amount=sent.amount.strip()[:40])
        read_amount(form, row, most=row.amount, field="capture-amount")
        if form.minor is None:
            raise FormWrong(form)
        await operations.request_capture(
            session,
            rt=rt,
            actor=viewer.actor(request),
            **viewer.tenant,
            payment_id=payment_id,
            amount=form.minor,
        )
        said = f"Capture of {money.text(form.minor, row.currency)} asked for."

    return await _act(request, viewer, payment_id, "capture", sent, work, lambda: said)


@post("/payments/{payment_id:str}/cancel", opt={"permission": "payments:cancel"})
async def cancel(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[Any]:
    """Ask for an end without a charge."""
    rt = runtime(request)
    sent = await forms.read(request, Sent)

    async def work(session: AsyncSession) -> None:
        await operations.request_cancel(
            session,
            rt=rt,
            actor=viewer.actor(request),
            **viewer.tenant,
            payment_id=payment_id,
        )

    return await _act(
        request, viewer, payment_id, "cancel", sent, work, lambda: "Cancel asked for."
    )


async def _act(
    request: Req,
    viewer: Viewer,
    payment_id: str,
    opened: str,
    sent: Sent,
    work: Any,
    said: Any,
) -> Response[Any]:
    """Do the work once and go to the payment; what is refused shows the form with its values."""
    try:
        done = await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    except FormWrong as wrong:
        return await _dialog(request, viewer, payment_id, opened, wrong.form)
    except (Refused, Conflict, Stale) as refusal:
        form = await _as_sent(request, viewer, payment_id, sent)
        return await _dialog(request, viewer, payment_id, opened, form, _words(refusal))
    answer: Response[Any] = Redirect(f"{viewer.base}/payments/{payment_id}", status_code=303)
    if not done.replayed:
        with_toast(answer, said())
    return answer


async def _as_sent(request: Req, viewer: Viewer, payment_id: str, sent: Sent) -> Form:
    rt = runtime(request)
    async with rt.sessions.read() as session:
        row: Payment = await queries.payment_row(session, **viewer.tenant, payment_id=payment_id)
    if isinstance(sent, RefundSent):
        left = row.amount_captured - row.amount_refunded
        form = read_refund(_plain(sent), row, left, key=rt.ids.token(16))
        form.errors, form.error_text = [], ""
        return form
    return Form(key=rt.ids.token(16), amount=getattr(sent, "amount", ""))


def _plain(sent: RefundSent) -> dict[str, str]:
    return {
        "part": sent.part,
        "amount": sent.amount,
        "reason": sent.reason,
        "available": sent.available,
    }


def _words(refusal: Problem) -> str:
    """Say a refusal in a person's words; the API's own speak of minor units."""
    return {
        "refund_amount_available_stale": (
            "Something else was refunded meanwhile. Look at what is left and try again."
        ),
        "amount_exceeds_refundable": "More than what is left to refund.",
        "payment_busy": "This payment is being worked on; try again when its outcome is known.",
        "payment_already_paid": "The customer was faster: it is paid. You can refund it.",
    }.get(refusal.code, refusal.detail)
