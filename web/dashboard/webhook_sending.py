"""Sending messages by hand: a test event, one delivery again, or all that wait."""

from typing import Any

from litestar import Response, post
from litestar.params import FromPath
from sqlalchemy.ext.asyncio import AsyncSession

from app.webhooks import operations, queries
from app.webhooks.queries import Cursor
from web.dashboard import access, forms
from web.dashboard.access import Looking, Req
from web.dashboard.webhooks import acting, back
from web.deps import path_id, runtime

_AT_ONCE = 100  # How many waiting messages one press sends.


@post("/webhooks/{endpoint_id:str}/test", opt={"permission": "webhooks:write"})
async def send_test(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Send a test event to this endpoint alone, once for a form. Raises EndpointNotFound."""
    form = await forms.read(request, forms.Sent)
    checked, rt = path_id(endpoint_id, "we"), runtime(request)

    async def work(session: AsyncSession) -> str:
        return await operations.send_test_event(
            session, **acting(request, viewer), sealer=rt.sealer, endpoint_id=checked
        )

    try:
        await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except operations.EndpointDisabled:
        return back(viewer, checked)  # The page says that it is switched off.
    return back(viewer, checked, "The test event is on its way. How it went shows here.")


@post(
    "/webhooks/{endpoint_id:str}/deliveries/{delivery_id:str}/send",
    opt={"permission": "webhooks:redeliver"},
)
async def send_now(
    request: Req, viewer: Looking, endpoint_id: FromPath[str], delivery_id: FromPath[str]
) -> Response[Any]:
    """Try one delivery now. Raises DeliveryNotFound."""
    checked, delivery = path_id(endpoint_id, "we"), path_id(delivery_id, "whd")
    await forms.read(request, forms.Sent)
    more = f"?delivery={delivery}#delivery"
    try:
        async with runtime(request).sessions.begin() as session:
            await operations.redeliver(session, **acting(request, viewer), delivery_id=delivery)
    except operations.EndpointDisabled:
        return back(viewer, checked, more=more)
    return back(viewer, checked, "It is sent now. How it went shows here.", more)


@post("/webhooks/{endpoint_id:str}/send", opt={"permission": "webhooks:redeliver"})
async def send_all(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Try all that waits now, at most 100 at a press. Raises EndpointNotFound."""
    await forms.read(request, forms.Sent)
    checked, rt = path_id(endpoint_id, "we"), runtime(request)
    async with rt.sessions.begin() as session:
        await queries.endpoint(session, **viewer.tenant, endpoint_id=checked)
        page = await queries.deliveries(
            session,
            **viewer.tenant,
            endpoint_id=checked,
            state="retrying",
            cursor=Cursor(limit=_AT_ONCE),
        )
        for item in page.data:
            await operations.redeliver(session, **acting(request, viewer), delivery_id=item.id)
    many = len(page.data)
    toast = f"{many} message{'' if many == 1 else 's'} sent now." if many else "Nothing waits."
    return back(viewer, checked, toast)


router = access.shop_pages(send_test, send_now, send_all)
