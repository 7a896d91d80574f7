"""How balances and ledger entries look in API answers."""

from typing import Literal

import msgspec

from app.ledger.queries import Line, Wallet


class Sum(msgspec.Struct):
    """An amount in minor units of a lower-case currency code."""

    amount: int
    currency: str


class BalanceAnswer(msgspec.Struct, kw_only=True):
    """A merchant's wallet: one sum a currency in each part."""

    object: Literal["balance"] = "balance"
    available: list[Sum]
    pending: list[Sum]
    reserved: list[Sum]
    ledger_position: int
    livemode: bool


class EntryAnswer(msgspec.Struct, kw_only=True):
    """One line of the ledger in a merchant's wallet; lines are added, never changed."""

    id: str
    object: Literal["ledger_entry"] = "ledger_entry"
    position: int
    kind: str
    part: Literal["available", "pending", "reserved"]
    amount: int
    currency: str
    balance_before: int
    balance_after: int
    payment: str | None
    refund: str | None
    livemode: bool
    created_at: str


def balance_answer(wallet: Wallet, *, livemode: bool) -> BalanceAnswer:
    """Return the answer of `GET /v1/balance`."""
    return BalanceAnswer(
        available=[Sum(one.available, one.currency) for one in wallet.balances],
        pending=[Sum(one.pending, one.currency) for one in wallet.balances],
        reserved=[Sum(one.reserved, one.currency) for one in wallet.balances],
        ledger_position=wallet.position,
        livemode=livemode,
    )


def entry_answer(line: Line) -> EntryAnswer:
    """Return one item of `GET /v1/ledger/entries`; `amount` is negative when money left."""
    return EntryAnswer(
        id=line.id,
        position=line.position,
        kind=line.kind,
        part=line.part,  # type: ignore[arg-type] # The parts are the chart's own.
        amount=line.change,
        currency=line.currency,
        balance_before=line.before,
        balance_after=line.after,
        payment=line.payment_id,
        refund=line.refund_id,
        livemode=line.livemode,
        created_at=line.recorded_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    )
