"""The settings make the connections."""

from pathlib import Path

import msgspec
import pytest

from app.psp import registry
from tests.support.runtime import Clock, test_settings

BASE = test_settings("sqlite+aiosqlite:///unused.db", Path("unused"))


def connections(**changes: str | None) -> registry.Connections:
    return registry.Connections(msgspec.structs.replace(BASE, **changes), Clock())


def test_each_configured_account_is_a_connection() -> None:
    assert list(connections()) == [registry.SANDBOX]
    both = connections(stripe_test_secret_key="sk_test_1", stripe_live_secret_key="rk_live_1")
    assert list(both) == [registry.SANDBOX, registry.STRIPE_TEST, registry.STRIPE_LIVE]
    assert both.default(livemode=True) == registry.STRIPE_LIVE
    assert both.default(livemode=False) == registry.SANDBOX
    assert both.default(livemode=False, psp="stripe") == registry.STRIPE_TEST
    assert connections().default(livemode=True) is None


def test_an_adapter_is_made_once_and_knows_its_mode() -> None:
    both = connections(stripe_live_secret_key="sk_live_1")
    assert both[registry.STRIPE_LIVE] is both[registry.STRIPE_LIVE]
    assert (both[registry.STRIPE_LIVE].name, both[registry.STRIPE_LIVE].livemode) == (
        "stripe",
        True,
    )
    assert (both[registry.SANDBOX].name, both[registry.SANDBOX].livemode) == ("sandbox", False)
    for unknown in (registry.STRIPE_TEST, "conn_nothing"):
        with pytest.raises(KeyError):
            both[unknown]
