"""Steps of a shop that asks for money: payments, captures, cancels, refunds, used keys."""

import asyncio
from typing import Any

from app.payments.states import FINAL
from tests.machine import model
from tests.machine.model import Used
from tests.machine.player import Player, step

PAYMENTS = "/v1/payments"
REFUNDS = "/v1/refunds"
CURRENCIES = ("eur", "usd", "jpy")
_TOKENS = ("pm_card_visa", "pm_card_mastercard")
_WRONG: tuple[tuple[dict[str, Any], model.Expected], ...] = (
    ({"amount": 0}, (400, "invalid_request")),
    ({"amount": "5"}, (400, "invalid_request")),
    ({"amount": 10**12}, (400, "invalid_request")),
    ({"currency": "xyz"}, (400, "invalid_request")),
    ({"colour": "red"}, (400, "invalid_request")),
    ({"currency": "kpw"}, (422, "currency_not_supported")),
    ({"return_url": "http://shop.example/"}, (422, "url_not_allowed")),
    ({"psp": "paypal"}, (422, "psp_not_connected")),
    ({"description": "4242 4242 4242 4242"}, (400, "card_data_not_allowed")),
)


class Asking(Player):
    """Everything that a shop posts about money."""

    async def create(
        self, amount: int, expected: model.Expected = (201, None), **fields: Any
    ) -> None:
        """Post a payment and check what was accepted."""
        body = {"amount": amount, "currency": CURRENCIES[amount % 3]} | fields
        answer = await self.post(PAYMENTS, body, reads=PAYMENTS)
        said = self.expect(answer, expected)
        if answer.status_code == 201:
            hosted = "payment_method" not in fields
            assert said["status"] == ("requires_action" if hosted else "processing")
            assert (said["checkout_url"] is not None) == hosted
            await self.see(said["id"])

    @step
    async def create_hosted(self, amount: int, flag: int) -> None:
        await self.create(amount, expires_in=1800 if flag else 86_400)

    @step
    async def create_hosted_by_hand(self, amount: int) -> None:
        await self.create(amount, capture_method="manual", metadata={"order": str(amount)})

    @step
    async def create_off_session(self, amount: int, kind: int) -> None:
        await self.create(amount, payment_method=_TOKENS[kind % 2])

    @step
    async def create_off_session_by_hand(self, amount: int) -> None:
        await self.create(amount, payment_method="pm_card_visa", capture_method="manual")

    @step
    async def create_with_reference(self, amount: int, kind: int) -> None:
        await self.see_all()
        name = f"order-{kind % 3}"
        failed = FINAL - {"succeeded"}
        taken = any(
            one["reference"] == name and one["status"] not in failed
            for one in self.payments.values()
        )
        expected = (409, "reference_in_use") if taken else (201, None)
        await self.create(amount, expected, reference=name, payment_method="pm_card_visa")

    @step
    async def create_what_is_refused(self, kind: int) -> None:
        change, expected = _WRONG[kind % len(_WRONG)]
        answer = await self.post(PAYMENTS, {"amount": 500, "currency": "eur"} | change, reads="")
        self.expect(answer, expected)

    @step
    async def replay(self, which: int) -> None:
        if not self.used:
            return
        used = self.used[which % len(self.used)]
        answer = await self.raw_post(used.path, used.body, used.key, used.shop)
        self.check_replay(used, answer)
        if used.resource and not used.expired:
            now = await self.get(used.resource, used.shop)
            assert answer.json() == now.json()

    def check_replay(self, used: Used, answer: Any) -> None:
        """Check the answer to a request that was sent before (I8)."""
        if used.expired:
            self.expect(answer, (422, "idempotency-key-expired"))
            return
        assert answer.status_code == used.status, answer.text
        assert answer.headers["idempotent-replayed"] == "true"
        if used.resource is None:
            assert answer.content == used.refusal
        else:
            assert answer.json()["id"] == used.resource.rpartition("/")[2]

    @step
    async def reuse_key(self, which: int, kind: int) -> None:
        """F53: with another body, at another endpoint, by another shop, in another mode."""
        if not self.used:
            return
        used = self.used[which % len(self.used)]
        if kind % 4 == 0:
            # Sent with fields that are right, or nothing would be looked up.
            other = {"amount": 7_777, "currency": "eur"}
            answer = await self.raw_post(PAYMENTS, other, used.key, used.shop)
        elif kind % 4 == 1:
            path = f"{PAYMENTS}/pay_{'0' * 34}/capture"
            answer = await self.raw_post(path, {}, used.key, used.shop)
        else:
            await self._other_owner(used, "charlie" if kind % 4 == 2 else "live")
            return
        code = "idempotency-key-expired" if used.expired else "idempotency-key-reused"
        self.expect(answer, (422, code))

    async def _other_owner(self, used: Used, shop: str) -> None:
        if used.path != PAYMENTS or used.shop != "alice":
            return
        known = next((u for u in self.used if (u.shop, u.key) == (shop, used.key)), None)
        if known is not None:
            self.check_replay(known, await self.raw_post(known.path, known.body, used.key, shop))
            return
        body = {"amount": 4_200, "currency": "eur"}
        answer = await self.post(PAYMENTS, body, key=used.key, shop=shop, reads=PAYMENTS)
        expected = (201, None) if shop == "charlie" else (422, "psp_not_connected")
        said = self.expect(answer, expected)
        assert said.get("id", "another") not in (used.resource or "")

    @step
    async def five_at_once(self, amount: int) -> None:
        """F52: one is made; the others hear of it or are told to wait."""
        key, body = f"key-{self.number()}", {"amount": amount, "currency": "eur"}
        answers = await asyncio.gather(
            *(self.raw_post(PAYMENTS, body, key, "alice") for _ in range(5))
        )
        made = [one for one in answers if one.status_code == 201]
        assert len({one.json()["id"] for one in made}) == 1
        assert {one.status_code for one in answers} <= {201, 429}
        fresh = [one for one in made if "idempotent-replayed" not in one.headers]
        assert len(fresh) == 1
        self.remember(fresh[0], PAYMENTS, body, key=key, shop="alice", reads=PAYMENTS)
        await self.see(fresh[0].json()["id"])

    @step
    async def capture(self, which: int, kind: int) -> None:
        payment = await self.pick(which, "requires_capture")
        if payment is None:
            return
        amount = (None, payment["amount"], 1 + payment["amount"] // 2, payment["amount"] + 1)[
            kind % 4
        ]
        expected = model.capture(payment, amount)
        body = {} if amount is None else {"amount": amount}
        path = f"{PAYMENTS}/{payment['id']}/capture"
        said = self.expect(await self.post(path, body, reads=PAYMENTS), expected)
        if expected == (200, None):
            assert said["status"] == "processing"

    @step
    async def cancel(self, which: int) -> None:
        payment = await self.pick(which, "requires_action", "processing", "requires_capture")
        if payment is None:
            return
        expected = model.cancel(payment, asked=payment["id"] in self.asked)
        path = f"{PAYMENTS}/{payment['id']}/cancel"
        said = self.expect(await self.post(path, {}, reads=PAYMENTS), expected)
        if expected == (200, None):
            assert said["status"] in {"processing", "canceled"}
            self.asked.add(payment["id"])
            if not payment["attempts"]:
                assert said["status"] == "canceled"

    @step
    async def capture_against_cancel(self, which: int) -> None:
        """F54: whichever is later holds; nobody is told two ends."""
        payment = await self.pick(which, "requires_capture")
        if payment is None or payment["status"] != "requires_capture":
            return
        base = f"{PAYMENTS}/{payment['id']}"
        ways = ("capture", "cancel")
        answers = await asyncio.gather(
            *(self.raw_post(f"{base}/{way}", {}, f"key-{self.number()}", "alice") for way in ways)
        )
        taken, ended = (one.status_code for one in answers)
        assert taken in {200, 409}
        assert ended == 200
        self.asked.add(payment["id"])
        await self.see(payment["id"])

    async def _refund(self, payment: model.Shape, amount: int | None, **more: Any) -> None:
        expected = model.refund(payment, amount, more.get("refund_amount_available"))
        body = {"payment": payment["id"], **more}
        if amount is not None:
            body["amount"] = amount
        answer = await self.post(REFUNDS, body, reads=REFUNDS)
        said = self.expect(answer, expected)
        if answer.status_code == 201:
            assert said["status"] == "pending"
            self.refunds[said["id"]] = said

    @step
    async def refund(self, which: int, kind: int) -> None:
        payment = await self.pick(which, "succeeded")
        if payment is None:
            return
        left = payment["amount_captured"] - payment["amount_refunded"]
        amount = (None, 1, max(1, left // 3), left + 1)[kind % 4]
        await self._refund(payment, amount)

    @step
    async def refund_what_is_believed(self, which: int, flag: int) -> None:
        payment = await self.pick(which, "succeeded")
        if payment is None:
            return
        left = payment["amount_captured"] - payment["amount_refunded"]
        await self._refund(payment, 1, refund_amount_available=left + flag)

    @step
    async def three_refunds_at_once(self, which: int) -> None:
        """F54: two thirds three times; one finds room."""
        payment = await self.pick(which, "succeeded")
        if payment is None or payment["status"] != "succeeded":
            return
        left = payment["amount_captured"] - payment["amount_refunded"]
        if left < 4:
            return
        body = {"payment": payment["id"], "amount": left * 2 // 3}
        answers = await asyncio.gather(
            *(self.raw_post(REFUNDS, body, f"key-{self.number()}", "alice") for _ in range(3))
        )
        assert sorted(one.status_code for one in answers) == [201, 422, 422]
        for one in answers:
            if one.status_code == 201:
                self.refunds[one.json()["id"]] = one.json()
        after = await self.see(payment["id"])
        assert after["amount_refunded"] == payment["amount_refunded"] + body["amount"]

    @step
    async def press_the_refund_button_twice(self, which: int) -> None:
        """F54, F69: a dashboard form that was sent is sent again, with Back or a double click."""
        payment = await self.pick(which, "succeeded")
        if payment is None or payment["status"] != "succeeded" or not payment["amount_refundable"]:
            return
        address = f"/m/{self.world.cast.shop.id}/test/payments/{payment['id']}/refund"
        async with self.world.browser(self.world.cast.alice) as browser:
            page = await browser.get(address)
            answers = [await browser.submit(page, "/refund", part="full") for _ in range(3)]
        assert [one.status for one in answers] == [303] * 3
        after = await self.see(payment["id"])
        assert after["amount_refundable"] == 0
        listed = await self.get(f"{REFUNDS}?payment={payment['id']}&limit=100")
        for one in listed.json()["data"]:
            self.refunds.setdefault(one["id"], one)
        mine = [one for one in self.refunds.values() if one["payment"] == payment["id"]]
        assert sum(x["amount"] for x in mine if x["status"] != "failed") <= after["amount_captured"]
