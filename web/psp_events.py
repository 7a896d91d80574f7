"""Events from payment service providers: verify the raw bytes, store once, answer; work later."""

from typing import Any

import structlog
from litestar import Request, Response, Router, post
from litestar.params import FromPath

from app.errors import Invalid, NotFound
from app.inbox import operations as inbox
from app.psp.port import EventRefused
from app.runtime import Runtime
from web.deps import EVENT_BODY_BYTES, TooLarge, runtime

log = structlog.get_logger(__name__)


class EventNotVerified(Invalid):
    """The event's signature, time or form is wrong; it had no effect."""

    code = "event_not_verified"


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """Read at most 256 kB. A larger event is an alarm: only the janitor can make up for it."""
    announced = request.headers.get("content-length", "")
    size, parts = 0, []
    if not (announced.isascii() and announced.isdigit() and int(announced) > EVENT_BODY_BYTES):
        async for part in request.stream():
            size += len(part)
            if size > EVENT_BODY_BYTES:
                break
            parts.append(part)
        else:
            return b"".join(parts)
    log.error(
        "a PSP event is too large and was refused",
        connection_id=request.path_params["connection_id"],
        size=announced[:20] or size,
    )
    raise TooLarge("An event has at most 256 kB.")


@post(
    "/psp/{connection_id:str}/events",
    status_code=200,
    opt={"permission": "public"},
    # The limit is held here, so that hitting it can raise an alarm.
    request_max_body_size=None,
)
async def receive_event(
    request: Request[Any, Any, Any], connection_id: FromPath[str]
) -> Response[dict[str, bool]]:
    """Store a verified event. The same event again is answered the same and stored once."""
    rt: Runtime = runtime(request)
    if connection_id not in set(rt.connections):
        raise NotFound("There is no such connection.")
    body = await _body(request)
    # A header that stands twice tells nothing: a forged signature must not ride beside a true one.
    every = {name: request.headers.getall(name) for name in request.headers}
    headers = {name: values[0] for name, values in every.items() if len(values) == 1}
    try:
        event = rt.psp(connection_id).verify_event(body, headers, rt.clock())
    except EventRefused as error:
        log.warning("a PSP event was refused", connection_id=connection_id, reason=str(error)[:200])
        raise EventNotVerified("The event does not verify.") from error
    rt.failpoints.hit("inbox.before_store")
    async with rt.sessions.begin() as session:
        made = await inbox.store(
            session,
            ids=rt.ids,
            sealer=rt.sealer,
            connection_id=connection_id,
            event=event,
            body=body,
            now=rt.clock(),
        )
    rt.failpoints.hit("inbox.after_store")
    return Response({"received": True, "new": made})


router = Router("/", route_handlers=[receive_event])
