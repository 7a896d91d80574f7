"""What the benchmark's shop sends: a payment as a shop plugin asks for it."""

import itertools

import msgspec

from app.cli.bench.house import BenchError, House, Shop
from app.cli.bench.load import Client


class _Created(msgspec.Struct):
    id: str


class Till:
    """Creates payments through the API, each with an order number and a key of its own."""

    def __init__(self, house: House, shop: Shop) -> None:
        headers = {
            "Authorization": f"Bearer {shop.secret}",
            "Content-Type": "application/json",
        }
        self._client = Client("127.0.0.1", house.port, f"localhost:{house.port}", headers)
        self._numbers = itertools.count(1)

    async def pay(self) -> str:
        """Ask for one payment with the card of the sandbox; return its id. Raises BenchError."""
        number = next(self._numbers)
        wish = {
            "amount": 1000 + number % 9000,
            "currency": "eur",
            "description": f"Demo order {number}",
            "reference": f"demo-order-{number:08}",
            "payment_method": "pm_card_visa",
            "customer": {"email": f"shopper{number}@demo-shop.example", "name": "Demo shopper"},
            "metadata": {"cart": f"demo-cart-{number:08}"},
        }
        status, body = await self._client.send(
            "POST", "/v1/payments", msgspec.json.encode(wish), Idempotency_Key=f"order-{number:08}"
        )
        if status != 201:
            raise BenchError(f"a payment was not accepted: {status} {body.decode()[:300]}")
        return msgspec.json.decode(body, type=_Created).id

    async def once(self) -> None:
        """Ask for one payment."""
        await self.pay()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
