"""The payments list's address: filters, tab and cursor read from the query string, and written."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from app import money
from app.money import CURRENCIES
from app.payments.queries import PaymentFilter

# Tab, label, statuses.
TABS: dict[str, tuple[str, tuple[str, ...]]] = {
    "": ("All", ()),
    "attention": ("Needs attention", ()),
    "succeeded": ("Succeeded", ("succeeded",)),
    "progress": ("In progress", ("requires_action", "processing", "requires_capture")),
    "declined": ("Declined", ("failed",)),
    "refunded": ("Refunded", ()),
    "unpaid": ("Not paid", ("canceled", "expired")),
}
FIELDS = ("q", "status", "currency", "from", "to", "min", "max", "email", "psp")
_AMOUNT = re.compile(r"(\d{1,12}(?:[.,]\d{1,3})?)(?:\s+([A-Za-z]{3}))?")
_LONGEST = 200


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What the address asks for. `problems` are filters that could not be read."""

    fields: dict[str, str]
    wanted: PaymentFilter
    after: str | None = None
    before: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def tab(self) -> str:
        """Return the key of the chosen tab."""
        return self.fields.get("status", "")

    @property
    def filtered(self) -> bool:
        """Tell whether anything narrows the list."""
        return bool(self.fields)

    def kept(self, own: list[str]) -> list[tuple[str, str]]:
        """Return the filters that stay when the fields `own` are set anew."""
        return [(name, value) for name, value in self.fields.items() if name not in own]

    def address(self, base: str, /, **changes: str | None) -> str:
        """Return the list's address with changes to its filters; the cursor starts anew."""
        fields = {**self.fields, **changes}
        kept = {name: value for name, value in fields.items() if value}
        return f"{base}?{urlencode(kept)}" if kept else base


def read(sent: Mapping[str, Any], *, currency: str) -> ListQuery:
    """Read the query string; `currency` is assumed for amounts when none is chosen.

    Unknown names are ignored; a value that cannot be read narrows nothing and is named.
    """
    fields = {
        name: value
        for name in FIELDS
        if (value := str(sent.get(name) or "").replace("\0", "").strip()[:_LONGEST])
    }
    problems: list[str] = []
    values: dict[str, Any] = {"search": fields.get("q"), "email": fields.get("email")}
    status = fields.get("status", "")
    if status not in TABS:
        problems.append(f"There is no status “{fields.pop('status')}”.")
        status = ""
    values |= {
        "statuses": TABS[status][1],
        "attention": status == "attention",
        "refunded": status == "refunded",
    }
    chosen = fields.get("currency", "").lower()
    if chosen and chosen not in CURRENCIES:
        problems.append(f"There is no currency “{fields.pop('currency')}”.")
        chosen = ""
    values["currency"] = chosen or None
    values["psp"] = fields.get("psp")
    _read_dates(fields, values, problems)
    _read_amounts(fields, values, problems, chosen or currency)
    return ListQuery(
        fields=fields,
        wanted=PaymentFilter(**values),
        after=str(sent.get("after") or "")[:80] or None,
        before=str(sent.get("before") or "")[:80] or None,
        problems=tuple(problems),
    )


def _read_dates(fields: dict[str, str], values: dict[str, Any], problems: list[str]) -> None:
    for name, target, plus in (("from", "created_gte", 0), ("to", "created_lt", 1)):
        if name not in fields:
            continue
        try:
            day = datetime.strptime(fields[name], "%Y-%m-%d").replace(tzinfo=UTC)
            values[target] = day + timedelta(days=plus)
        except (ValueError, OverflowError):
            problems.append(f"“{fields.pop(name)}” is not a date like 2026-11-22.")


def _read_amounts(
    fields: dict[str, str], values: dict[str, Any], problems: list[str], currency: str
) -> None:
    for name, target in (("min", "amount_gte"), ("max", "amount_lte")):
        if name not in fields:
            continue
        try:
            values[target] = money.parse_decimal(fields[name], currency)
        except ValueError:
            problems.append(f"“{fields.pop(name)}” is not an amount in {currency.upper()}.")
    if "amount_gte" in values or "amount_lte" in values:
        # 10.00 is another number of minor units in each currency, so an amount chooses one.
        values["currency"] = currency
        fields["currency"] = currency


def as_amount(query: ListQuery, *, currency: str) -> PaymentFilter | None:
    """Return the search's text read as an amount (`128.40`, `128.40 EUR`); None when it is none."""
    found = _AMOUNT.fullmatch(query.fields.get("q", ""))
    if found is None:
        return None
    code = (found[2] or query.fields.get("currency") or currency).lower()
    try:
        minor = money.parse_decimal(found[1], code) if code in CURRENCIES else None
    except ValueError:
        return None
    if minor is None:
        return None
    return msgspec.structs.replace(
        query.wanted, search=None, currency=code, amount_gte=minor, amount_lte=minor
    )
