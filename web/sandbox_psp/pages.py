"""The hosted payment page: order, card form, second step, and where the customer goes then."""

import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from litestar import Controller, Request, Response, get, post
from litestar.response import Redirect, Template

from web.sandbox_psp import cards, money, sessions
from web.sandbox_psp.book import Stored
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.work import Sandbox, Work

_ADVICE = {
    "card_declined": "Use another card, or ask your bank.",
    "insufficient_funds": "There is not enough money on this card. Use another one.",
    "processing_error": "Something went wrong with the card network. Try again in a little while.",
    "test_mode_live_card": "This is a sandbox: only the test cards below work.",
    "payment_intent_authentication_failure": "The second step was not passed. Try again.",
}
_HINT = "This card was declined. Try another number."
_FIELD_LIMIT = 200
_BODY_LIMIT = 20_000


class Pages(Controller):
    """Everything below /pay."""

    path = "/pay"

    @get("/{session_id:str}")
    async def show(self, session_id: str, sandbox: Sandbox, courier: Courier) -> Response[Any]:
        """Show the page of a session as it is now."""
        work = sandbox.work()
        session = sessions.current(work, session_id)
        await _settled(work, courier)
        return _page(work, session)

    @post("/{session_id:str}")
    async def pay(
        self, request: Request[Any, Any, Any], session_id: str, sandbox: Sandbox, courier: Courier
    ) -> Response[Any]:
        """Pay with the card of the form; a decline is shown on the page."""
        form = await _form(request)
        work = sandbox.work()
        session = sessions.current(work, session_id)
        if session is None or session.body["status"] != "open":
            await _settled(work, courier)
            return _after(work, session)
        details, wrong = check_card(form, now=work.now)
        if wrong:
            return _card_page(work, session, form, wrong=wrong, status=422)
        with work.book.whole():
            error = sessions.pay(work, session, details.pop("token"), details)
        await _settled(work, courier)
        if error is not None:
            return _card_page(work, session, form, error=error, status=402)
        return _after(work, session)

    @get("/{session_id:str}/challenge")
    async def challenge(self, session_id: str, sandbox: Sandbox, courier: Courier) -> Response[Any]:
        """Show the bank's second step."""
        work = sandbox.work()
        session = sessions.current(work, session_id)
        await _settled(work, courier)
        if session is None or not _wants_challenge(work, session):
            return _page(work, session)
        return _template(work, session, "challenge.html", {})

    @post("/{session_id:str}/challenge")
    async def answer(
        self, request: Request[Any, Any, Any], session_id: str, sandbox: Sandbox, courier: Courier
    ) -> Response[Any]:
        """Take the customer's answer to the second step."""
        form = await _form(request)
        work = sandbox.work()
        session = sessions.current(work, session_id)
        if session is None or not _wants_challenge(work, session):
            await _settled(work, courier)
            return _after(work, session)
        with work.book.whole():
            error = sessions.answer_challenge(
                work, session, passed=form.get("outcome") == "complete"
            )
        await _settled(work, courier)
        if error is not None:
            return _card_page(work, session, {}, error=error, status=402)
        return _after(work, session)


async def _form(request: Request[Any, Any, Any]) -> dict[str, str]:
    body = (await request.body())[:_BODY_LIMIT].decode("utf-8", "replace")
    fields = parse_qs(body, keep_blank_values=True, max_num_fields=50)
    return {name: values[-1][:_FIELD_LIMIT].replace("\0", "") for name, values in fields.items()}


async def _settled(work: Work, courier: Courier) -> None:
    await work.book.durable()
    courier.wake()


def check_card(form: dict[str, str], *, now: float) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the form says and, by field, what is wrong with it."""
    wrong: dict[str, str] = {}
    number = re.sub(r"[ -]", "", form.get("number", ""))
    if not re.fullmatch(r"[0-9]{12,19}", number) or not cards.passes_luhn(number):
        wrong["number"] = "Your card number is not right. Check its digits."
    month, year = _expiry(form.get("expiry", ""))
    today = datetime.fromtimestamp(now, UTC)
    if not 1 <= month <= 12:
        wrong["expiry"] = "Write the month and the year, for example 08 / 29."
    elif (year, month) < (today.year, today.month):
        wrong["expiry"] = "This card has expired."
    if not re.fullmatch(r"[0-9]{3,4}", form.get("cvc", "").strip()):
        wrong["cvc"] = "3 or 4 digits, on the back of the card."
    email = form.get("email", "").strip()
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        wrong["email"] = "Write an address like name@example.com."
    details = {
        "token": cards.token_of(number),
        "last4": number[-4:],
        "exp_month": month,
        "exp_year": year,
        "email": email or None,
        "name": form.get("name", "").strip() or None,
    }
    return details, wrong


def _expiry(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,2})\s*/?\s*((?:20)?[0-9]{2})\s*", text)
    if match is None:
        return 0, 0
    year = int(match[2])
    return int(match[1]), year if year > 2000 else 2000 + year


def _wants_challenge(work: Work, session: Stored) -> bool:
    intent_id = session.body["payment_intent"]
    if session.body["status"] != "open" or intent_id is None:
        return False
    return bool(work.need("payment_intent", intent_id).body["status"] == "requires_action")


def _after(work: Work, session: Stored | None) -> Response[Any]:
    """Send the browser on after a form: to the shop, to the second step, or to the page."""
    if session is None:
        return _page(work, session)
    here = f"/pay/{session.id}"
    if session.body["status"] == "complete":
        return Redirect(success_url(session), status_code=303)
    if _wants_challenge(work, session):
        return Redirect(f"{here}/challenge", status_code=303)
    return Redirect(here, status_code=303)


def _page(work: Work, session: Stored | None) -> Response[Any]:
    if session is None:
        return _template(work, None, "gone.html", {"reason": "unknown"}, status=404)
    if session.body["status"] == "complete":
        return _template(work, session, "gone.html", {"reason": "paid"})
    if session.body["status"] == "expired":
        return _template(work, session, "gone.html", {"reason": "expired"}, status=410)
    return _card_page(work, session, {})


def _card_page(
    work: Work,
    session: Stored,
    form: dict[str, str],
    *,
    wrong: dict[str, str] | None = None,
    error: dict[str, Any] | None = None,
    status: int = 200,
) -> Response[Any]:
    shown = {"email": session.body["customer_email"] or "", **form}
    # The security code is never written back into a page.
    shown.pop("cvc", None)
    decline = None
    if error is not None:
        code = error.get("decline_code") or error["code"]
        advice = _ADVICE.get(code) or _ADVICE.get(error["code"], _ADVICE["card_declined"])
        decline = {"message": error["message"], "advice": advice, "code": error["code"]}
        wrong = (
            {} if error["code"] == "payment_intent_authentication_failure" else {"number": _HINT}
        )
    context = {"form": shown, "wrong": wrong or {}, "decline": decline, "cards": cards.SHOWN}
    return _template(work, session, "pay.html", context, status=status)


def success_url(session: Stored) -> str:
    """Return where a paid customer goes."""
    url: str = session.body["success_url"]
    return url.replace("{CHECKOUT_SESSION_ID}", session.id)


def _origin(url: str | None) -> str:
    parts = urlsplit(url or "")
    # A policy is a list of words: nothing but a plain origin may get into it.
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin if re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+", origin) else ""


def _template(
    work: Work,
    session: Stored | None,
    name: str,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> Response[Any]:
    target = _origin(session.body["success_url"]) if session else ""
    policy = (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
        # The policy covers the redirect that follows the form as well.
        f"frame-ancestors 'none'; form-action 'self' {target}".rstrip()
    )
    if session is not None:
        context |= {
            "session": session.body,
            "lines": session.private["lines"],
            "merchant": session.private["merchant"] or work.sandbox.config.merchant_name,
            "success_url": success_url(session),
        }
    return Template(
        name,
        context={**context, "show": money.show, "year": time.gmtime().tm_year},
        status_code=status,
        headers={
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
