"""What needs somebody, worst first; each with one button."""

from typing import Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app import money
from app.payments import queries, reviewing, volume
from app.payments.models import Payment
from app.payments.queries import PaymentFilter
from app.runtime import Runtime
from app.webhooks import queries as webhooks
from web.dashboard.access import Viewer
from web.dashboard.views import name_of

_LOOKED_AT = 50


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One line of "Needs attention"; `admin` marks what only the platform's admins see."""

    tone: Literal["bad", "odd", "wait"]
    icon: str
    title: str
    text: str
    button: str
    href: str
    admin: bool = False


async def notices(session: AsyncSession, *, rt: Runtime, viewer: Viewer) -> list[Notice]:
    """Return what waits for somebody in this shop and mode."""
    counts = await volume.counts(session, **viewer.tenant)
    rows: list[Payment] = []
    if counts["attention"]:
        found = await queries.list_payments(
            session,
            rt=rt,
            **viewer.tenant,
            wanted=PaymentFilter(attention=True),
            limit=_LOOKED_AT,
        )
        rows = found.rows
    waiting = await reviewing.waiting(session, **viewer.tenant, limit=_LOOKED_AT)
    reviews = [one.payment for one in waiting]
    known = {row.id for row in reviews}
    held = [row for row in rows if row.status_reason != "outcome_unknown" and row.id not in known]
    unknown = [row for row in rows if row.status_reason == "outcome_unknown"]
    made = [
        await _webhooks(session, viewer),
        _reviews(viewer, reviews),
        _payments(viewer, held, _HELD),
        _payments(viewer, unknown, _UNKNOWN),
        _letters(viewer),
    ]
    return [notice for notice in made if notice is not None]


class _Words(msgspec.Struct, frozen=True):
    tone: Literal["odd", "wait"]
    icon: str
    one: str
    many: str
    text: str


_HELD = _Words(
    "wait",
    "user-exclamation",
    "1 payment waits for a person of the platform",
    "{} payments wait for a person of the platform",
    "We stopped because the PSP refused it or did something else than we asked. Please do not "
    "deliver yet.",
)
_UNKNOWN = _Words(
    "odd",
    "help-circle",
    "1 payment has an unknown outcome",
    "{} payments have an unknown outcome",
    "The PSP has not said yet whether the customer was charged. We ask again by itself; nobody "
    "is charged twice.",
)


def _payments(viewer: Viewer, rows: list[Payment], words: _Words) -> Notice | None:
    if not rows:
        return None
    first = rows[0]
    amount = money.text(first.amount, first.currency)
    many = len(rows) > 1
    number = f"{len(rows)} or more" if len(rows) == _LOOKED_AT else str(len(rows))
    what = f"The newest is {name_of(first)}, {amount}." if many else f"{name_of(first)}, {amount}."
    return Notice(
        tone=words.tone,
        icon=words.icon,
        title=words.many.format(number) if many else words.one,
        text=f"{what} {words.text}",
        button="See payments" if many else "Open payment",
        href=f"{viewer.base}/payments" + ("?status=attention" if many else f"/{first.id}"),
    )


def _reviews(viewer: Viewer, rows: list[Payment]) -> Notice | None:
    """Tell of payments that the risk check holds, the oldest first."""
    if not rows:
        return None
    first, many = rows[0], len(rows) > 1
    number = f"{len(rows)} or more" if len(rows) == _LOOKED_AT else str(len(rows))
    amount = money.text(first.amount, first.currency)
    what = f"The oldest is {name_of(first)}, {amount}." if many else f"{name_of(first)}, {amount}."
    return Notice(
        tone="wait",
        icon="user-exclamation",
        title=f"{number} payments wait for your review" if many else "1 payment waits for a review",
        text=f"{what} The risk check stopped before any money was taken.",
        button="Review" if viewer.can("payments:review") else "See reviews",
        href=f"{viewer.base}/reviews" if many else f"{viewer.base}/reviews/{first.id}",
    )


async def _webhooks(session: AsyncSession, viewer: Viewer) -> Notice | None:
    page = await webhooks.endpoints(session, **viewer.tenant)
    failing = [one for one in page.data if one.status == "failing"]
    if not failing:
        return None
    first = failing[0]
    since = f" since {first.failing_since:%d %b, %H:%M} UTC" if first.failing_since else ""
    reason = f": {first.status_reason}" if first.status_reason else ""
    more = f" So do {len(failing) - 1} more of your endpoints." if len(failing) > 1 else ""
    return Notice(
        tone="bad",
        icon="webhook",
        title="Your shop does not answer our messages",
        text=f"{first.url} has failed{since}{reason}. They are tried again by itself.{more}",
        button="See deliveries",
        href=f"{viewer.base}/webhooks/{first.id}"
        if len(failing) == 1
        else f"{viewer.base}/webhooks",
    )


def _letters(viewer: Viewer) -> Notice | None:
    number = viewer.shell("overview").counts.dead_letters if viewer.is_admin else 0
    if not number:
        return None
    return Notice(
        tone="bad",
        icon="inbox-off",
        title=f"{number} dead letter{'' if number == 1 else 's'} on the platform",
        text="Work that has stopped until a person decides.",
        button="Decide",
        href="/admin/dead-letters",
        admin=True,
    )
