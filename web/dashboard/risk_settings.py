"""The settings of a shop's risk check: limits of each currency, velocity, and the blocklist."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.errors import FieldError, Invalid, Problem
from app.risk import operations, queries
from app.risk.models import RiskBlock
from app.risk.rules import Limits, Terms
from web.dashboard import access, forms
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.forms import FINE, Faults
from web.deps import path_id, runtime
from web.render import render, with_toast

KINDS = {"email": "E-mail address", "method": "Saved card (token)", "country": "Country"}
_AMOUNTS = ("hold_above", "refuse_above", "pass_up_to")
_COUNTS = ("customer_per_hour", "merchant_per_hour")


class LimitsForm(forms.Sent):
    """The limits of one currency, in decimals, and what holds for all of them."""

    currency: str = ""
    hold_above: str = ""
    refuse_above: str = ""
    pass_up_to: str = ""
    customer_per_hour: str = ""
    merchant_per_hour: str = ""
    country_mismatch: str = ""


class BlockForm(forms.Sent):
    """Somebody not to sell to."""

    kind: str = "email"
    value: str = ""
    note: str = ""


def _decimal(minor: int | None, currency: str) -> str:
    return "" if minor is None else money.decimal(minor, currency, grouping=False)


def _blank(terms: Terms, currency: str) -> LimitsForm:
    limits = terms.of(currency)
    return LimitsForm(
        currency=currency.upper(),
        **{name: _decimal(getattr(limits, name), currency) for name in _AMOUNTS},
        **{name: str(getattr(terms, name) or "") for name in _COUNTS},
        country_mismatch="on" if terms.country_mismatch else "",
    )


def _read(form: LimitsForm, terms: Terms) -> Terms:
    """Return the terms with what the form changes. Raises Invalid with all that is wrong."""
    currency, wrong = form.currency.strip().lower(), []
    if currency not in money.CURRENCIES:
        detail = "Write the three letters of a currency, like EUR."
        raise Invalid(detail, errors=[FieldError("currency", "invalid", detail)])
    amounts: dict[str, int | None] = {}
    for name in _AMOUNTS:
        text = getattr(form, name).strip()
        try:
            amounts[name] = money.parse_decimal(text, currency) if text else None
        except ValueError:
            detail = f"Write an amount in {currency.upper()}, or nothing for no limit."
            wrong.append(FieldError(name, "wrong_format", detail))
    counts: dict[str, int | None] = {}
    for name in _COUNTS:
        text = getattr(form, name).strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            detail = "Write a whole number, or nothing for no limit."
            wrong.append(FieldError(name, "wrong_format", detail))
        else:
            counts[name] = int(text) if text else None
    if wrong:
        raise Invalid("Please look at what is marked.", errors=wrong)
    limits = Limits(
        hold_above=amounts["hold_above"],
        refuse_above=amounts["refuse_above"],
        # Nothing written: nothing passes while the provider is down.
        pass_up_to=amounts["pass_up_to"] or 0,
    )
    return Terms(
        limits=terms.limits | {currency: limits},
        customer_per_hour=counts["customer_per_hour"],
        merchant_per_hour=counts["merchant_per_hour"],
        country_mismatch=bool(form.country_mismatch),
    )


@get("/settings/risk", opt={"permission": "settings:read"})
async def show(request: Req, viewer: Looking) -> Response[Any]:
    """Show the limits of a currency and the blocklist."""
    return await _page(request, viewer)


async def _page(
    request: Req,
    viewer: Viewer,
    *,
    limits: LimitsForm | None = None,
    blocking: BlockForm | None = None,
    wrong: Faults = FINE,
) -> Response[Any]:
    """Show the page; the form that was sent comes back with what is `wrong` with it."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        terms = await queries.terms(session, merchant_id=viewer.merchant.id)
        blocks: Sequence[RiskBlock] = await queries.blocks(session, merchant_id=viewer.merchant.id)
    asked = request.query_params.get("currency", "").lower()
    currency = asked if asked in money.CURRENCIES else viewer.merchant.currency
    known = sorted({*terms.limits, viewer.merchant.currency, currency})
    return render(
        request,
        "settings/risk.html",
        status_code=wrong.status,
        shell=viewer.shell("settings"),
        base=viewer.base,
        limits=limits or _blank(terms, currency),
        limits_wrong=FINE if blocking else wrong,
        blocking=blocking or BlockForm(),
        block_wrong=wrong if blocking else FINE,
        rows=[(code, terms.of(code)) for code in known],
        blocks=blocks,
        kinds=KINDS,
        terms=terms,
        provider=rt.settings.risk_url is not None,
        may_write=viewer.can("settings:write"),
    )


def _acting(request: Req, viewer: Viewer) -> dict[str, Any]:
    rt = runtime(request)
    return {
        "merchant_id": viewer.merchant.id,
        "actor": viewer.actor(request),
        "ids": rt.ids,
        "now": rt.clock(),
    }


def _back(viewer: Viewer, toast: str, currency: str = "") -> Response[Any]:
    asked = f"?currency={currency}" if currency else ""
    response: Response[Any] = Redirect(f"{viewer.base}/settings/risk{asked}", status_code=303)
    with_toast(response, toast)
    return response


@post("/settings/risk", opt={"permission": "settings:write"})
async def change(request: Req, viewer: Looking) -> Response[Any]:
    """Change the limits of one currency, and what holds for all of them."""
    form = await forms.read(request, LimitsForm)

    async def work(session: AsyncSession) -> None:
        terms = await queries.terms(session, merchant_id=viewer.merchant.id)
        await operations.change_terms(session, **_acting(request, viewer), terms=_read(form, terms))

    try:
        await runtime(request).sessions.run(work)
    except Problem as problem:
        return await _page(request, viewer, limits=form, wrong=forms.faults(problem))
    return _back(viewer, "The risk settings are changed.", form.currency.strip().lower())


@post("/settings/risk/blocks", opt={"permission": "settings:write"})
async def block(request: Req, viewer: Looking) -> Response[Any]:
    """Put somebody on the blocklist; of an address only a hash is kept."""
    form, rt = await forms.read(request, BlockForm), runtime(request)
    try:
        async with rt.sessions.begin() as session:
            await operations.block(
                session,
                **_acting(request, viewer),
                sealer=rt.sealer,
                kind=form.kind,
                value=form.value,
                note=form.note,
            )
    except Problem as problem:
        return await _page(request, viewer, blocking=form, wrong=forms.faults(problem))
    return _back(viewer, "It is on the blocklist.")


@post("/settings/risk/blocks/{block_id:str}/remove", opt={"permission": "settings:write"})
async def unblock(request: Req, viewer: Looking, block_id: FromPath[str]) -> Response[Any]:
    """Take an entry off the blocklist. Raises NotFound."""
    await forms.read(request, forms.Sent)
    async with runtime(request).sessions.begin() as session:
        await operations.unblock(
            session, **_acting(request, viewer), block_id=path_id(block_id, "blk")
        )
    return _back(viewer, "It is off the blocklist.")


router = access.shop_pages(show, change, block, unblock)
