"""The wallet's balance and the ledger's entries, with the position that they include."""

import re
from typing import Literal

import msgspec
from litestar import Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Invalid, NotFound, Unavailable
from app.ledger import chart, queries
from app.ledger.processing import wait_for
from app.ledger.queries import NoSuchEntry, NotAnEntryId
from app.ledger.schemas import BalanceAnswer, EntryAnswer, balance_answer, entry_answer
from app.merchants.keys import KeyIdentity
from app.runtime import Runtime
from web.api import fields
from web.api.answers import TwoCursors, listed, one_cursor, shaped
from web.api.auth import identity_of
from web.api.operation import Operation
from web.deps import ApiRequest, read_query, runtime

WAIT_SECONDS = 2.0
HEADER = "Ledger-Position-Min"
_WANTED = re.compile(r"latest|[0-9]{1,18}", re.ASCII)


class PositionMalformed(Invalid):
    """`Ledger-Position-Min` is neither a number nor `latest`."""

    code = "ledger_position_invalid"


class PositionNotReached(Unavailable):
    """The ledger has not reached the position asked for within 2 s."""

    code = "ledger_position_not_reached"


class Nothing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """No parameters."""


class ListEntries(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters are combined; newest first."""

    currency: fields.Currency | None = None
    part: Literal["available", "pending", "reserved"] | None = None
    payment: fields.PaymentId | None = None
    limit: fields.Limit = 20
    starting_after: fields.EntryId | None = None
    ending_before: fields.EntryId | None = None


def _wanted(request: ApiRequest) -> str | None:
    values = request.headers.getall(HEADER, [])
    if not values:
        return None
    if len(values) > 1 or not _WANTED.fullmatch(values[0]):
        raise PositionMalformed("Send a position or `latest`, once.", param=HEADER)
    return values[0]


async def _reach(rt: Runtime, identity: KeyIdentity, wanted: str) -> int:
    """Wait up to 2 s for a position; return what is still missing."""
    return await wait_for(
        rt,
        merchant_id=identity.merchant_id,
        livemode=identity.livemode,
        minimum="latest" if wanted == "latest" else int(wanted),
    )


async def _reach_or_refuse(rt: Runtime, identity: KeyIdentity, wanted: str) -> None:
    if await _reach(rt, identity, wanted):
        raise PositionNotReached("The ledger is behind; try again soon.", retry_after=1)


@get(
    "/balance",
    opt=Operation(
        permission="ledger:read",
        tag="Money",
        answer=BalanceAnswer,
        query=Nothing,
        refusals=(PositionMalformed, PositionNotReached),
    ).opt(),
)
async def get_balance(request: ApiRequest) -> Response[bytes]:
    """Return the wallet: available, pending and reserved sums by currency.

    It includes every posting of yours recorded before this request arrived; when the ledger
    needs longer than 2 s, the header `Ledger-Pending` says how many are not in it yet.
    `Ledger-Position-Min: N` waits up to 2 s for position N, `latest` insists: else 503.
    """
    rt, identity = runtime(request), identity_of(request)
    read_query(request, Nothing)
    wanted = _wanted(request)
    pending = 0
    if wanted is None:
        pending = await _reach(rt, identity, "latest")
    else:
        await _reach_or_refuse(rt, identity, wanted)
    async with rt.sessions.read() as session:
        wallet = await queries.balance(
            session, merchant_id=identity.merchant_id, livemode=identity.livemode
        )
    headers = {"Ledger-Position": str(wallet.position)}
    if pending:
        headers["Ledger-Pending"] = str(pending)
    return shaped(balance_answer(wallet, livemode=identity.livemode), headers=headers)


@get(
    "/ledger/entries",
    opt=Operation(
        permission="ledger:read",
        tag="Money",
        rows=EntryAnswer,
        query=ListEntries,
        consistency="eventual",
        refusals=(NoSuchEntry, TwoCursors, PositionMalformed, PositionNotReached),
    ).opt(),
)
async def list_ledger_entries(request: ApiRequest) -> Response[bytes]:
    """List what the ledger recorded in your wallet, newest first.

    Payments are recorded a moment after they succeed: send `Ledger-Position-Min: latest` (or the
    `ledger_position` that you know of) to wait up to 2 s for it; 503 when it takes longer.
    """
    rt, identity = runtime(request), identity_of(request)
    query = read_query(request, ListEntries)
    one_cursor(query.starting_after, query.ending_before)
    if (wanted := _wanted(request)) is not None:
        await _reach_or_refuse(rt, identity, wanted)
    async with rt.sessions.read() as session:
        position = await queries.position(session, chart.ledger_of(identity.livemode))
        lines, has_more = await _page(session, identity, query)
    headers = {"Ledger-Position": str(position)}
    return listed(request, [entry_answer(x) for x in lines], has_more=has_more, headers=headers)


async def _page(
    session: AsyncSession, identity: KeyIdentity, query: ListEntries
) -> tuple[list[queries.Line], bool]:
    try:
        return await queries.entries(
            session,
            merchant_id=identity.merchant_id,
            livemode=identity.livemode,
            parts=(query.part,) if query.part else tuple(chart.PARTS),
            currency=query.currency.lower() if query.currency else None,
            payment_id=query.payment,
            starting_after=query.starting_after,
            ending_before=query.ending_before,
            limit=query.limit,
        )
    except NotAnEntryId as error:
        # The form was checked before: it is an entry of the other mode.
        raise NotFound("There is no such ledger entry.") from error


HANDLERS = (
    get_balance,
    list_ledger_entries,
)
