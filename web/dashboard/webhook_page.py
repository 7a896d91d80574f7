"""Everything that the page of one webhook endpoint shows, read in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.payments.models import Payment
from app.runtime import Runtime
from app.webhooks import queries
from app.webhooks.models import Delivery
from app.webhooks.operations import DeliveryNotFound
from app.webhooks.queries import Cursor, DeliveryDetail
from app.webhooks.schedule import DELAYS, MOST_TRIES
from app.webhooks.schemas import DeliveryObject, DeliveryTry, EndpointObject
from web.dashboard.access import Viewer
from web.render.formats import duration, page_now, when_text

TABS = {"": "All", "retrying": "Trying again", "exhausted": "Gave up", "delivered": "Delivered"}
_TRY_LABELS = ("at once", *(duration(delay) for delay in DELAYS))
_WEEK = timedelta(days=7)
_ERRORS = {
    "timeout": "no answer in time",
    "connect": "no connection",
    "dns": "a name that is not known",
    "tls": "a certificate that does not hold",
    "blocked": "an address that is not public",
    "protocol": "an answer that is not HTTP",
}


class Line(msgspec.Struct, frozen=True):
    """A delivery in the list."""

    item: DeliveryObject
    about: str
    answer: str


class Verdict(msgspec.Struct, frozen=True):
    """The state of the endpoint in one sentence."""

    tone: str
    glyph: str
    title: str
    text: str


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The delivery that is shown in full."""

    detail: DeliveryDetail
    body: str | None  # Laid out for reading; what is signed has no blanks.
    about: str
    sentence: str
    tries: list[tuple[str, str]]
    last: DeliveryTry | None
    heading: str


class EndpointPage(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: its state, its deliveries, and the chosen one."""

    endpoint: EndpointObject
    verdict: Verdict
    lines: list[Line]
    retrying: int
    chosen: Chosen | None
    newer: str | None
    older: str | None
    share: float | None
    usual_ms: int | None


async def load(
    session: AsyncSession,
    *,
    rt: Runtime,
    viewer: Viewer,
    endpoint_id: str,
    state: str = "",
    delivery_id: str | None = None,
    cursor: Cursor,
) -> EndpointPage:
    """Read the page. Raises EndpointNotFound, DeliveryNotFound."""
    of = viewer.tenant
    page_now.set(rt.clock())  # The sentences leave this year's number out, as the page does.
    endpoint = await queries.endpoint(session, **of, endpoint_id=endpoint_id)
    page = await queries.deliveries(
        session, **of, endpoint_id=endpoint_id, state=state or None, cursor=cursor
    )
    items: Sequence[DeliveryObject] = page.data
    names = await _payment_names(session, of, [item.payment for item in items])
    lines = [Line(item, names.get(item.payment or "", ""), answer_of(item)) for item in items]
    counts = await _counts(session, of, endpoint_id)
    chosen = None
    if delivery_id is not None:
        chosen = await _chosen(session, rt, of, endpoint_id, delivery_id)
    share, usual = await _health(session, of, endpoint_id, rt.clock() - _WEEK)
    back = cursor.ending_before is not None
    more_newer = page.has_more if back else cursor.starting_after is not None
    more_older = True if back else page.has_more
    return EndpointPage(
        endpoint=endpoint,
        verdict=_verdict(endpoint, items, counts),
        lines=lines,
        retrying=counts.get("retrying", 0),
        chosen=chosen,
        newer=items[0].id if items and more_newer else None,
        older=items[-1].id if items and more_older else None,
        share=share,
        usual_ms=usual,
    )


async def _payment_names(
    session: AsyncSession, of: dict[str, Any], ids: Sequence[str | None]
) -> dict[str, str]:
    wanted = {one for one in ids if one}
    if not wanted:
        return {}
    found = await session.execute(
        select(Payment.id, Payment.reference).where(
            Payment.merchant_id == of["merchant_id"],
            Payment.livemode.is_(of["livemode"]),
            Payment.id.in_(wanted),
        )
    )
    return {row.id: row.reference or f"{row.id[:10]}…{row.id[-6:]}" for row in found}


def _of(of: dict[str, Any], endpoint_id: str) -> tuple[Any, ...]:
    return (
        Delivery.merchant_id == of["merchant_id"],
        Delivery.livemode.is_(of["livemode"]),
        Delivery.endpoint_id == endpoint_id,
    )


async def _counts(session: AsyncSession, of: dict[str, Any], endpoint_id: str) -> dict[str, int]:
    found = await session.execute(
        select(Delivery.state, func.count()).where(*_of(of, endpoint_id)).group_by(Delivery.state)
    )
    return {row[0]: row[1] for row in found}


async def _health(
    session: AsyncSession, of: dict[str, Any], endpoint_id: str, since: datetime
) -> tuple[float | None, int | None]:
    """Return the share of finished deliveries that arrived, and the usual time to an answer."""
    found = await session.execute(
        select(Delivery.state, Delivery.log)
        .where(
            *_of(of, endpoint_id),
            Delivery.created_at >= since,
            Delivery.state.in_(("delivered", "exhausted")),
        )
        .order_by(Delivery.id.desc())
        .limit(500)
    )
    rows = found.all()
    if not rows:
        return None, None
    times = sorted(row.log[-1]["ms"] for row in rows if row.state == "delivered" and row.log)
    share = sum(row.state == "delivered" for row in rows) / len(rows)
    return share, times[len(times) // 2] if times else None


def answer_of(item: DeliveryObject) -> str:
    """Return what the shop's server answered last, in a word."""
    if item.last_status is not None:
        return str(item.last_status)
    return "No answer" if item.log else ""


def _last_word(one: DeliveryTry) -> str:
    if one.status is not None:
        return str(one.status)
    return _ERRORS.get(one.error or "", one.error or "no answer")


def _verdict(
    endpoint: EndpointObject, items: Sequence[DeliveryObject], counts: dict[str, int]
) -> Verdict:
    retrying, total = counts.get("retrying", 0), sum(counts.values())
    waiting = retrying + counts.get("queued", 0)
    many = f"{waiting} message{'' if waiting == 1 else 's'}"
    waits = f"{many} {'waits' if waiting == 1 else 'wait'}"
    if endpoint.status == "disabled":
        reason = endpoint.status_reason or ""
        return Verdict("quiet", "ban", "Switched off. Nothing is sent to this address.", reason)
    if endpoint.status == "failing" and endpoint.failing_since is not None:
        said = next((_last_word(item.log[-1]) for item in items if item.log), "no answer")
        since = when_text(endpoint.failing_since)
        return Verdict(
            "bad",
            "alert-triangle",
            f"Your shop has answered {said} since {since}."
            if said.isdigit()
            else f"Your shop has not taken a message since {since}: {said}.",
            f"{waits} and {'is' if waiting == 1 else 'are'} tried again by "
            f"{'itself' if waiting == 1 else 'themselves'} for up to 3 days. When your shop is "
            "fixed you can send at once, or do nothing.",
        )
    if not total:
        text = "Send a test event to see whether your shop answers."
        return Verdict("quiet", "clock", "Nothing has been sent yet.", text)
    if retrying:
        one = retrying == 1
        return Verdict(
            "wait",
            "rotate-clockwise",
            f"{retrying} message{'' if one else 's'} {'is' if one else 'are'} tried again by "
            f"{'itself' if one else 'themselves'}.",
            "Your shop did not take "
            f"{'it' if one else 'them'} yet. We try for up to 3 days; you need do nothing.",
        )
    if waiting:
        return Verdict("info", "clock", "Your shop takes our messages.", f"{waits} to be sent.")
    return Verdict("ok", "check", "Your shop takes our messages.", "Nothing waits.")


async def _chosen(
    session: AsyncSession, rt: Runtime, of: dict[str, Any], endpoint_id: str, delivery_id: str
) -> Chosen:
    detail = await queries.delivery(session, sealer=rt.sealer, **of, delivery_id=delivery_id)
    item = detail.delivery
    if item.endpoint != endpoint_id:
        raise DeliveryNotFound("There is no such delivery.", param="id")
    names = await _payment_names(session, of, [item.payment])
    scheduled = [one for one in item.log if not one.manual]
    tries = []
    for index, label in enumerate(_TRY_LABELS):
        tone = ""
        if index < len(scheduled):
            status = scheduled[index].status
            tone = "ok" if status is not None and 200 <= status < 300 else "bad"
        elif index == len(scheduled) and item.state in {"queued", "retrying"}:
            tone = "wait"
        tries.append((label, tone))
    last = item.log[-1] if item.log else None
    heading = "No answer"
    if last is not None:
        heading = f"{_last_word(last)}, {duration(last.ms / 1000)}"
    return Chosen(
        detail=detail,
        body=detail.body and msgspec.json.format(detail.body, indent=2),
        about=names.get(item.payment or "", ""),
        sentence=_sentence(item, scheduled, last, rt.clock()),
        tries=tries,
        last=last,
        heading=heading,
    )


def _sentence(
    item: DeliveryObject, scheduled: list[DeliveryTry], last: DeliveryTry | None, now: datetime
) -> str:
    if last is None:
        return "It waits for its first try."
    by_hand = "The try that was asked for by hand" if last.manual else None
    which = by_hand or f"Try {len(scheduled)} of {MOST_TRIES}"
    at = when_text(last.at)
    if item.state == "delivered":
        return f"{which} was answered with {_last_word(last)} on {at}. Your shop has it."
    ended = f"{which} ended in {_last_word(last)} on {at}."
    if item.state == "exhausted":
        return f"{ended} We have stopped trying; you can send it once your shop is fixed."
    if item.next_try_at is None:
        return ended
    left = (item.next_try_at - now).total_seconds()
    soon = f", in {duration(left)}" if left > 0 else ""
    return f"{ended} Next try on {when_text(item.next_try_at)}{soon}."
