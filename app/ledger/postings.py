"""What the ledger can be asked to record, and the arithmetic of fees: values in, a Posting out."""

from typing import Any, Required, TypedDict, Unpack

import msgspec

from app.ledger import chart
from app.money import MAX_AMOUNT, Money


class Transfer(msgspec.Struct, frozen=True, array_like=True):
    """An amount in minor units from one account to another, by account id."""

    debit: str
    credit: str
    minor: int


class Guard(msgspec.Struct, frozen=True, array_like=True):
    """What an account must hold after the posting, else it is refused.

    `minimum` None: the money has left already, so the account may go as low as it must.
    """

    account: str
    minimum: int | None


class AnswerJob(msgspec.Struct, frozen=True):
    """A job that the writer inserts together with its answer.

    An accepted posting adds `posting_seq` (its position) to `args`, a refused one `reason`.
    """

    kind: str
    args: dict[str, Any]
    queue: str
    fair_key: str | None = None


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger is to record, once for each key; made by the functions below."""

    key: str
    kind: str
    livemode: bool
    transfers: tuple[Transfer, ...]
    merchant_id: str | None = None
    payment_id: str | None = None
    refund_id: str | None = None
    guard: Guard | None = None
    accepted_job: AnswerJob | None = None
    refused_job: AnswerJob | None = None

    def __post_init__(self) -> None:
        if not self.transfers:
            raise ValueError(f"{self.key} moves nothing")
        if any(not 0 < transfer.minor <= MAX_AMOUNT for transfer in self.transfers):
            raise ValueError(f"{self.key} has an amount out of range")


class _Apart(TypedDict, total=False):
    """Whose money lies in suspense."""

    livemode: Required[bool]
    connection_id: Required[str]
    amount: Required[Money]
    merchant_id: str | None
    payment_id: str | None


class _Accounts:
    """The accounts that one posting can name: one mode, one currency."""

    def __init__(self, livemode: bool, currency: str) -> None:
        self._ledger_id = chart.ledger_of(livemode)
        self._currency = currency

    def __call__(self, kind: str, owner: str = chart.PLATFORM) -> str:
        return chart.account_id(self._ledger_id, kind, owner, self._currency)


def _transfers(*wanted: tuple[str, str, int]) -> tuple[Transfer, ...]:
    return tuple(Transfer(debit, credit, minor) for debit, credit, minor in wanted if minor)


def capture(
    *,
    attempt_id: str,
    payment_id: str,
    merchant_id: str,
    livemode: bool,
    connection_id: str,
    amount: Money,
    fee: int,
    answer_job: AnswerJob | None = None,
) -> Posting:
    """The PSP has taken the customer's money; the platform keeps its fee."""
    of = _Accounts(livemode, amount.currency)
    pending = of(chart.MERCHANT_PENDING, merchant_id)
    return Posting(
        key=f"capture:{attempt_id}",
        kind="capture",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        transfers=_transfers(
            (of(chart.PSP_RECEIVABLE, connection_id), pending, amount.minor),
            (pending, of(chart.PLATFORM_FEES), fee),
        ),
        accepted_job=answer_job,
    )


def psp_fee(
    *,
    balance_transaction: str,
    livemode: bool,
    connection_id: str,
    amount: Money,
    merchant_id: str | None = None,
    payment_id: str | None = None,
    answer_job: AnswerJob | None = None,
) -> Posting:
    """The PSP has kept its fee, which the platform bears. Raises ValueError for a fee of zero."""
    of = _Accounts(livemode, amount.currency)
    return Posting(
        key=f"psp_fee:{balance_transaction}",
        kind="psp_fee",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        transfers=_transfers(
            (of(chart.PSP_FEES), of(chart.PSP_RECEIVABLE, connection_id), amount.minor)
        ),
        accepted_job=answer_job,
    )


def settle(
    *,
    payment_id: str,
    merchant_id: str,
    livemode: bool,
    amount: Money,
    refund_id: str | None = None,
    answer_job: AnswerJob | None = None,
) -> Posting:
    """What of a payment is still pending becomes available. Raises ValueError for nothing.

    With `refund_id`: the pending part of a refused refund whose payment has settled meanwhile;
    it was left out when the payment settled, and its key is of its own.
    """
    of = _Accounts(livemode, amount.currency)
    return Posting(
        key=f"settle:{payment_id}" + (f":{refund_id}" if refund_id else ""),
        kind="settle",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        refund_id=refund_id,
        transfers=_transfers(
            (
                of(chart.MERCHANT_PENDING, merchant_id),
                of(chart.MERCHANT_AVAILABLE, merchant_id),
                amount.minor,
            )
        ),
        accepted_job=answer_job,
    )


def refund_reserve(
    *,
    refund_id: str,
    payment_id: str,
    merchant_id: str,
    livemode: bool,
    currency: str,
    from_pending: int,
    from_available: int,
    fee_share: int,
    overdraft_limit: int | None,
    answer_accepted_job: AnswerJob | None = None,
    answer_refused_job: AnswerJob | None = None,
) -> Posting:
    """Set a refund's money aside until the PSP confirms that the customer has it.

    `overdraft_limit` in minor units is how far the available part may go below zero. None is
    for a refund that was made at the PSP by hand: that money has left and cannot be refused.
    """
    of = _Accounts(livemode, currency)
    in_flight = of(chart.REFUNDS_IN_FLIGHT, merchant_id)
    available = of(chart.MERCHANT_AVAILABLE, merchant_id)
    minimum = None if overdraft_limit is None else -overdraft_limit
    return Posting(
        key=f"refund_reserve:{refund_id}",
        kind="refund_reserve",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        refund_id=refund_id,
        transfers=_transfers(
            (of(chart.MERCHANT_PENDING, merchant_id), in_flight, from_pending),
            (available, in_flight, from_available),
            (of(chart.PLATFORM_FEES), in_flight, fee_share),
        ),
        # A refund that takes nothing from the available part cannot overdraw it.
        guard=Guard(available, minimum) if from_available else None,
        accepted_job=answer_accepted_job,
        refused_job=answer_refused_job,
    )


def refund_settle(
    *,
    refund_id: str,
    payment_id: str,
    merchant_id: str,
    livemode: bool,
    connection_id: str,
    amount: Money,
    answer_job: AnswerJob | None = None,
) -> Posting:
    """The PSP has sent a refund (`amount`: all of it, the fee share included)."""
    of = _Accounts(livemode, amount.currency)
    return Posting(
        key=f"refund_settle:{refund_id}",
        kind="refund_settle",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        refund_id=refund_id,
        transfers=_transfers(
            (
                of(chart.REFUNDS_IN_FLIGHT, merchant_id),
                of(chart.PSP_RECEIVABLE, connection_id),
                amount.minor,
            )
        ),
        accepted_job=answer_job,
    )


def refund_release(
    *,
    refund_id: str,
    payment_id: str,
    merchant_id: str,
    livemode: bool,
    currency: str,
    from_pending: int,
    from_available: int,
    fee_share: int,
    settled: bool,
    answer_job: AnswerJob | None = None,
) -> Posting:
    """Put a reserve back, because the refund did not happen.

    `settled`: the payment has settled since, so that its pending part goes to available.
    """
    of = _Accounts(livemode, currency)
    in_flight = of(chart.REFUNDS_IN_FLIGHT, merchant_id)
    back, stays = (0, from_pending) if settled else (from_pending, 0)
    return Posting(
        key=f"refund_release:{refund_id}",
        kind="refund_release",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        refund_id=refund_id,
        transfers=_transfers(
            (in_flight, of(chart.MERCHANT_PENDING, merchant_id), back),
            (in_flight, of(chart.MERCHANT_AVAILABLE, merchant_id), from_available + stays),
            (in_flight, of(chart.PLATFORM_FEES), fee_share),
        ),
        accepted_job=answer_job,
    )


def refund_reversal(
    *,
    refund_id: str,
    payment_id: str,
    merchant_id: str,
    livemode: bool,
    connection_id: str,
    currency: str,
    own: int,
    fee_share: int,
    answer_job: AnswerJob | None = None,
) -> Posting:
    """The PSP has taken a refund back that had succeeded; `own` is its amount less the share."""
    of = _Accounts(livemode, currency)
    receivable = of(chart.PSP_RECEIVABLE, connection_id)
    return Posting(
        key=f"refund_reversal:{refund_id}",
        kind="refund_reversal",
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        refund_id=refund_id,
        transfers=_transfers(
            (receivable, of(chart.MERCHANT_AVAILABLE, merchant_id), own),
            (receivable, of(chart.PLATFORM_FEES), fee_share),
        ),
        accepted_job=answer_job,
    )


def unexpected_receipt(
    *, psp_id: str, answer_job: AnswerJob | None = None, **about: Unpack[_Apart]
) -> Posting:
    """Money came for a payment that is final otherwise; it waits for a person in suspense."""
    return _apart("unexpected_receipt", psp_id, **about, comes=True, answer_job=answer_job)


def suspense_return(*, psp_id: str, charge: str, **about: Unpack[_Apart]) -> Posting:
    """Money that nobody expected went back to the customer at the PSP by the refund `psp_id`."""
    return _apart("suspense_return", f"{charge}:{psp_id}", **about, comes=False)


def suspense_reversal(*, psp_id: str, charge: str, **about: Unpack[_Apart]) -> Posting:
    """The PSP has failed the refund `psp_id`, by which money had left suspense."""
    return _apart("suspense_reversal", f"{charge}:{psp_id}", **about, comes=True)


def _apart(
    kind: str,
    name: str,
    *,
    livemode: bool,
    connection_id: str,
    amount: Money,
    comes: bool,
    merchant_id: str | None = None,
    payment_id: str | None = None,
    answer_job: AnswerJob | None = None,
) -> Posting:
    of = _Accounts(livemode, amount.currency)
    receivable, suspense = of(chart.PSP_RECEIVABLE, connection_id), of(chart.SUSPENSE)
    debit, credit = (receivable, suspense) if comes else (suspense, receivable)
    return Posting(
        key=f"{kind}:{name}",
        kind=kind,
        livemode=livemode,
        merchant_id=merchant_id,
        payment_id=payment_id,
        transfers=_transfers((debit, credit, amount.minor)),
        accepted_job=answer_job,
    )


def platform_fee(captured: int, basis_points: int, fixed: int) -> int:
    """Return the platform's fee in minor units: half-up, and never more than was captured."""
    return min(captured, (captured * basis_points + 5_000) // 10_000 + fixed)


def fee_share(*, fee: int, captured: int, refunded: int, returned: int, amount: int) -> int:
    """Return how much of the fee goes back with a refund of `amount`.

    `refunded` and `returned` count the refunds before it that did not fail. Shares are cut from
    the whole fee so that refunding everything in parts returns exactly the fee; the clamp is
    needed once one of two refunds has been released.
    """
    return max(0, min(amount, fee * (refunded + amount) // captured - returned))


def split_refund(own: int, still_pending: int) -> tuple[int, int]:
    """Return what of a refund's own part comes from pending and what from available."""
    from_pending = min(own, still_pending)
    return from_pending, own - from_pending
