"""A customer follows our address to the PSP's page, pays, and comes back, whatever fails."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from aiohttp import web

from app.cli.drill import customer as drill
from app.cli.drill.customer import DECLINED, GOOD, Customer

_OPEN, _PAY, _BACK = "/checkout/tok", "/pay/cs_1", "/checkout/tok/return"
_WAY = {"Location": f"http://localhost:1{_BACK}?status=hint"}


class Net(NamedTuple):
    """Our server and the PSP's in one: `script` has the next answers, `asked` what was asked.

    A request with the name of the other one is refused, as our own server does.
    """

    customer: Customer
    script: list[tuple[int, dict[str, str]]]
    asked: list[str]
    port: int

    def to_psp(self) -> tuple[int, dict[str, str]]:
        return 303, {"Location": f"http://localhost:{self.port}{_PAY}"}


@pytest.fixture
async def net(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Net]:
    script: list[tuple[int, dict[str, str]]] = []
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        asked.append(f"{request.method} {request.path} {form.get('number', '')}".strip())
        if (request.host == "localhost:1") != request.path.startswith("/checkout/"):
            return web.Response(status=421)
        status, headers = script.pop(0)
        if not status:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=status or 200, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    monkeypatch.setattr(drill, "_PAUSE", 0.0)
    customer = Customer(port, "localhost:1")
    yield Net(customer, script, asked, port)
    assert script == []
    await customer.close()
    await runner.cleanup()


async def _never() -> bool:
    return False


async def _at_once() -> bool:
    return True


async def test_whatever_fails_on_the_way_is_tried_again(net: Net) -> None:
    net.script.extend([(200, {}), (0, {}), (503, {}), net.to_psp()])
    net.script.extend([(0, {}), (500, {}), (303, _WAY), (0, {}), (503, {}), (200, {})])
    assert await net.customer.pay(f"http://localhost:1{_OPEN}", [GOOD], _never)
    pressed = f"POST {_PAY} {GOOD}"
    assert net.asked == [f"GET {_OPEN}"] * 4 + [pressed] * 3 + [f"GET {_BACK}"] * 3


async def test_another_card_is_taken_when_one_is_declined(net: Net) -> None:
    net.script.extend([net.to_psp(), (402, {}), (303, _WAY), (200, {})])
    assert await net.customer.pay(_OPEN, [DECLINED, GOOD], _never)
    assert net.asked[1:3] == [f"POST {_PAY} {DECLINED}", f"POST {_PAY} {GOOD}"]


async def test_whose_cards_are_all_declined_has_not_paid(net: Net) -> None:
    net.script.extend([net.to_psp(), (402, {})])
    assert not await net.customer.pay(_OPEN, [DECLINED], _never)


@pytest.mark.parametrize("end", [(303, {"Location": _PAY}), (410, {})])
async def test_nobody_pays_on_a_page_that_has_ended(
    net: Net, end: tuple[int, dict[str, str]]
) -> None:
    net.script.extend([net.to_psp(), end])
    assert not await net.customer.pay(_OPEN, [DECLINED, GOOD], _never)
    assert len(net.asked) == 2


async def test_nobody_waits_for_the_page_of_a_payment_that_has_ended(net: Net) -> None:
    net.script.append((200, {}))
    assert not await net.customer.pay(_OPEN, [GOOD], _at_once)


async def test_who_has_paid_has_paid_also_when_the_way_back_is_shut(net: Net) -> None:
    net.script.extend([net.to_psp(), (303, _WAY), (503, {})])
    assert await net.customer.pay(_OPEN, [GOOD], _at_once)
