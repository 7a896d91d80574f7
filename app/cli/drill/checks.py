"""What must hold after a drill, by comparing four records; pure: records in, violations out.

The numbers are those of the invariants that `counterfoil verify-ledger` speaks of as well.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from app.cli.drill.records import Records

_DONE = {"succeeded", "failed", "canceled", "expired"}
_PAID = {"succeeded", "pending"}


class Violation(msgspec.Struct, frozen=True):
    """A broken rule: its number, the kind of harm, and what was found."""

    rule: str
    harm: str
    what: str

    def sentence(self) -> str:
        """Say it in one line."""
        return f"{self.rule} ({self.harm}): {self.what}"


def check(records: Records) -> list[Violation]:
    """Return every violation: lost, twice, invented, unresolved, contradicted, blind, ledger."""
    checks = (
        _clients,
        _ends,
        _contradictions,
        _book,
        _refunds,
        _blind,
        _webhooks,
        _wallet,
        _ledger,
    )
    return [violation for one in checks for violation in one(records)]


def _clients(records: Records) -> Iterator[Violation]:
    """I7, I8: what was accepted is there, once, and nothing else is."""
    known = {row["id"] for row in (*records.payments, *records.refunds)}
    for ask in records.asks:
        ids = {str(answer.body["id"]) for answer in ask.accepted}
        if len(ids) > 1:
            yield Violation("I8", "twice", f"key {ask.key} was answered with {sorted(ids)}")
        for missing in sorted(ids - known):
            yield Violation("I7", "lost", f"{missing} was accepted and is not there")
        if broken := [answer.status for answer in ask.answers if answer.status in {500, 501}]:
            yield Violation("I7", "fault", f"{ask.path} of {ask.key} was answered {broken[0]}")
    wishes = Counter(order.reference for order in records.orders)
    found = Counter(row["reference"] for row in records.payments)
    for reference, count in found.items():
        if count > wishes[reference]:
            harm = "twice" if wishes[reference] else "invented"
            yield Violation("I7", harm, f"{reference}: {count} payments for one order")
    amounts = {order.reference: order.amount for order in records.orders}
    for row in records.payments:
        if row["amount"] != amounts.get(row["reference"], row["amount"]):
            yield Violation("I7", "invented", f"{row['id']} has an amount that nobody asked for")


def _ends(records: Records) -> Iterator[Violation]:
    """I6, I10, I21: everything came to an end, and nobody has to look after it."""
    for row in records.payments:
        if row["status"] not in _DONE:
            reason = f"{row['status']} {row['status_reason'] or ''}".strip()
            yield Violation("I6", "unresolved", f"{row['id']} is {reason}")
    for row in records.refunds:
        if row["status"] == "pending":
            yield Violation("I6", "unresolved", f"{row['id']} is pending")
    for order in records.orders:
        if not order.done:
            yield Violation("I21", "unresolved", f"the story of {order.reference} did not end")
    if records.dead:
        yield Violation("I10", "unresolved", f"{records.dead} dead letters")


def _contradictions(records: Records) -> Iterator[Violation]:
    """I6, I8: nobody was told one final state and later another."""
    now = {row["id"]: row["status"] for row in records.payments}
    for order in records.orders:
        finals = [status for status in order.told if status in _DONE]
        if order.payment in now:
            finals.append(now[order.payment])
        if len(set(finals)) > 1:
            yield Violation("I8", "contradicted", f"{order.payment} was told as {finals}")


def _attempts(row: dict[str, Any]) -> list[str]:
    return [one if isinstance(one, str) else one["id"] for one in row["attempts"]]


def _book(records: Records) -> Iterator[Violation]:
    """I3, I4: the PSP charged exactly what we call paid, once each."""
    owners = {attempt: row["id"] for row in records.payments for attempt in _attempts(row)}
    charged: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for charge in records.book["charges"]:
        if charge["captured"] and charge["status"] == "succeeded":
            attempt = charge["metadata"].get("attempt_id", "")
            if attempt not in owners:
                yield Violation("I3", "invented", f"{charge['id']} at the PSP is none of ours")
            charged[owners.get(attempt, "")].append(charge)
    for row in records.payments:
        mine = charged.get(row["id"], [])
        if len(mine) > 1:
            yield Violation("I4", "twice", f"{row['id']} was charged {len(mine)} times")
        there = sum(charge["amount_captured"] for charge in mine)
        ours = row["amount_captured"]
        if there > row["amount"]:
            yield Violation("I4", "twice", f"{row['id']}: {there} taken of {row['amount']}")
        elif there != ours:
            harm = "lost" if there > ours else "invented"
            yield Violation("I3", harm, f"{row['id']}: the PSP took {there}, we say {ours}")
        if (row["status"] == "succeeded") != bool(mine):
            yield Violation("I3", "contradicted", f"{row['id']} is {row['status']}")


def _refunds(records: Records) -> Iterator[Violation]:
    """I3, I5: the PSP gave back exactly what we say, never more than was taken."""
    owners = {attempt: row["id"] for row in records.payments for attempt in _attempts(row)}
    there: Counter[str] = Counter()
    for refund in records.book["refunds"]:
        if refund["status"] in _PAID:
            owner = owners.get(refund["metadata"].get("attempt_id", ""), "")
            if not owner:
                yield Violation("I3", "invented", f"{refund['id']} at the PSP is none of ours")
            there[owner] += refund["amount"]
    ours: Counter[str] = Counter()
    for row in records.refunds:
        if row["status"] == "succeeded":
            ours[row["payment"]] += row["amount"]
    for row in records.payments:
        name = row["id"]
        if there[name] > row["amount_captured"]:
            yield Violation("I5", "twice", f"{name}: {there[name]} given back")
        if there[name] != ours[name]:
            harm = "lost" if there[name] < ours[name] else "twice"
            text = f"{name}: the PSP gave back {there[name]}, we say {ours[name]}"
            yield Violation("I3", harm, text)


def _blind(records: Records) -> Iterator[Violation]:
    """I9: a request that changes something was repeated with the same key and words only."""
    words: dict[str, set[tuple[str, str]]] = defaultdict(set)
    keys: dict[tuple[str, str], set[str]] = defaultdict(set)
    for request in records.requests:
        if request["method"] != "POST" or not request["path"].startswith("/v1/"):
            continue
        key = request["key"]
        if not key:
            yield Violation("I9", "blind", f"{request['path']} was sent without a key")
            continue
        words[key].add((request["path"], request["body"]))
        _, _, rest = key.partition(":")
        attempt, _, step = rest.partition(":")
        keys[attempt, step].add(key)
    for key, sent in words.items():
        if len(sent) > 1:
            yield Violation("I9", "blind", f"{key} was sent with {len(sent)} different contents")
    for (attempt, step), used in keys.items():
        if len(used) > 1:
            yield Violation("I9", "blind", f"{step} of {attempt} was sent with {len(used)} keys")


def _webhooks(records: Records) -> Iterator[Violation]:
    """I11: the shop was told every event, each the same however often, in unbroken numbers."""
    ours = {row["id"] for row in records.events}
    for missing in sorted(ours - set(records.taken)):
        yield Violation("I11", "lost", f"the shop was never told {missing}")
    for extra in sorted(set(records.taken) - ours):
        yield Violation("I11", "invented", f"the shop was told {extra}, which we do not know")
    if records.forged:
        yield Violation("I11", "fault", f"{records.forged} webhooks did not verify")
    numbers: dict[str, list[int]] = defaultdict(list)
    for name, taken in records.taken.items():
        if taken.changed:
            yield Violation("I11", "contradicted", f"{name} came with two contents")
        data = taken.body["data"]
        about = data["object"]
        owner = about.get("payment") or about["id"]
        numbers[owner].append(data["sequence"])
    for owner, found in numbers.items():
        if sorted(found) != list(range(min(found), min(found) + len(found))):
            yield Violation("I11", "lost", f"{owner}: the numbers of its events are {found}")


def _wallet(records: Records) -> Iterator[Violation]:
    """I2: the wallet is what all payments together left in it, by currency."""
    net: Counter[str] = Counter()
    for row in records.payments:
        net[row["currency"]] += row["net"]
    wallet: Counter[str] = Counter()
    for part in ("available", "pending"):
        for total in records.balance[part]:
            wallet[total["currency"]] += total["amount"]
    for currency in sorted(set(net) | set(wallet)):
        if net[currency] != wallet[currency]:
            text = f"the wallet holds {wallet[currency]} {currency}, payments left {net[currency]}"
            yield Violation("I2", "ledger", text)


def _ledger(records: Records) -> Iterator[Violation]:
    if not records.ledger_holds:
        yield Violation("I1", "ledger", records.ledger)
