"""Answers of the API: one object, a list with its next page, and waiting for what is due."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Response

from app.errors import Refused
from web.deps import ApiRequest, runtime

LONGEST_WAIT = 10  # Seconds; `Prefer: wait=60` waits so long, too.
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})", re.ASCII | re.IGNORECASE)
_STEP_SECONDS = 0.1


class TwoCursors(Refused):
    """A list goes on from one object, in one direction."""

    code = "two_cursors"


def shaped(
    value: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    """Return a public shape as JSON."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


def one_cursor(starting_after: str | None, ending_before: str | None) -> None:
    """Refuse two directions at once. Raises TwoCursors."""
    if starting_after is not None and ending_before is not None:
        raise TwoCursors("Send starting_after or ending_before, not both.", param="ending_before")


def listed(
    request: ApiRequest,
    data: Sequence[Any],
    *,
    has_more: bool,
    headers: dict[str, str] | None = None,
) -> Response[bytes]:
    """Return a page of a list, newest first, with a link to the next (older) one."""
    path = request.scope["path"]
    asked = parse_qsl(request.scope["query_string"].decode("ascii"), keep_blank_values=True)
    backwards = any(name == "ending_before" for name, _ in asked)
    made = dict(headers or {})
    if data and (has_more or backwards):
        kept = [(n, v) for n, v in asked if n not in {"starting_after", "ending_before"}]
        query = urlencode([*kept, ("starting_after", data[-1].id)])
        base = runtime(request).settings.public_url
        made["Link"] = f'<{base}{path}?{query}>; rel="next"'
    body = {"object": "list", "data": data, "has_more": has_more, "url": path}
    return shaped(body, headers=made)


def wait_seconds(request: ApiRequest) -> int:
    """Return how long the client would rather wait for a final state (RFC 7240), at most 10 s."""
    for value in request.headers.getall("prefer", []):
        if found := _WAIT.search(value):
            return min(int(found[1]), LONGEST_WAIT)
    return 0


async def until(
    look: Callable[[], Awaitable[Any]], done: Callable[[Any], bool], *, seconds: float
) -> Any:
    """Look again and again until `done` or the time is over; return what was seen last.

    Between two looks no connection to the database is held.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    seen = await look()
    while not done(seen) and loop.time() < end:
        await asyncio.sleep(min(_STEP_SECONDS, max(0.0, end - loop.time())))
        seen = await look()
    return seen
