"""The page of one payment: what happened to this money, and asking the PSP again."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from app.payments import queries
from web.dashboard import payment_page
from web.dashboard.access import Looking, Viewer
from web.dashboard.payment_forms import Form, blank_form
from web.dashboard.payment_page import PaymentPage
from web.deps import runtime
from web.looking import look_soon
from web.render import render, with_toast

Req = Request[Any, Any, Any]


@get("/payments/{payment_id:str}", opt={"permission": "payments:read"})
async def show(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Response[str]:
    """Show one payment; htmx gets its live part alone. Raises PaymentUnknown."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        page = await payment_page.load(session, rt=rt, viewer=viewer, payment_id=payment_id)
        form = await blank_form(session, rt=rt, viewer=viewer, page=page)
    return page_answer(request, viewer, page, form)


def page_answer(
    request: Req, viewer: Viewer, page: PaymentPage, form: Form, *, opened: str = ""
) -> Response[str]:
    """Return the page, with one of its dialogs open; 422 when its form has errors."""
    return render(
        request,
        "payment/index.html",
        fragment=None if opened else "payment/_payment.html",
        status_code=422 if form.errors or form.error_text else 200,
        shell=viewer.shell("payments"),
        page=page,
        form=form,
        opened=opened,
        cursor=page.cursor,
    )


@post("/payments/{payment_id:str}/ask", opt={"permission": "payments:write"})
async def ask(request: Req, viewer: Looking, payment_id: FromPath[str]) -> Redirect:
    """Bring the next look at the PSP forward; a worker asks, never this process."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        row = await queries.payment_row(session, **viewer.tenant, payment_id=payment_id)
    await look_soon(request, row.id)
    answer = Redirect(f"{viewer.base}/payments/{row.id}", status_code=303)
    with_toast(answer, "We ask the PSP now. The answer shows here.")
    return answer
