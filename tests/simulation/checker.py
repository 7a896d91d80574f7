"""The checker: four records that must tell one story."""

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from app import db
from app.payments.states import FINAL, PAYMENT_MOVES, REFUND_MOVES
from app.verification.queries import verify
from tests.simulation import records
from tests.simulation.risk import risk_is_kept

if TYPE_CHECKING:
    from tests.simulation.book import Intent, Refund
    from tests.simulation.history import History
    from tests.simulation.world import World


async def check(history: "History") -> None:
    """Compare what shops were told, our database, the PSP's book, and what shops received."""
    world = history.world
    process = world.spawn("checker")

    async def database() -> None:
        async with process.rt.sessions.snapshot() as session:
            report = await verify(session)
        for violation in report.violations:
            world.broken(violation.invariant, violation.sentence())
        if report.waiting:
            world.broken("I21", f"{report.waiting} postings wait")

    await process.start(database())
    for look in (
        *(money_at_the_psp, one_charge_each, all_is_final, nothing_lost_or_invented),
        *(one_operation_a_key, nobody_is_contradicted, messages_are_exact, events_are_exact),
        *(tenants_stay_apart, unknown_is_held, actions_are_audited, secrets_stay_secret),
        *(risk_is_kept, nothing_is_stuck, records.no_blind_retry, records.reserved_before_sent),
        *(records.ledger_refuses_changes, no_herd, poison_is_buried),
    ):
        look(world)


def money_at_the_psp(world: "World") -> None:
    """I3: the PSP's book and our ledger hold the same charges and refunds."""
    query = "SELECT key, transfers FROM postings WHERE status = 'accepted'"
    postings = {key: json.loads(transfers) for key, transfers in world.rows(query)}
    attempts = {
        row[0]: row[1]
        for row in world.rows("SELECT id, psp_reference FROM attempts WHERE state = 'succeeded'")
    }
    ours = Counter[str]()
    for key, transfers in postings.items():
        kind, _, name = key.partition(":")
        if kind in {"capture", "unexpected_receipt"}:
            reference = attempts.get(name) if kind == "capture" else name
            ours[reference or name] += transfers[0][2]
    for intent in world.book.intents.values():
        booked = ours.pop(intent.id, 0)
        if booked != intent.captured:
            world.broken("I3", f"{intent.id} took {intent.captured}, the ledger has {booked}")
    for reference, amount in ours.items():
        world.broken("I3", f"the ledger has {amount} of {reference}, which the PSP does not know")
    _receivable(world)
    _refunds(world)


def _ours(world: "World") -> dict[str, Any]:
    query = "SELECT psp_reference, amount, status, payment_id FROM refunds"
    return {row[0]: row[1:] for row in world.rows(query) if row[0] is not None}


def _without_room(world: "World") -> set[str]:
    """Return the PSP's ids of refunds made by hand that find no room beside one of ours."""
    ours, pending = _ours(world), "SELECT payment_id FROM refunds WHERE status = 'pending'"
    stuck = {row[0] for row in world.rows(pending)}
    return {
        one.id
        for intent in world.book.intents.values()
        for one in intent.refunds
        if one.by_hand and one.id not in ours and intent.payment_id in stuck
    }


def _gone_back(world: "World") -> tuple[set[str], set[str]]:
    """Return the charges that were held apart, and the PSP's refunds by which they went back."""
    kinds = "('unexpected_receipt', 'suspense_return', 'suspense_reversal')"
    keys = [row[0] for row in world.rows(f"SELECT key FROM postings WHERE kind IN {kinds}")]
    names: dict[str, set[str]] = defaultdict(set)
    for kind, _, name in (key.partition(":") for key in keys):
        names[kind].add(name.rpartition(":")[2])
    return names["unexpected_receipt"], names["suspense_return"] - names["suspense_reversal"]


def _refunds(world: "World") -> None:
    ours, waits = _ours(world), _without_room(world)
    apart, gone = _gone_back(world)
    for intent in world.book.intents.values():
        back = sum(one.amount for one in intent.refunds if one.status != "failed")
        if back > intent.captured:
            world.broken("I5", f"{intent.id} gave back {back} of {intent.captured}")
        for one in intent.refunds:
            known = ours.get(one.id)
            if intent.id in apart:
                if known is not None:
                    world.broken("I3", f"{one.id} of what is held apart is a refund as well")
                if (one.status == "succeeded") != (one.id in gone):
                    world.broken("I3", f"{one.id} of what is held apart is {one.status}")
                continue
            # One made by hand may find no room beside ours, which a person then decides.
            if known is None and one.status == "succeeded" and one.id not in waits:
                world.broken("I3", f"the PSP's refund {one.id} is not in our books")
            elif known is not None and not _same(known, one):
                world.broken("I3", f"refund {one.id}: {one.amount} {one.status}, ours {known}")


def _same(known: tuple[int, str, str], one: "Refund") -> bool:
    """Tell whether a refund is what the PSP shows; of one that failed nobody has an amount."""
    amount, status, _ = known
    return status == one.status and (status == "failed" or amount == one.amount)


def _receivable(world: "World") -> None:
    """Compare the sums, by currency: what the PSP owes us by its book and by ours."""
    ours, owed, waits = Counter[str](), Counter[str](), _without_room(world)
    query = "SELECT currency, balance FROM accounts WHERE kind = 'psp_receivable'"
    for currency, balance in world.rows(query):
        ours[currency] += balance
    # The PSP takes its fee in the currency of the charge.
    paid = (
        "SELECT p.currency, f.transfers FROM postings f JOIN payments p ON p.id = f.payment_id "
        "WHERE f.kind = 'psp_fee' AND f.status = 'accepted'"
    )
    for currency, transfers in world.rows(paid):
        ours[currency] += sum(each[2] for each in json.loads(transfers))
    for intent in world.book.intents.values():
        back = [one for one in intent.refunds if one.status == "succeeded" and one.id not in waits]
        owed[intent.currency] += intent.captured - sum(one.amount for one in back)
    for currency in sorted(set(ours) | set(owed)):
        if (there := owed[currency]) != (here := ours[currency]):
            world.broken("I3", f"PSP owes {there} {currency}, receivable and fees say {here}")


def one_charge_each(world: "World") -> None:
    """I4: at most one charge of a payment took money, and no more than was asked."""
    taken: dict[str, list[Any]] = defaultdict(list)
    for intent in world.book.intents.values():
        if intent.captured and not intent.by_hand:
            taken[intent.payment_id].append(intent)
    for payment_id, intents in taken.items():
        if len(intents) > 1:
            world.broken("I4", f"{payment_id} was charged {len(intents)} times")
        if any(intent.captured > intent.amount for intent in intents):
            world.broken("I4", f"{payment_id}: more was captured than authorized")


def all_is_final(world: "World") -> None:
    """I6: all that was accepted has ended, along the graph, and stays as it ended."""
    dead = {row[0] for row in world.rows("SELECT payment_id FROM jobs WHERE state = 'dead'")}
    for payment_id, status in world.rows("SELECT id, status FROM payments"):
        if status not in FINAL:
            world.broken("I6", f"{payment_id} is {status} at the end")
    query = "SELECT id, status, payment_id FROM refunds WHERE status = 'pending'"
    for refund_id, _, payment_id in world.rows(query):
        if payment_id not in dead:
            world.broken("I6", f"{refund_id} is pending at the end")
    told: dict[str, list[tuple[int, str, str | None]]] = defaultdict(list)
    for message in world.post.received:
        data = json.loads(message.body)["data"]
        now = (data["sequence"] or 0, data["object"]["status"], data["previous_status"])
        told[data["object"]["id"]].append(now)
    for name, lines in told.items():
        moves = PAYMENT_MOVES if name.startswith("pay_") else REFUND_MOVES
        for _, status, before in sorted(set(lines), key=str):
            if before is not None and status != before and status not in moves.get(before, ()):
                world.broken("I6", f"{name} was told to go from {before} to {status}")


_REFUNDS_ASKED_FOR = "SELECT id, metadata FROM refunds WHERE source = 'api'"


def nothing_lost_or_invented(world: "World") -> None:
    """I7: what was acknowledged is there; what is there was asked for."""
    payments = {row[0]: row[1] for row in world.rows("SELECT id, metadata FROM payments")}
    refunds = {row[0]: row[1] for row in world.rows(_REFUNDS_ASKED_FOR)}
    made = {row[0] for row in world.rows("SELECT id FROM refunds")}
    sent = {key for shop in world.shops for key in shop.keys}
    for shop in world.shops:
        for line in shop.told:
            if line.id is not None and line.id not in payments and line.id not in made:
                world.broken("I7", f"{line.id} was acknowledged and is not there")
    for name, metadata in (payments | refunds).items():
        if json.loads(metadata).get("key") not in sent:
            world.broken("I7", f"nobody asked for {name}")
    attempts = {row[0] for row in world.rows("SELECT id FROM attempts")}
    for intent in world.book.intents.values():
        if intent.attempt_id not in attempts:
            world.broken("I7", f"the PSP's {intent.id} is of no attempt of ours")


def one_operation_a_key(world: "World") -> None:
    """I8: a key did one thing, and everybody who used it heard of the same."""
    rows = world.rows("SELECT id, metadata FROM payments") + world.rows(_REFUNDS_ASKED_FOR)
    for key, count in Counter(json.loads(row[1]).get("key") for row in rows).items():
        if count > 1:  # A shop's name is part of its keys.
            world.broken("I8", f"the key {key} did {count} things")
    for shop in world.shops:
        heard: dict[str, set[str]] = defaultdict(set)
        for line in shop.told:
            if line.key is not None and line.id is not None:
                heard[line.key].add(line.id)
            reused = line.status == 422 and "idempotency-key-reused" in line.body
            if reused and len(shop.sent[line.key or ""]) == 1:
                world.broken("I8", f"{shop.name} has used the key {line.key} for nothing else")
        for key, ids in heard.items():
            if len(ids) > 1:
                world.broken("I8", f"the key {key} was answered with {sorted(ids)}")


def nobody_is_contradicted(world: "World") -> None:
    """I8, I6: what a shop was told is final stays so, and money held for it does not expire."""
    finals: dict[str, str] = {}
    truth = {row[0]: row[1] for row in world.rows("SELECT id, status FROM payments")}
    for shop in world.shops:
        for line in shop.told:
            if line.id is None or line.state not in FINAL or not line.id.startswith("pay_"):
                continue
            if finals.setdefault(line.id, line.state) != line.state:
                world.broken("I8", f"{line.id} was {finals[line.id]} and then {line.state}")
            if truth.get(line.id) != line.state:
                world.broken("I6", f"{line.id} was told {line.state}, is {truth.get(line.id)}")
    # The end of a page never lets go of what a customer has agreed to on it.
    held, over = (
        {row[0] for row in world.rows("SELECT payment_id FROM events WHERE type = ?", kind)}
        for kind in ("payment.requires_capture", "payment.expired")
    )
    for payment_id in sorted(held & over):
        world.broken("I6", f"{payment_id} was held for the shop, and expired")


def messages_are_exact(world: "World") -> None:
    """I11: each shop has received exactly its events, each with one content, signed."""
    wanted: dict[str, set[str]] = defaultdict(set)
    query = (
        "SELECT d.event_id, e.merchant_id FROM deliveries d JOIN events e ON e.id = d.event_id "
        "WHERE d.state <> 'exhausted'"
    )
    names = {shop.merchant_id: shop.name for shop in world.shops}
    for event_id, merchant_id in world.rows(query):
        wanted[names[merchant_id]].add(event_id)
    missing = world.rows(
        "SELECT e.id FROM events e JOIN webhook_endpoints w ON w.merchant_id = e.merchant_id "
        "LEFT JOIN deliveries d ON d.event_id = e.id "
        "WHERE w.event_types = '[]' AND d.id IS NULL"
    )
    for (event_id,) in missing:
        world.broken("I11", f"the event {event_id} was handed to nobody")
    received: dict[str, dict[str, str]] = defaultdict(dict)
    for message in world.post.received:
        if not message.valid:
            world.broken("I11", f"{message.id} came with a signature that does not verify")
        if received[message.shop].setdefault(message.id, message.body) != message.body:
            world.broken("I11", f"{message.id} came with two contents")
    for shop, events in wanted.items():
        for event_id in sorted(events ^ set(received[shop])):
            world.broken("I11", f"{shop} and we disagree about the message {event_id}")


def events_are_exact(world: "World") -> None:
    """I10, I12: events that we took are stored once and done; forged ones had no effect."""
    stored = Counter(row[0] for row in world.rows("SELECT psp_event_id FROM psp_events"))
    for event_id, count in stored.items():
        if count > 1 or event_id not in world.post.emitted:
            world.broken("I12", f"{event_id} is stored {count} times or was never sent")
    for event_id in sorted(world.post.taken - set(stored)):
        world.broken("I10", f"{event_id} was answered 200 and is not stored")
    query = "SELECT id, psp_event_id, state FROM psp_events WHERE state IN ('received', 'parked')"
    # A person has it, or it is about a refund made by hand that finds no room beside one of ours.
    waits = "state = 'dead' OR state = 'due' AND reason LIKE '%finds no room%'"
    jobs = [str(row[0]) for row in world.rows(f"SELECT args FROM jobs WHERE {waits}")]
    for name, event_id, state in world.rows(query):
        if not any(name in args for args in jobs):
            world.broken("I10", f"{event_id} is {state} at the end")


def tenants_stay_apart(world: "World") -> None:
    """I13: nobody hears of another shop's payment."""
    for shop in world.shops:
        heard = [line.body for line in shop.told]
        heard += [m.body for m in world.post.received if m.shop == shop.name]
        for other in world.shops:
            if other is not shop and any(other.canary in body for body in heard):
                world.broken("I13", f"{shop.name} heard the canary of {other.name}")


def unknown_is_held(world: "World") -> None:
    """I16: nothing stays unknown, and what a person must compare has its open item."""
    for (name,) in world.rows("SELECT id FROM attempts WHERE state IN ('sent', 'unknown')"):
        world.broken("I16", f"{name} is unknown at the end")
    query = (
        "SELECT a.id FROM attempts a WHERE a.state = 'needs_review' AND NOT EXISTS "
        "(SELECT 1 FROM reviews r WHERE r.attempt_id = a.id AND r.state = 'open')"
    )
    for (name,) in world.rows(query):
        world.broken("I16", f"{name} needs a person and has no open review")
    for name, stage in world.rows("SELECT id, stage FROM reviews WHERE state = 'open'"):
        world.broken("I16", f"the item {name} is open at the end ({stage or 'nobody decides'})")
    # A person's time is asked for a reason only: here the PSP took a wrong amount.
    query = (
        "SELECT a.id, a.kind, a.amount, r.payment_id FROM reviews r "
        "JOIN attempts a ON a.id = r.attempt_id WHERE r.kind = 'mismatch'"
    )
    for name, kind, amount, payment_id in world.rows(query):
        intents = [one for one in world.book.intents.values() if one.payment_id == payment_id]
        if set[int]().union(*(_amounts(one, name, kind) for one in intents)) <= {amount}:
            world.broken("I16", f"{name} was held for review, and the PSP took the right amount")


def _amounts(intent: "Intent", attempt_id: str, kind: str) -> set[int]:
    """Return what the PSP did of an intent for an attempt of a kind; nothing for another one."""
    if kind == "refund":
        return {one.amount for one in intent.refunds if one.attempt_id == attempt_id}
    if kind == "capture":
        return {intent.captured}
    return {intent.amount} if intent.attempt_id == attempt_id else set()


def actions_are_audited(world: "World") -> None:
    """I17: what a shop asked for has one row in the audit log a key; what people did, one a time.

    A person who heard nothing may have done it all the same, so there may be more of theirs.
    """
    done = Counter(world.rows("SELECT action, object_id FROM audit_rows"))
    wanted = [("payment.create", row[0]) for row in world.rows("SELECT id FROM payments")]
    api = "SELECT id FROM refunds WHERE source = 'api'"
    wanted += [("refund.create", row[0]) for row in world.rows(api)]
    for action in wanted:
        if done[action] != 1:
            world.broken("I17", f"{done[action]} audit rows of {action[0]} {action[1]}")
    for shop in world.shops:
        asked = Counter(shop.keys.values())  # A key of its own for each time that it was meant.
        carried_out = {
            (line.what, line.id)
            for line in shop.told
            if line.status == 200 and line.key is not None and line.id is not None
        }
        for path, name in carried_out:
            verb = f"payment.{path.rpartition('/')[2]}"
            if not 1 <= (count := done[verb, name]) <= asked[path]:
                world.broken("I17", f"{count} audit rows of {verb} {name}")
    for said, count in Counter(world.said).items():
        if done[said] < count:
            world.broken("I17", f"{count} times {' '.join(said)}, audited less often")
    retried = Counter(job_id for job_id, _ in world.retried)
    for job_id, count in retried.items():
        if done["dead_letter.retry", job_id] < count:
            world.broken("I17", f"letter {job_id} was retried {count} times, audited less often")


def secrets_stay_secret(world: "World") -> None:
    """I20: no secret in what people read: jobs, audit rows, answers."""
    secrets = [secret for _, secret in world.post.secrets.values()] + ["whsec_simulation"]
    texts = [str(row) for row in world.rows("SELECT args, history, reason FROM jobs")]
    texts += [str(row) for row in world.rows("SELECT * FROM audit_rows")]
    texts += [line.body for shop in world.shops for line in shop.told]
    for secret in secrets:
        if any(secret in text for text in texts):
            world.broken("I20", f"the secret {secret[:10]}… stands in a row or an answer")


def nothing_is_stuck(world: "World") -> None:
    """I21: no job is left behind under a lease.

    A lease that still runs, of a worker that lives, is none: a refund made by hand that finds no
    room is tried for a day, and the end may come while somebody tries.
    """
    living = {worker.name for worker in world.living("worker")}
    query = "SELECT id, owner, state = 'due' AND run_at > ? FROM jobs WHERE owner IS NOT NULL"
    for name, owner, runs in world.rows(query, db.to_micros(world.now())):
        if not runs or owner not in living:
            world.broken("I21", f"{name} is held by {owner} at the end")


_SCHEDULED = frozenset({5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 86_400.0})


def no_herd(world: "World") -> None:
    """Jobs that failed together do not come back together: no two wait equally long.

    The looks of the janitor have a schedule, which begins for each at its own moment.
    """
    waits = [seconds for seconds in world.waits.values() if seconds not in _SCHEDULED]
    if len(set(waits)) != len(waits):
        world.broken("F19", "two jobs were put back for exactly the same time: no jitter")


def poison_is_buried(world: "World") -> None:
    """I10: what fails for ever, or kills its worker, stops after a bounded number of tries."""
    query = "SELECT id, kind, failures, crashes FROM jobs WHERE failures > 8 OR crashes > 4"
    for name, kind, failures, crashes in world.rows(query):
        world.broken("I10", f"{kind} {name} failed {failures} times, crashed {crashes} times")
