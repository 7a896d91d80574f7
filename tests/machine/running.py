"""Steps of a shop that runs its account: webhook endpoints, API keys, lists, balances; Charlie."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from standardwebhooks import Webhook

from app.audit.operations import SYSTEM
from app.merchants import operations as merchants
from tests.machine import model
from tests.machine.player import Player, step
from tests.support.receiver import Reply

ENDPOINTS = "/v1/webhook_endpoints"
_REPLIES = (Reply(), Reply(), Reply(status=500), Reply(status=302), Reply(status=410))


class Running(Player):
    """Everything that a shop does beside asking for money."""

    def _endpoint(self, which: int) -> model.Endpoint | None:
        here = [one for one in self.endpoints if not one.gone]
        return here[which % len(here)] if here else None

    @step
    async def add_endpoint(self, kind: int) -> None:
        if len(self.endpoints) >= 4:
            return
        types = ([], ["payment.succeeded"], ["refund.created", "refund.succeeded"])[kind % 3]
        body = {"url": f"{self.world.receiver.url}/{len(self.endpoints)}", "event_types": types}
        said = self.expect(await self.send("POST", ENDPOINTS, body), (201, None))
        self.endpoints.append(model.Endpoint(id=said["id"], secrets=[said["secret"]]))

    @step
    async def switch_endpoint(self, which: int, flag: int) -> None:
        endpoint = self._endpoint(which)
        if endpoint is not None:
            path = f"{ENDPOINTS}/{endpoint.id}"
            said = self.expect(
                await self.send("PATCH", path, {"disabled": bool(flag)}), (200, None)
            )
            assert (said["status"] == "disabled") == bool(flag)

    @step
    async def rotate_endpoint_secret(self, which: int) -> None:
        endpoint = self._endpoint(which)
        if endpoint is not None:
            answer = await self.send("POST", f"{ENDPOINTS}/{endpoint.id}/rotate_secret")
            endpoint.secrets.append(self.expect(answer, (200, None))["secret"])

    @step
    async def delete_endpoint(self, which: int) -> None:
        endpoint = self._endpoint(which)
        if endpoint is not None:
            path = f"{ENDPOINTS}/{endpoint.id}"
            self.expect(await self.send("DELETE", path), (200, None))
            self.expect(await self.send("GET", path), (404, "webhook_endpoint_not_found"))
            endpoint.gone = True

    @step
    async def test_endpoint(self, which: int) -> None:
        endpoint = self._endpoint(which)
        if endpoint is not None:
            path = f"{ENDPOINTS}/{endpoint.id}"
            off = (await self.send("GET", path)).json()["status"] == "disabled"
            expected = (409, "webhook_endpoint_disabled") if off else (201, None)
            self.expect(await self.send("POST", f"{path}/test"), expected)

    @step
    async def redeliver(self, which: int) -> None:
        endpoint = self._endpoint(which)
        if endpoint is None:
            return
        path = f"{ENDPOINTS}/{endpoint.id}"
        off = (await self.send("GET", path)).json()["status"] == "disabled"
        found = (await self.send("GET", f"{path}/deliveries")).json()["data"]
        if found:
            one = found[which % len(found)]
            answer = await self.send("POST", f"/v1/webhook_deliveries/{one['id']}/redeliver")
            self.expect(answer, (409, "webhook_endpoint_disabled") if off else (200, None))

    @step
    async def shop_server_answers(self, kind: int) -> None:
        self.world.receiver.reply = _REPLIES[kind % len(_REPLIES)]

    def check_deliveries(self) -> None:
        """Hold I11 for what came: signed with a secret of that endpoint, the same under its id."""
        bodies: dict[tuple[str, str], bytes] = {}
        for request in self.world.receiver.requests:
            endpoint = self.endpoints[int(request.path.rpartition("/")[2])]
            assert any(_verifies(secret, request) for secret in endpoint.secrets)
            key = (request.path, request.headers["webhook-id"])
            assert bodies.setdefault(key, request.body) == request.body

    @step
    async def rotate_key(self) -> None:
        """The old key works for a day beside the new one."""
        old = self.secrets["alice"]
        async with self.world.rt.sessions.begin() as session:
            key, secret = await merchants.rotate_key(
                session,
                ids=self.world.rt.ids,
                now=self.world.clock(),
                actor=SYSTEM,
                merchant_id=self.world.cast.shop.id,
                livemode=False,
                key_id=self.keys[-1],
                overlap=timedelta(days=1),
            )
        self.expect(await self.get("/v1/payments?limit=1"), (200, None))
        self.secrets |= {"alice": secret, "old": old}
        self.keys.append(key.id)
        self.expect(await self.get("/v1/payments?limit=1"), (200, None))

    @step
    async def revoke_old_key(self) -> None:
        if len(self.keys) < 2:
            return
        async with self.world.rt.sessions.begin() as session:
            with suppress(merchants.KeyEnded):  # Its day of overlap may be over.
                await merchants.revoke_key(
                    session,
                    ids=self.world.rt.ids,
                    now=self.world.clock(),
                    actor=SYSTEM,
                    merchant_id=self.world.cast.shop.id,
                    livemode=False,
                    key_id=self.keys[-2],
                )
        await self.world.restart()  # A process may know a key for a second; a new one does not.
        self.expect(await self.get("/v1/payments", "old"), (401, "unauthenticated"))

    @step
    async def list_payments(self, which: int, kind: int) -> None:
        """Every page once: together they are what the filter says, newest first."""
        await self.see_all()
        wanted = ("succeeded", "processing", "canceled", None)[kind % 4]
        query = f"&status={wanted}" if wanted else ""
        found: list[str] = []
        cursor = ""
        while True:
            answer = await self.get(f"/v1/payments?limit={1 + which % 4}{query}{cursor}")
            page = self.expect(answer, (200, None))
            found += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                break
            cursor = f"&starting_after={found[-1]}"
        mine = [i for i, one in self.payments.items() if wanted in {None, one["status"]}]
        assert sorted(found) == sorted(mine)
        assert found == sorted(found, reverse=True)

    @step
    async def read_balance(self) -> None:
        """What the wallet holds is what the payments have brought, once all is recorded."""
        await self.world.work()
        waits = {"Ledger-Position-Min": "latest"}
        answer = await self.get("/v1/balance", **waits)
        said = self.expect(answer, (200, None))
        again = await self.get(
            "/v1/balance", **{"Ledger-Position-Min": str(said["ledger_position"])}
        )
        self.expect(again, (200, None))
        await self.see_all()
        owed: dict[str, int] = {}
        for one in self.payments.values():
            owed[one["currency"]] = owed.get(one["currency"], 0) + one["net"]
        held: dict[str, int] = {}
        for part in ("available", "pending"):
            for one in said[part]:
                held[one["currency"]] = held.get(one["currency"], 0) + one["amount"]
        assert _nonzero(held) == _nonzero(owed), (held, owed)
        self.tell(sorted(_nonzero(held).items()))

    @step
    async def read_entries(self, which: int) -> None:
        """Each line goes on from the one before it, of its part and currency."""
        answer = await self.get(f"/v1/ledger/entries?limit={10 + which % 90}")
        last: dict[tuple[str, str], Any] = {}
        for line in self.expect(answer, (200, None))["data"]:
            place = (line["part"], line["currency"])
            if place in last:
                assert line["balance_after"] == last[place]
            last[place] = line["balance_before"]

    @step
    async def charlie_looks(self, which: int) -> None:
        """I13: what is Alice's reads, lists and acts as if it did not exist."""
        payment = await self.pick(which)
        if payment is None:
            return
        path = f"/v1/payments/{payment['id']}"
        for where in (path, f"{path}/timeline"):
            self.expect(await self.get(where, "charlie"), (404, "payment_not_found"))
        for way in ("capture", "cancel"):
            answer = await self.raw_post(f"{path}/{way}", {}, f"key-{self.number()}", "charlie")
            self.expect(answer, (404, "payment_not_found"))
        body = {"payment": payment["id"]}
        answer = await self.raw_post("/v1/refunds", body, f"key-{self.number()}", "charlie")
        self.expect(answer, (404, "payment_not_found"))
        for listed in ("/v1/payments", f"/v1/refunds?payment={payment['id']}", "/v1/events"):
            assert payment["id"] not in str((await self.get(listed, "charlie")).json()["data"])


def _verifies(secret: str, request: Any) -> bool:
    signed = request.headers | {"webhook-timestamp": request.headers["webhook-timestamp"]}
    made = Webhook(secret).sign(
        signed["webhook-id"], _moment(signed["webhook-timestamp"]), request.body.decode()
    )
    return made in signed["webhook-signature"].split()


def _moment(stamp: str) -> Any:
    return datetime.fromtimestamp(int(stamp), UTC)


def _nonzero(amounts: dict[str, int]) -> dict[str, int]:
    return {currency: amount for currency, amount in amounts.items() if amount}
