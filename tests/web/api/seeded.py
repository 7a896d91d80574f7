"""A shop with a past: payments in every state, refunds, deliveries, events, ledger entries."""

from typing import Any

import msgspec

from tests.support.psp import BookPsp
from tests.web.api.shop import Api

HELD: dict[str, Any] = {"payment_method": "pm_card_visa", "capture_method": "manual"}
NOBODY = "http://127.0.0.1:9/"  # No shop listens there, so that deliveries wait for their retry.


class Seeded(msgspec.Struct, kw_only=True):
    """The ids of what there is."""

    by_status: dict[str, list[str]]
    paid: str  # So much that refunds of it never run out.
    refunds: list[str]
    endpoints: list[str]
    deliveries: list[str]
    events: list[str]
    entries: list[str]

    @property
    def payments(self) -> list[str]:
        """Every payment."""
        return [one for ids in self.by_status.values() for one in ids]

    def for_path(self, operation: str, parameter: str) -> list[str]:
        """Return ids that an operation can be asked about and, where it acts, can act on."""
        able = {"capture_payment": "requires_capture", "cancel_payment": "requires_action"}
        if parameter == "payment_id":
            return self.by_status[able[operation]] if operation in able else self.payments
        # The oldest endpoint has the deliveries, so nobody may switch it off or take it away.
        half = len(self.endpoints) // 2
        endpoints = {
            "delete_webhook_endpoint": self.endpoints[:half],
            "update_webhook_endpoint": self.endpoints[half:-1],
        }
        return {
            "refund_id": self.refunds,
            "endpoint_id": endpoints.get(operation, self.endpoints[-1:]),
            "delivery_id": self.deliveries,
            "event_id": self.events,
        }[parameter]


async def seed(api: Api, psp: BookPsp, *, spare: int = 3) -> Seeded:
    """Let a shop live through everything; `spare` of what an operation uses up."""
    await _made(api, "/v1/webhook_endpoints", {"url": NOBODY})
    paid = await api.paid(10**9)
    partly = await api.paid(12_840)
    for script, amount in ((["ok"], 2_000), (["rejected"], 500), (["pending"], 300)):
        psp.script.extend(script)
        await _made(api, "/v1/refunds", {"payment": partly["id"], "amount": amount})
        await api.runner.drain()
    for script in (["ok", "declined"], ["ok", "lost"]):
        psp.script.extend(script)
        psp.looks.extend(["lost"] * (script[-1] == "lost"))
        await api.create(payment_method="pm_card_visa")
        await api.runner.drain()
    for _ in range(spare):
        await api.create(20_000, **HELD)
        await api.create(payment_method="pm_card_visa")
        await api.create()
    gone = await api.create()
    await api.runner.drain()
    await _made(api, f"/v1/payments/{gone['id']}/cancel", {})
    await api.runner.drain()
    await api.create(payment_method="pm_card_visa")  # Nobody has drained since: processing.
    for number in range(min(spare, 8)):  # A shop has 20 at most, and tests make some.
        await _made(api, "/v1/webhook_endpoints", {"url": f"{NOBODY}{number}"})
    return await _looked_up(api, paid["id"])


async def _made(api: Api, path: str, body: Any) -> None:
    answer = await api.post(path, body)
    assert answer.is_success, answer.text


async def _looked_up(api: Api, paid: str) -> Seeded:
    async def ids(path: str) -> list[str]:
        return [one["id"] for one in (await api.get(path, params={"limit": 100})).json()["data"]]

    by_status: dict[str, list[str]] = {}
    for one in (await api.get("/v1/payments", params={"limit": 100})).json()["data"]:
        by_status.setdefault(one["status"], []).append(one["id"])
    endpoints = await ids("/v1/webhook_endpoints")
    found = Seeded(
        by_status=by_status,
        paid=paid,
        refunds=await ids("/v1/refunds"),
        endpoints=endpoints,
        deliveries=await ids(f"/v1/webhook_endpoints/{endpoints[-1]}/deliveries"),
        events=await ids("/v1/events"),
        entries=await ids("/v1/ledger/entries"),
    )
    wanted = "requires_action processing requires_capture succeeded failed canceled".split()
    assert set(by_status) == set(wanted), by_status
    assert all(msgspec.structs.astuple(found)), found
    return found
