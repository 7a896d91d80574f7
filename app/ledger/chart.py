"""The chart of accounts: which kinds of account there are, and how an account is named."""

from functools import lru_cache

import msgspec

from app.money import CURRENCIES

PLATFORM = "platform"
PSP_RECEIVABLE = "psp_receivable"
PSP_FEES = "psp_fees"
MERCHANT_PENDING = "merchant_pending"
MERCHANT_AVAILABLE = "merchant_available"
REFUNDS_IN_FLIGHT = "refunds_in_flight"
PLATFORM_FEES = "platform_fees"
SUSPENSE = "suspense"


class Kind(msgspec.Struct, frozen=True):
    """A kind of account. Its balance is kept in its normal direction.

    `floor`: what no posting may take it below; None where a posting's guard decides
    (merchant_available) or where either sign makes sense (what a PSP owes us).
    """

    debit_normal: bool
    owned_by: str  # merchant, connection or platform.
    floor: int | None


KINDS = {
    PSP_RECEIVABLE: Kind(debit_normal=True, owned_by="connection", floor=None),
    PSP_FEES: Kind(debit_normal=True, owned_by=PLATFORM, floor=None),
    MERCHANT_PENDING: Kind(debit_normal=False, owned_by="merchant", floor=0),
    MERCHANT_AVAILABLE: Kind(debit_normal=False, owned_by="merchant", floor=None),
    REFUNDS_IN_FLIGHT: Kind(debit_normal=False, owned_by="merchant", floor=0),
    PLATFORM_FEES: Kind(debit_normal=False, owned_by=PLATFORM, floor=0),
    SUSPENSE: Kind(debit_normal=False, owned_by=PLATFORM, floor=0),
}
# How merchants are told the parts of their wallet.
PARTS = {
    "available": MERCHANT_AVAILABLE,
    "pending": MERCHANT_PENDING,
    "reserved": REFUNDS_IN_FLIGHT,
}
LEDGERS = {"test:0": False, "live:0": True}  # Ledger id to livemode.


class Name(msgspec.Struct, frozen=True):
    """What an account's id says."""

    ledger_id: str
    kind: str
    owner: str
    currency: str


def ledger_of(livemode: bool) -> str:
    """Return the id of the ledger that holds everything of a mode (one shard now)."""
    return "live:0" if livemode else "test:0"


def account_id(ledger_id: str, kind: str, owner: str, currency: str) -> str:
    """Return the id of an account. Raises ValueError for an unknown kind or currency."""
    found = f"{ledger_id}:{kind}:{owner}:{currency}"
    parse(found)
    return found


@lru_cache(maxsize=50_000)
def parse(account: str) -> Name:
    """Read an account's id. Raises ValueError when it names no possible account."""
    parts = account.split(":")
    if len(parts) != 5 or not parts[3]:
        raise ValueError(f"{account!r} is not the id of an account")
    mode, shard, kind, owner, currency = parts
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of account")
    if currency not in CURRENCIES:
        raise ValueError(f"{currency!r} is not a currency")
    if KINDS[kind].owned_by == PLATFORM and owner != PLATFORM:
        raise ValueError(f"{kind} belongs to the platform, not to {owner}")
    return Name(f"{mode}:{shard}", kind, owner, currency)
