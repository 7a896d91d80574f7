"""Applying postings to running balances: pure, so that what the writer decides can be tested."""

from typing import Any

import msgspec

from app.ledger import chart
from app.ledger.postings import Guard, Transfer
from app.money import MAX_AMOUNT

_MAX_BALANCE = 2**62  # Far from the edge of a 64-bit column, further than any sum of payments.


class BadPosting(Exception):
    """A posting that cannot be recorded whatever the balances are: somebody's mistake."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A posting row without an answer, as it lies in the table."""

    id: int
    key: str
    kind: str
    livemode: bool
    merchant_id: str | None
    payment_id: str | None
    transfers: Any
    guard: Any
    answer_job: Any


class Checked(msgspec.Struct, frozen=True):
    """A posting whose form is right."""

    posting: Waiting
    transfers: tuple[Transfer, ...]
    guard: Guard | None

    def accounts(self) -> set[str]:
        """Return the ids of the accounts that it names."""
        named = {line.debit for line in self.transfers} | {line.credit for line in self.transfers}
        return named | ({self.guard.account} if self.guard else set())


class Answer(msgspec.Struct, frozen=True):
    """What became of a posting: accepted (with its last position), refused or failed."""

    posting: Waiting
    status: str
    seq: int | None = None
    reason: str | None = None


class Balance:
    """A running balance in the account's normal direction, and the number of its entries."""

    __slots__ = ("minor", "version")

    def __init__(self, minor: int = 0, version: int = 0) -> None:
        self.minor = minor
        self.version = version


# ledger lines as columns: seq, posting id, line, account id, debit, credit, before, after.
Line = tuple[int, int, int, str, int, int, int, int]


def check(posting: Waiting, ledger_id: str) -> Checked:
    """Read a posting's transfers and guard.

    Raises BadPosting: not readable, nothing moved, an amount out of range, two currencies,
    another mode or ledger, another merchant's account, or the available part without a guard.
    """
    try:
        transfers = msgspec.convert(posting.transfers, tuple[Transfer, ...])
        guard = None if posting.guard is None else msgspec.convert(posting.guard, Guard)
        checked = Checked(posting, transfers, guard)
        names = [chart.parse(account) for account in checked.accounts()]
    except ValueError as error:
        raise BadPosting(str(error)) from error
    if not transfers:
        raise BadPosting("it moves nothing")
    if any(not 0 < line.minor <= MAX_AMOUNT for line in transfers):
        raise BadPosting("an amount is out of range")
    if any(line.debit == line.credit for line in transfers):
        raise BadPosting("a transfer leads from an account to itself")
    if len({name.currency for name in names}) != 1:
        raise BadPosting("it mixes currencies")
    if chart.LEDGERS.get(ledger_id) != posting.livemode:
        raise BadPosting("it mixes live and test mode")
    for name in names:
        if name.ledger_id != ledger_id:
            raise BadPosting(f"it names an account of the ledger {name.ledger_id}")
        if chart.KINDS[name.kind].owned_by == "merchant" and name.owner != posting.merchant_id:
            raise BadPosting(f"it names an account of {name.owner}")
    _check_guarded(checked)
    return checked


def _check_guarded(checked: Checked) -> None:
    for line in checked.transfers:
        if chart.parse(line.debit).kind != chart.MERCHANT_AVAILABLE:
            continue
        if checked.guard is None or checked.guard.account != line.debit:
            raise BadPosting("it takes from the available part without a guard")


class Batch:
    """Answers postings one after the other against balances that it moves as it goes."""

    def __init__(self, last_seq: int, balances: dict[str, Balance]) -> None:
        self.seq = last_seq
        self.balances = balances
        self.moved: set[str] = set()
        self.lines: list[Line] = []

    def answer(self, checked: Checked) -> Answer:
        """Record a posting or refuse it. Raises BadPosting, with nothing changed."""
        after = self._after(checked)
        if refusal := _refusal(checked.guard, after, self.balances):
            return Answer(checked.posting, "refused", reason=refusal)
        number = 0
        for transfer in checked.transfers:
            for account, debit, credit in (
                (transfer.debit, transfer.minor, 0),
                (transfer.credit, 0, transfer.minor),
            ):
                number += 1
                self._write(checked.posting.id, number, account, debit, credit)
        return Answer(checked.posting, "accepted", seq=self.seq)

    def _after(self, checked: Checked) -> dict[str, int]:
        after: dict[str, int] = {}
        for transfer in checked.transfers:
            for account, debit, credit in (
                (transfer.debit, transfer.minor, 0),
                (transfer.credit, 0, transfer.minor),
            ):
                now = after.get(account, self.balances[account].minor)
                after[account] = now + _change(account, debit, credit)
        for account, minor in after.items():
            kind = chart.parse(account).kind
            floor = chart.KINDS[kind].floor
            if floor is not None and minor < floor and minor < self.balances[account].minor:
                raise BadPosting(f"it would take {kind} to {minor}")
            if abs(minor) > _MAX_BALANCE:
                raise BadPosting(f"{kind} would grow out of range")
        return after

    def _write(self, posting: int, number: int, account: str, debit: int, credit: int) -> None:
        balance = self.balances[account]
        before = balance.minor
        balance.minor += _change(account, debit, credit)
        balance.version += 1
        self.seq += 1
        self.moved.add(account)
        self.lines.append(
            (self.seq, posting, number, account, debit, credit, before, balance.minor)
        )


def _change(account: str, debit: int, credit: int) -> int:
    normal = chart.KINDS[chart.parse(account).kind].debit_normal
    return debit - credit if normal else credit - debit


def _refusal(
    guard: Guard | None, after: dict[str, int], balances: dict[str, Balance]
) -> str | None:
    if guard is None or guard.minimum is None:
        return None
    minor = after.get(guard.account, balances[guard.account].minor)
    if minor >= guard.minimum:
        return None
    kind = chart.parse(guard.account).kind
    return f"{kind} would be {minor}, at least {guard.minimum} is needed"
