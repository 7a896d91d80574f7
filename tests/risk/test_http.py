"""The HTTP provider's way out: any host that the settings name, and nowhere that it points to."""

import pytest

from app.egress import Blocked, Egress, OperatorEgress
from app.risk.http import HttpProvider
from app.risk.port import ProviderDown
from tests.risk.test_rules import question
from tests.support.receiver import Reply, receiving


async def test_the_operators_own_network_is_reached_where_a_shops_address_is_not() -> None:
    http, egress = OperatorEgress(), Egress()
    async with receiving(Reply(body=b'{"decision":"hold"}')) as receiver:
        provider = HttpProvider(http, url=receiver.url, token=None, seconds=5)
        assert (await provider.ask(question())).decision == "hold"
        with pytest.raises(Blocked):
            await egress.post(receiver.url, body=b"", headers={}, seconds=5)
        assert "authorization" not in receiver.requests[0].headers
        assert len(receiver.requests) == 1
    await http.close()
    await egress.close()


async def test_a_redirect_is_not_followed() -> None:
    http = OperatorEgress()
    async with receiving(Reply(body=b'{"decision":"allow"}')) as other:
        there = Reply(status=307, headers={"location": other.url})
        async with receiving(there) as receiver:
            provider = HttpProvider(http, url=receiver.url, token="secret", seconds=5)
            with pytest.raises(ProviderDown, match="status 307"):
                await provider.ask(question())
        assert other.requests == []
    await http.close()


async def test_a_host_that_nobody_knows_is_down() -> None:
    http = OperatorEgress()
    provider = HttpProvider(http, url="http://risk.invalid/", token=None, seconds=5)
    with pytest.raises(ProviderDown):
        await provider.ask(question())
    await http.close()
