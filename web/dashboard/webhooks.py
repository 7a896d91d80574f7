"""The pages of webhook endpoints: list, make, change, deliveries, tests, new secrets."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Problem
from app.webhooks import operations, queries
from app.webhooks.queries import Cursor
from app.webhooks.schemas import EVENT_TYPES, EndpointObject
from web.dashboard import access, forms, webhook_page
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.forms import FINE, Faults
from web.deps import path_id, runtime
from web.render import render, with_toast

_ROWS = 20


class EndpointForm(forms.StepUp):
    """An address and what it is told; no types means all."""

    url: str = ""
    description: str = ""
    event_types: list[str] = msgspec.field(default_factory=list)


def acting(request: Req, viewer: Viewer) -> dict[str, Any]:
    """Return what every operation on endpoints takes."""
    rt = runtime(request)
    return {
        **viewer.tenant,
        "actor": viewer.actor(request),
        "ids": rt.ids,
        "now": rt.clock(),
    }


@get("/webhooks", opt={"permission": "webhooks:read"})
async def index(request: Req, viewer: Looking) -> Response[Any]:
    """List the endpoints, or lead straight to the only one."""
    async with runtime(request).sessions.read() as session:
        page = await queries.endpoints(session, **viewer.tenant)
    return render(
        request,
        "webhooks/index.html",
        shell=viewer.shell("webhooks"),
        base=viewer.base,
        endpoints=page.data,
        may_write=viewer.can("webhooks:write"),
    )


@get("/webhooks/new", opt={"permission": "webhooks:write"})
async def show_new(request: Req, viewer: Looking) -> Response[Any]:
    """Ask where events shall go."""
    form = EndpointForm(form_key=runtime(request).ids.token(16))
    return _form_page(request, viewer, form, FINE)


def _form_page(
    request: Req,
    viewer: Viewer,
    form: EndpointForm,
    wrong: Faults,
    endpoint: EndpointObject | None = None,
) -> Response[Any]:
    return render(
        request,
        "webhooks/form.html",
        status_code=wrong.status,
        shell=viewer.shell("webhooks"),
        base=viewer.base,
        form=form,
        wrong=wrong,
        types=[(name, name in form.event_types) for name in EVENT_TYPES],
        endpoint=endpoint,
        fresh=viewer.is_confirmed(),
    )


@post("/webhooks", opt={"permission": "webhooks:write"})
async def make(request: Req, viewer: Looking) -> Response[Any]:
    """Make an endpoint and show its secret, once."""
    form = await forms.read(request, EndpointForm)
    rt = runtime(request)
    secrets: list[str] = []
    try:
        await access.step_up(request, viewer, form)
        url = await rt.egress.check_url(form.url.strip())

        async def work(session: AsyncSession) -> str:
            row, secret = await operations.create_endpoint(
                session,
                **acting(request, viewer),
                sealer=rt.sealer,
                url=url,
                event_types=form.event_types,
                description=_description(form),
            )
            secrets[:] = [secret]
            return row.id

        done = await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return _form_page(request, viewer, form, forms.faults(problem))
    return await _secret_page(request, viewer, done, secrets, made=True)


def _description(form: EndpointForm) -> str | None:
    text = form.description.strip()
    if len(text) > 200 or not text.isprintable():
        raise operations.UnknownEventType(
            "Write at most 200 printable characters.", param="description"
        )
    return text or None


async def _secret_page(
    request: Req, viewer: Viewer, done: forms.Done, secrets: list[str], *, made: bool
) -> Response[Any]:
    async with runtime(request).sessions.read() as session:
        endpoint = await queries.endpoint(
            session, **viewer.tenant, endpoint_id=done.resource_id or ""
        )
    return render(
        request,
        "webhooks/secret.html",
        shell=viewer.shell("webhooks"),
        base=viewer.base,
        endpoint=endpoint,
        secret="" if done.replayed else secrets[0],
        made=made,
    )


@get("/webhooks/{endpoint_id:str}", opt={"permission": "webhooks:read"})
async def show(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Show one endpoint; htmx gets its live part. Raises EndpointNotFound."""
    asked = request.query_params
    tab = asked.get("state", "")
    cursor = Cursor(
        limit=_ROWS,
        starting_after=_id_or_none(asked.get("after")),
        ending_before=_id_or_none(asked.get("before")),
    )
    rt = runtime(request)
    async with rt.sessions.read() as session:
        page = await webhook_page.load(
            session,
            rt=rt,
            viewer=viewer,
            endpoint_id=path_id(endpoint_id, "we"),
            state=tab if tab in webhook_page.TABS else "",
            delivery_id=_id_or_none(asked.get("delivery")),
            cursor=cursor,
        )
    return render(
        request,
        "webhooks/endpoint.html",
        fragment="webhooks/_endpoint.html",
        shell=viewer.shell("webhooks"),
        page=page,
        base=viewer.base,
        here=f"{viewer.base}/webhooks/{endpoint_id}",
        tab=tab if tab in webhook_page.TABS else "",
        tabs=webhook_page.TABS,
        may_write=viewer.can("webhooks:write"),
        may_send=viewer.can("webhooks:redeliver"),
        form_key=rt.ids.token(16),
        path=viewer.path,
    )


def _id_or_none(text: str | None) -> str | None:
    return path_id(text, "whd") if text else None


@get("/webhooks/{endpoint_id:str}/edit", opt={"permission": "webhooks:write"})
async def show_edit(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Show what can be changed. Raises EndpointNotFound."""
    endpoint = await _endpoint(request, viewer, endpoint_id)
    form = EndpointForm(
        url=endpoint.url,
        description=endpoint.description or "",
        event_types=endpoint.event_types,
    )
    return _form_page(request, viewer, form, FINE, endpoint)


async def _endpoint(request: Req, viewer: Viewer, endpoint_id: str) -> EndpointObject:
    async with runtime(request).sessions.read() as session:
        return await queries.endpoint(
            session, **viewer.tenant, endpoint_id=path_id(endpoint_id, "we")
        )


@post("/webhooks/{endpoint_id:str}/edit", opt={"permission": "webhooks:write"})
async def edit(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Change address, types or description; another address needs password and code (S11)."""
    form = await forms.read(request, EndpointForm)
    endpoint = await _endpoint(request, viewer, endpoint_id)
    rt = runtime(request)
    try:
        wanted = form.url.strip()
        if wanted != endpoint.url:
            await access.step_up(request, viewer, form)
        url = await rt.egress.check_url(wanted) if wanted != endpoint.url else msgspec.UNSET
        async with rt.sessions.begin() as session:
            await operations.update_endpoint(
                session,
                **acting(request, viewer),
                endpoint_id=endpoint.id,
                url=url,
                event_types=form.event_types,
                description=_description(form),
            )
    except Problem as problem:
        return _form_page(request, viewer, form, forms.faults(problem), endpoint)
    return back(viewer, endpoint.id, "The endpoint is changed.")


def back(viewer: Viewer, endpoint_id: str, toast: str = "", more: str = "") -> Response[Any]:
    """Return the way back to the page of an endpoint."""
    response: Response[Any] = Redirect(
        f"{viewer.base}/webhooks/{endpoint_id}{more}", status_code=303
    )
    if toast:
        with_toast(response, toast)
    return response


@get("/webhooks/{endpoint_id:str}/secret", opt={"permission": "webhooks:write"})
async def show_rotate(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Say what a new secret means. Raises EndpointNotFound."""
    endpoint = await _endpoint(request, viewer, endpoint_id)
    return _step_page(request, viewer, endpoint, "secret", FINE)


@get("/webhooks/{endpoint_id:str}/delete", opt={"permission": "webhooks:write"})
async def show_delete(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Say what deleting means. Raises EndpointNotFound."""
    endpoint = await _endpoint(request, viewer, endpoint_id)
    return _step_page(request, viewer, endpoint, "delete", FINE)


def _step_page(
    request: Req, viewer: Viewer, endpoint: EndpointObject, step: str, wrong: Faults
) -> Response[Any]:
    return render(
        request,
        "webhooks/step.html",
        status_code=wrong.status,
        shell=viewer.shell("webhooks"),
        base=viewer.base,
        endpoint=endpoint,
        step=step,
        wrong=wrong,
        fresh=viewer.is_confirmed(),
        form_key=runtime(request).ids.token(16),
    )


@post("/webhooks/{endpoint_id:str}/secret", opt={"permission": "webhooks:write"})
async def rotate(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Give the endpoint a new secret and show it, once. Raises EndpointNotFound."""
    form = await forms.read(request, forms.StepUp)
    endpoint = await _endpoint(request, viewer, endpoint_id)
    rt = runtime(request)
    secrets: list[str] = []

    async def work(session: AsyncSession) -> str:
        row, secret = await operations.rotate_secret(
            session, **acting(request, viewer), sealer=rt.sealer, endpoint_id=endpoint.id
        )
        secrets[:] = [secret]
        return row.id

    try:
        await access.step_up(request, viewer, form)
        done = await forms.once(request, user_id=viewer.user_id, key=form.form_key, work=work)
    except Problem as problem:
        return _step_page(request, viewer, endpoint, "secret", forms.faults(problem))
    return await _secret_page(request, viewer, done, secrets, made=False)


Work = Callable[[AsyncSession, dict[str, Any]], Awaitable[Any]]


async def _act(request: Req, viewer: Viewer, endpoint_id: str, work: Work) -> str:
    """Do something to an endpoint in one transaction. Raises EndpointNotFound."""
    await forms.read(request, forms.Sent)
    checked = path_id(endpoint_id, "we")
    async with runtime(request).sessions.begin() as session:
        await work(session, {**acting(request, viewer), "endpoint_id": checked})
    return checked


@post("/webhooks/{endpoint_id:str}/delete", opt={"permission": "webhooks:write"})
async def remove(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Take the endpoint out of use for ever. Raises EndpointNotFound."""
    await _act(
        request,
        viewer,
        endpoint_id,
        lambda session, given: operations.delete_endpoint(session, **given),
    )
    response: Response[Any] = Redirect(f"{viewer.base}/webhooks", status_code=303)
    with_toast(response, "The endpoint is deleted.")
    return response


@post("/webhooks/{endpoint_id:str}/off", opt={"permission": "webhooks:write"})
async def switch_off(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Send nothing more to the endpoint. Raises EndpointNotFound."""
    checked = await _act(
        request,
        viewer,
        endpoint_id,
        lambda session, given: operations.update_endpoint(session, **given, disabled=True),
    )
    return back(viewer, checked)


@post("/webhooks/{endpoint_id:str}/on", opt={"permission": "webhooks:write"})
async def switch_on(request: Req, viewer: Looking, endpoint_id: FromPath[str]) -> Response[Any]:
    """Send to the endpoint again. Raises EndpointNotFound."""
    checked = await _act(
        request,
        viewer,
        endpoint_id,
        lambda session, given: operations.update_endpoint(session, **given, disabled=False),
    )
    return back(viewer, checked)


router = access.shop_pages(
    index,
    show_new,
    make,
    show,
    show_edit,
    edit,
    show_rotate,
    rotate,
    show_delete,
    remove,
    switch_off,
    switch_on,
)
