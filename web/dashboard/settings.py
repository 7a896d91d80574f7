"""The settings of a shop: its name and terms, and the people who belong to it."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.accounts import queries as people
from app.accounts.members import operations as members
from app.accounts.queries import Member
from app.accounts.roles import ROLES
from app.errors import FieldError, Invalid, NotFound, Problem
from app.merchants import operations
from app.merchants.models import Merchant
from web.dashboard import access, forms
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.forms import FINE, Faults
from web.deps import path_id, runtime
from web.render import render, with_toast

ROLE_WORDS = {
    "owner": "Owner: everything, also keys, endpoints and people",
    "operator": "Operator: sees all money, captures, cancels and refunds",
    "viewer": "Viewer: sees all money, changes nothing",
}


class ShopForm(forms.StepUp):
    """What an owner may change of a shop."""

    name: str = ""
    step_up_limit: str = ""


class InviteForm(forms.StepUp):
    """Somebody to add, and what they may do."""

    email: str = ""
    role: str = "viewer"


class RoleForm(forms.StepUp):
    """Another role for a member."""

    role: str = ""


def _acting(request: Req, viewer: Viewer) -> dict[str, Any]:
    rt = runtime(request)
    return {
        "merchant_id": viewer.merchant.id,
        "actor": viewer.actor(request),
        "ids": rt.ids,
        "now": rt.clock(),
    }


def _blank(viewer: Viewer) -> ShopForm:
    shop = viewer.merchant
    limit = money.decimal(shop.step_up_limit, shop.currency, grouping=False)
    return ShopForm(name=shop.name, step_up_limit=limit)


@get("/settings", opt={"permission": "settings:read"})
async def show(request: Req, viewer: Looking) -> Response[Any]:
    """Show name, terms and, to owners, the people."""
    return await _page(request, viewer, _blank(viewer), FINE)


async def _page(request: Req, viewer: Viewer, form: ShopForm, wrong: Faults) -> Response[Any]:
    found: list[Member] = []
    if viewer.can("members:read"):
        async with runtime(request).sessions.read() as session:
            found = await people.members(session, merchant_id=viewer.merchant.id)
    return render(
        request,
        "settings/index.html",
        status_code=wrong.status,
        shell=viewer.shell("settings"),
        base=viewer.base,
        shop=viewer.merchant,
        form=form,
        wrong=wrong,
        members=found,
        me=viewer.user_id,
        may_write=viewer.can("settings:write"),
        may_invite=viewer.can("members:write"),
        fresh=viewer.is_confirmed(),
    )


@post("/settings", opt={"permission": "settings:write"})
async def change(request: Req, viewer: Looking) -> Response[Any]:
    """Change name and limit; another limit needs password and code, as it guards refunds."""
    form = await forms.read(request, ShopForm)
    rt, shop = runtime(request), viewer.merchant
    try:
        limit = _limit(form, shop)
        if limit != shop.step_up_limit:
            await access.step_up(request, viewer, form)
        async with rt.sessions.begin() as session:
            await operations.change_settings(
                session,
                **_acting(request, viewer),
                changes={"name": form.name, "step_up_limit": limit},
            )
    except Problem as problem:
        return await _page(request, viewer, form, forms.faults(problem))
    return _back(viewer, "The settings are changed.")


def _limit(form: ShopForm, shop: Merchant) -> int:
    try:
        return money.parse_decimal(form.step_up_limit, shop.currency)
    except ValueError:
        detail = f"Write an amount in {shop.currency.upper()}, like 500.00."
        raise Invalid(
            detail, errors=[FieldError("step_up_limit", "wrong_format", detail)]
        ) from None


def _back(viewer: Viewer, toast: str) -> Response[Any]:
    response: Response[Any] = Redirect(f"{viewer.base}/settings", status_code=303)
    with_toast(response, toast)
    return response


@get("/settings/members/new", opt={"permission": "members:write"})
async def show_invite(request: Req, viewer: Looking) -> Response[Any]:
    """Ask whom to invite."""
    form = InviteForm(form_key=runtime(request).ids.token(16))
    return _invite_page(request, viewer, form, FINE)


def _invite_page(request: Req, viewer: Viewer, form: InviteForm, wrong: Faults) -> Response[Any]:
    return render(
        request,
        "settings/invite.html",
        status_code=wrong.status,
        shell=viewer.shell("settings"),
        base=viewer.base,
        form=form,
        wrong=wrong,
        roles=[(role, ROLE_WORDS[role]) for role in ROLES],
        fresh=viewer.is_confirmed(),
    )


@post("/settings/members", opt={"permission": "members:write"})
async def invite(request: Req, viewer: Looking) -> Response[Any]:
    """Add somebody by e-mail address; the answer is the same whether they had an account."""
    form = await forms.read(request, InviteForm)
    rt = runtime(request)

    async def work(session: AsyncSession) -> str:
        invited = await members.invite(
            session,
            **_acting(request, viewer),
            sealer=rt.sealer,
            public_url=rt.settings.public_url,
            shop_name=viewer.merchant.name,
            email=form.email,
            role=form.role,
        )
        return invited.user.id

    try:
        await access.step_up(request, viewer, form)
        await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return _invite_page(request, viewer, form, forms.faults(problem))
    return _back(viewer, f"A letter to {form.email.strip()} is on its way.")


async def _member(request: Req, viewer: Viewer, user_id: str) -> Member:
    checked = path_id(user_id, "usr")
    async with runtime(request).sessions.read() as session:
        found = await people.members(session, merchant_id=viewer.merchant.id)
    for member in found:
        if member.user_id == checked:
            return member
    raise NotFound


@get("/settings/members/{user_id:str}", opt={"permission": "members:write"})
async def show_member(request: Req, viewer: Looking, user_id: FromPath[str]) -> Response[Any]:
    """Show a member, with the ways to change the role and to take them out. Raises NotFound."""
    member = await _member(request, viewer, user_id)
    return _member_page(request, viewer, member, member.role, FINE)


def _member_page(
    request: Req, viewer: Viewer, member: Member, role: str, wrong: Faults
) -> Response[Any]:
    return render(
        request,
        "settings/member.html",
        status_code=wrong.status,
        shell=viewer.shell("settings"),
        base=viewer.base,
        member=member,
        role=role,
        wrong=wrong,
        roles=[(role, ROLE_WORDS[role]) for role in ROLES],
        me=viewer.user_id,
        fresh=viewer.is_confirmed(),
    )


@post("/settings/members/{user_id:str}/role", opt={"permission": "members:write"})
async def change_role(request: Req, viewer: Looking, user_id: FromPath[str]) -> Response[Any]:
    """Give a member another role; their sessions end. Raises NotFound."""
    form = await forms.read(request, RoleForm)
    member = await _member(request, viewer, user_id)
    try:
        await access.step_up(request, viewer, form)
        async with runtime(request).sessions.begin() as session:
            await members.change_role(
                session, **_acting(request, viewer), user_id=member.user_id, role=form.role
            )
    except Problem as problem:
        return _member_page(request, viewer, member, form.role, forms.faults(problem))
    return _back(viewer, "The role is changed.")


@post("/settings/members/{user_id:str}/remove", opt={"permission": "members:write"})
async def remove(request: Req, viewer: Looking, user_id: FromPath[str]) -> Response[Any]:
    """Take a member out, at once; that must never wait for a second factor. Raises NotFound."""
    await forms.read(request, forms.Sent)
    member = await _member(request, viewer, user_id)
    try:
        async with runtime(request).sessions.begin() as session:
            await members.remove(session, **_acting(request, viewer), user_id=member.user_id)
    except members.LastOwner as problem:
        return _member_page(request, viewer, member, member.role, forms.faults(problem))
    return _back(viewer, f"{member.email} no longer belongs to this shop.")


router = access.shop_pages(
    show,
    change,
    show_invite,
    invite,
    show_member,
    change_role,
    remove,
)
