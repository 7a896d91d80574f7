"""One adapter on its PSP, and attempts with numbers, for the contract that adapters hold."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from app.psp.port import Adapter, Request, Result
from app.settings import Deadlines

AMOUNT = 12840


def now() -> datetime:
    return datetime.now(UTC)


class Scene:
    """One adapter, its PSP, and attempts with numbers."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.psp: Adapter = bench.adapter(now, Deadlines())
        self._numbers = itertools.count(1)

    def request(self, kind: str = "charge", **changes: Any) -> Request:
        number = next(self._numbers)
        values: dict[str, Any] = {
            "kind": kind,
            "attempt_id": f"att_{number}",
            "payment_id": "pay_1",
            "installation": "inst_1",
            "amount": AMOUNT,
            "currency": "eur",
            "created_at": now(),
        }
        if kind == "charge":
            values["payment_method"] = self.bench.charges
        if kind == "checkout":
            values |= {
                "success_url": "https://shop.test/return?a=1&b=é",
                "cancel_url": "https://shop.test/cancel",
                "description": "Order 1042: zwei Lampen für ömer",
                "customer_email": "test@shop.test",
                "expires_at": now() + timedelta(hours=1),
            }
        return Request(**(values | changes))

    async def run(self, request: Request, *, last: str | None = None) -> tuple[Result, str | None]:
        """Do the steps of an attempt, also as a replay; return the last answer and reference."""
        reference, result = None, Result(cls="unknown")
        for step in self.psp.steps(request.kind):
            key = f"inst_1:{request.attempt_id}:{step}"
            result = await self.psp.send(step, request, key=key, reference=reference)
            reference = result.psp_reference or reference
            if step == last or result.cls != "next":
                break
        return result, reference

    async def paid(self, **changes: Any) -> str:
        result, reference = await self.run(self.request(**changes))
        assert result.cls in {"succeeded", "authorized"}
        return reference or ""
