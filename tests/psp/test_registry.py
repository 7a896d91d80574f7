"""The settings make the connections, and a key of the wrong mode never does."""

from pathlib import Path

import msgspec
import pytest

from app.psp import registry
from app.settings import SettingsError
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"stripe_test_secret_key": "sk_live_1"},
        {"stripe_test_secret_key": "pk_test_1"},
        {"stripe_live_secret_key": "sk_test_1"},
        {"stripe_live_secret_key": "whsec_1"},
    ],
)
def test_a_key_of_the_wrong_mode_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="must be a"):
        connections(**wrong)


def test_both_wrong_keys_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        connections(stripe_test_secret_key="x", stripe_live_secret_key="y")
    assert len(caught.value.problems) == 2
