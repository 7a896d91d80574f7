"""The customer's way to the PSP's page and back; never a form, never a call to a PSP."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy import select
from sqlalchemy.orm import load_only

from app.errors import NotFound
from app.ids import is_id
from app.merchants.models import Merchant
from app.payments.explain import came_apart
from app.payments.models import Attempt, Payment
from app.payments.schemas import checkout_token
from app.payments.states import FINAL, RISK_REFUSED
from app.risk.models import RiskCheck
from app.runtime import Runtime
from app.secrets import same
from web.deps import runtime
from web.looking import look_soon
from web.render import is_fragment, render

Asked = Request[Any, Any, Any]

REFRESH_SECONDS = 3
ONWARD_SECONDS = 5
_NEVER_PAGE = frozenset({"created", "sent", "unknown", "not_sent", "rejected"})
_PAGE_IS_MADE = frozenset({None, "psp_unavailable", "held_for_operator"})
# The waiting page is read every few seconds, so it leaves out what is sealed and long.
_OF_ATTEMPTS = (
    Attempt.kind,
    Attempt.state,
    Attempt.code,
    Attempt.page_url,
    Attempt.psp_reference,
    Attempt.session_reference,
)


class Checkout(msgspec.Struct, kw_only=True):
    """What a customer may see of a payment: shop, order and amount, never who pays."""

    payment_id: str
    token: str
    status: str
    status_reason: str | None
    livemode: bool
    shop: str
    reference: str | None
    description: str | None
    amount: int
    currency: str
    method: str | None
    declined: bool
    refused: bool
    unsent: bool  # The PSP's page has never been there, so nobody can have paid on it.
    apart: bool  # Money came that did not fit; it is not the shop's and goes back.
    page_url: str | None
    return_url: str | None
    cancel_url: str | None
    review: str | None  # What the risk check waits for; never told to the customer in words.

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more for the customer."""
        return self.status in FINAL or self.outcome in {"requires_capture", "held"}

    @property
    def paid(self) -> bool:
        """Whether the customer's part is done and went well."""
        return self.outcome in {"succeeded", "requires_capture", "held"}

    @property
    def outcome(self) -> str:
        """The status, with what a risk check makes of it: `held` or `refused`."""
        if self.status == "processing" and self.review == "waiting":
            return "held"
        return "refused" if self.status == "failed" and self.refused else self.status

    @property
    def going(self) -> bool:
        """Whether the customer is surely not charged yet and goes on to the PSP's page."""
        return self.status == "requires_action" or self.unsent

    @property
    def way_back(self) -> str | None:
        """The shop's address, with the payment and its status added; a hint, no proof."""
        base = self.return_url if self.paid or self.cancel_url is None else self.cancel_url
        if base is None:
            return None
        parts = urlsplit(base)
        query = parse_qsl(parts.query, keep_blank_values=True)
        query += [("payment", self.payment_id), ("status", self.status)]
        return urlunsplit(parts._replace(query=urlencode(query)))


async def _checkout(rt: Runtime, token: str) -> Checkout:
    """Return what a token opens. Raises NotFound, the same for a wrong one and an unknown one."""
    payment_id = token.partition(".")[0]
    if not is_id(payment_id, "pay") or not token.isascii():
        raise NotFound
    if not same(token, checkout_token(rt.sealer, payment_id)):
        raise NotFound
    async with rt.sessions.read() as session:
        found = await session.execute(
            select(Payment, Merchant.name, RiskCheck.review)
            .join(Merchant, Merchant.id == Payment.merchant_id)
            .outerjoin(RiskCheck, RiskCheck.payment_id == Payment.id)
            .where(Payment.id == payment_id, Payment.hosted)
        )
        row = found.first()
        if row is None:
            raise NotFound
        payment: Payment = row.Payment
        attempts = await session.scalars(
            select(Attempt)
            .where(
                Attempt.payment_id == payment_id,
                Attempt.merchant_id == payment.merchant_id,
                Attempt.livemode == payment.livemode,
            )
            .options(load_only(*_OF_ATTEMPTS))
        )
        return _seen(payment, row.name, token, list(attempts), row.review)


def _surely_unsent(payment: Payment, attempts: list[Attempt]) -> bool:
    """Tell whether the PSP's page is still being made, and there never was one to pay on.

    Whatever names a page or a charge may have been paid.
    """
    making = payment.status == "processing" and payment.status_reason in _PAGE_IS_MADE
    return (
        making
        and bool(attempts)
        and all(
            row.kind == "checkout"
            and row.state in _NEVER_PAGE
            and not (row.page_url or row.psp_reference or row.session_reference)
            for row in attempts
        )
    )


def _is_web(url: str | None) -> bool:
    # It came from outside: only an address that a browser fetches is followed.
    return url is not None and url.startswith(("https://", "http://"))


def _seen(
    payment: Payment, shop: str, token: str, attempts: list[Attempt], review: str | None
) -> Checkout:
    pages = [row.page_url for row in attempts if row.kind == "checkout" and row.state == "open"]
    page_url = pages[0] if pages else None
    return Checkout(
        payment_id=payment.id,
        token=token,
        status=payment.status,
        status_reason=payment.status_reason,
        livemode=payment.livemode,
        shop=shop,
        reference=payment.reference,
        description=payment.description,
        amount=payment.amount,
        currency=payment.currency,
        method=payment.method,
        declined=payment.failure_code is not None,
        refused=payment.failure_code == RISK_REFUSED,
        review=review,
        unsent=_surely_unsent(payment, attempts),
        apart=came_apart(payment, attempts),
        page_url=page_url if payment.status == "requires_action" and _is_web(page_url) else None,
        return_url=payment.return_url,
        cancel_url=payment.cancel_url,
    )


@get("/checkout/{token:str}", opt={"permission": "public"})
async def checkout(request: Asked, token: FromPath[str]) -> Response[Any]:
    """Send the customer on to the PSP's page; until it exists, wait visibly."""
    seen = await _checkout(runtime(request), token)
    if seen.finished:
        return _result(request, seen)
    if seen.page_url is not None:
        if is_fragment(request):
            # A part of the page cannot follow a redirect to another site; the browser can.
            return Response(
                b"", media_type="text/html", headers={"HX-Redirect": f"/checkout/{token}"}
            )
        return Redirect(seen.page_url, status_code=303)
    return _waiting(request, seen)


@get("/checkout/{token:str}/return", opt={"permission": "public"})
async def checkout_return(request: Asked, token: FromPath[str]) -> Response[Any]:
    """Show the true state after the PSP's page, then go on to the shop."""
    seen = await _checkout(runtime(request), token)
    if seen.finished:
        return _result(request, seen)
    # The PSP's event may be slower than the customer; a worker looks now, web never does.
    await look_soon(request, seen.payment_id)
    return _waiting(request, seen, returned=True)


def _waiting(request: Asked, seen: Checkout, *, returned: bool = False) -> Response[str]:
    address = f"/checkout/{seen.token}{'/return' if returned else ''}"
    # Whoever comes back without having paid can go to the same page again.
    again = returned and seen.page_url is not None
    return render(
        request,
        "checkout/wait.html",
        fragment="checkout/_wait.html",
        headers={} if is_fragment(request) else {"Refresh": f"{REFRESH_SECONDS}; url={address}"},
        mode="live" if seen.livemode else "test",
        seen=seen,
        address=address,
        onward=seen.going and not returned,
        again=f"/checkout/{seen.token}" if again else None,
    )


def _result(request: Asked, seen: Checkout) -> Response[Any]:
    if is_fragment(request):
        onward = {"HX-Redirect": f"/checkout/{seen.token}/return"}
        return Response(b"", media_type="text/html", headers=onward)
    headers = {}
    if seen.way_back is not None and seen.paid:
        headers["Refresh"] = f"{ONWARD_SECONDS}; url={seen.way_back}"
    return render(
        request,
        "checkout/result.html",
        headers=headers,
        mode="live" if seen.livemode else "test",
        seen=seen,
    )


router = Router("/", route_handlers=[checkout, checkout_return])
