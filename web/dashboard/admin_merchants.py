"""The platform's shops: list, one shop with its people, make a shop, invite somebody."""

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.accounts import queries as people
from app.accounts import roles
from app.accounts.members import operations as members
from app.errors import FieldError, Invalid, Problem
from app.ids import is_id
from app.merchants import operations, queries
from app.runtime import Runtime
from web.dashboard import access, forms
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.forms import FINE, Faults
from web.deps import path_id, runtime
from web.render import render, with_toast

BASE = "/admin/merchants"
PAGE = 50
OPT = {"permission": "admin:merchants"}
_DAY = 86_400


class MakeShop(forms.StepUp):
    """A new shop: its name, terms and first owner. Percent, decimals and days, as text."""

    name: str = ""
    currency: str = "eur"
    percent: str = "1.40"
    fixed: str = "0.25"
    days: str = "2"
    email: str = ""


class InviteSent(forms.StepUp):
    """Somebody who is to belong to the shop."""

    email: str = ""
    role: str = roles.OWNER


class Terms(msgspec.Struct, frozen=True):
    """What of the form the shop is made with; minor units, basis points, seconds."""

    currency: str
    fee_basis_points: int
    fee_fixed: int
    settle_delay_seconds: int


def _number(text: str, param: str, *, decimals: int, most: int) -> int:
    """Read a decimal as an integer of its smallest unit. Raises Invalid."""
    whole, _, part = text.strip().partition(".")
    good = whole.isascii() and whole.isdigit() and len(whole) <= 9
    good = good and len(part) <= decimals and (not part or (part.isascii() and part.isdigit()))
    value = int(whole + part.ljust(decimals, "0")) if good else -1
    if not 0 <= value <= most:
        detail = "Write a number" + (f" with up to {decimals} decimals." if decimals else ".")
        raise Invalid(detail, param=param, errors=[FieldError(param, "invalid", detail)])
    return value


def read_terms(form: MakeShop) -> Terms:
    """Read the terms of the form. Raises Invalid, naming the field."""
    code = form.currency.lower()
    if code not in money.CURRENCIES:
        detail = "Choose one of the currencies."
        raise Invalid(
            detail, param="currency", errors=[FieldError("currency", "not_allowed", detail)]
        )
    places = money.exponent(code)
    return Terms(
        currency=code,
        fee_basis_points=_number(form.percent, "percent", decimals=2, most=10_000),
        fee_fixed=_number(form.fixed, "fixed", decimals=places, most=money.MAX_AMOUNT),
        settle_delay_seconds=_number(form.days, "days", decimals=0, most=90) * _DAY,
    )


@get("/merchants", opt=OPT)
async def index(request: Req, viewer: Looking) -> Response[str]:
    """List the shops, newest first."""
    after = request.query_params.get("after", "")
    after = after if is_id(after, "mer") else ""
    async with runtime(request).sessions.read() as session:
        shops, more = await queries.merchants(session, limit=PAGE, starting_after=after or None)
    return render(
        request,
        "merchants/index.html",
        shell=viewer.shell("merchants"),
        mode=None,
        shops=shops,
        newer=BASE if after else "",
        older=f"{BASE}?after={shops[-1].id}" if more else "",
    )


@get("/merchants/new", opt=OPT)
async def show_new(request: Req, viewer: Looking) -> Response[str]:
    """Ask what the new shop is."""
    return _new_page(request, viewer, MakeShop(form_key=runtime(request).ids.token(16)), FINE)


def _new_page(request: Req, viewer: Viewer, form: MakeShop, wrong: Faults) -> Response[str]:
    return render(
        request,
        "merchants/new.html",
        status_code=wrong.status,
        shell=viewer.shell("merchants"),
        mode=None,
        form=form,
        wrong=wrong,
        currencies=[(code, code.upper()) for code in sorted(money.CURRENCIES)],
        fresh=viewer.is_confirmed(),
    )


@post("/merchants", opt=OPT)
async def make(request: Req, viewer: Looking) -> Response[Any]:
    """Make a shop and invite its first owner, once."""
    form, rt = await forms.read(request, MakeShop), runtime(request)
    actor = viewer.actor(request)

    async def work(session: AsyncSession) -> str:
        shop = await operations.create_merchant(
            session,
            ids=rt.ids,
            now=rt.clock(),
            actor=actor,
            name=form.name,
            terms=msgspec.to_builtins(read_terms(form)),
        )
        if form.email.strip():
            await _invite(session, rt, actor, shop.id, shop.name, form.email, roles.OWNER)
        return shop.id

    try:
        read_terms(form)
        await access.step_up(request, viewer, form)
        done = await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return _new_page(request, viewer, form, forms.faults(problem))
    answer: Response[Any] = Redirect(f"{BASE}/{done.resource_id}", status_code=303)
    with_toast(answer, "The shop is made.")
    return answer


async def _invite(
    session: AsyncSession, rt: Runtime, actor: Any, shop_id: str, name: str, email: str, role: str
) -> None:
    await members.invite(
        session,
        ids=rt.ids,
        now=rt.clock(),
        sealer=rt.sealer,
        actor=actor,
        public_url=rt.settings.public_url,
        merchant_id=shop_id,
        shop_name=name,
        email=email.strip(),
        role=role,
    )


@get("/merchants/{shop_id:str}", opt=OPT)
async def show(request: Req, viewer: Looking, shop_id: FromPath[str]) -> Response[str]:
    """Show one shop with its terms and people. Raises NotFound."""
    form = InviteSent(form_key=runtime(request).ids.token(16))
    return await _shop_page(request, viewer, shop_id, form, FINE)


async def _shop_page(
    request: Req, viewer: Viewer, shop_id: str, form: InviteSent, wrong: Faults
) -> Response[str]:
    checked = path_id(shop_id, "mer")
    async with runtime(request).sessions.read() as session:
        shop = await queries.merchant(session, merchant_id=checked)
        found = await people.members(session, merchant_id=checked)
    return render(
        request,
        "merchants/merchant.html",
        status_code=wrong.status,
        shell=viewer.shell("merchants"),
        mode=None,
        shop=shop,
        members=found,
        form=form,
        wrong=wrong,
        roles=[(role, role.capitalize()) for role in roles.ROLES],
        fresh=viewer.is_confirmed(),
    )


@post("/merchants/{shop_id:str}/members", opt=OPT)
async def invite(request: Req, viewer: Looking, shop_id: FromPath[str]) -> Response[Any]:
    """Invite somebody to a shop; the letter holds their link. Raises NotFound."""
    form, rt = await forms.read(request, InviteSent), runtime(request)
    checked = path_id(shop_id, "mer")

    async def work(session: AsyncSession) -> str:
        shop = await queries.merchant(session, merchant_id=checked)
        actor = viewer.actor(request)
        await _invite(session, rt, actor, shop.id, shop.name, form.email, form.role)
        return shop.id

    try:
        await access.step_up(request, viewer, form)
        await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return await _shop_page(request, viewer, checked, form, forms.faults(problem))
    answer: Response[Any] = Redirect(f"{BASE}/{checked}", status_code=303)
    with_toast(answer, "The invitation is on its way.")
    return answer
