"""Finding an object of ours at Stripe without its id: bounded lists, then search."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from app.psp.port import Request, Result
from app.psp.stripe.client import Client
from app.psp.stripe.exchange import classify
from app.psp.stripe.objects import GarbledError, Page, read

_PAGE = 100
_PAGES = 5
# An object is made when the attempt is first sent, or by a replay within Stripe's key window.
_EARLY = timedelta(minutes=5)
_SOON = timedelta(minutes=15)
_LATE = timedelta(hours=25)


class LookUpFailedError(Exception):
    """A look-up itself failed: nothing is known about what it asked for."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message or result.cls)
        self.result = result


async def pages(client: Client, service: str, **params: Any) -> AsyncIterator[dict[str, Any]]:
    """Iterate over the newest entries of a list, a bounded number. Raises LookUpFailedError."""
    after: dict[str, str] = {}
    for _ in range(_PAGES):
        asked = {"limit": _PAGE, **params, **after}
        page = await _page(client, service, "list_async", asked)
        for entry in page.data:
            yield entry
        if not page.has_more or not page.data:
            return
        after = {"starting_after": str(page.data[-1].get("id"))}
    yield {}  # The mark of a list that goes on.


async def find(client: Client, service: str, request: Request, now: datetime) -> str | None:
    """Return the id of the attempt's object, or None, which is no proof.

    `service` is `payment_intents` or `checkout.sessions`. Raises LookUpFailedError.
    """
    start = request.created_at
    windows = [(start - _EARLY, start + _SOON)]
    if now > start + _SOON:
        windows.append((start + _SOON, start + _LATE))
    for low, high in windows:
        created = {"gte": int(low.timestamp()), "lte": int(high.timestamp())}
        async for entry in pages(client, service, created=created):
            if is_ours(entry, request):
                return str(entry["id"])
    if service == "payment_intents":
        return await _search(client, request)
    return None


def is_ours(entry: dict[str, Any], request: Request) -> bool:
    """Tell whether an entry of a list was made by this attempt."""
    known = entry.get("metadata")
    return (
        isinstance(known, dict)
        and known.get("attempt_id") == request.attempt_id
        and known.get("installation") == request.installation
        and isinstance(entry.get("id"), str)
    )


async def _search(client: Client, request: Request) -> str | None:
    # Search is late but exact: it finds what a busy account's lists bury.
    query = f"metadata['attempt_id']:'{request.attempt_id}'"
    page = await _page(client, "payment_intents", "search_async", {"query": query, "limit": 10})
    for entry in page.data:
        if is_ours(entry, request):
            return str(entry["id"])
    return None


async def _page(client: Client, service: str, verb: str, params: dict[str, Any]) -> Page:
    async def send(services: Any, options: dict[str, Any]) -> Any:
        for name in service.split("."):
            services = getattr(services, name)
        return await getattr(services, verb)(params=params, options=options)

    exchange = await client.get(send)
    if not exchange.answered or exchange.body is None:
        raise LookUpFailedError(classify(exchange))
    try:
        return read(exchange.body, Page)
    except GarbledError as error:
        raise LookUpFailedError(Result(cls="unknown", message=str(error))) from error
