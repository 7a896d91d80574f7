import base64

import pytest

from app.settings import SettingsError, from_environment, is_loopback

KEY = base64.b64encode(bytes(32)).decode()
GOOD = {
    "DATABASE_URL": "postgresql+asyncpg://localhost/x",
    "REDIS_URL": "redis://localhost/0",
    "DATA_DIR": "var",
    "PUBLIC_URL": "https://pay.example/",
    "SEALING_KEYS": f"new:{KEY},old:{KEY}",
    "PEPPER": KEY,
}


def test_good_settings_are_read() -> None:
    settings = from_environment({**GOOD, "DEADLINE_CONFIRM": "7", "TRUSTED_PROXIES": "10.0.0.0/8"})
    assert settings.sealing_key_id == "new"
    assert settings.public_url == "https://pay.example"
    assert settings.https
    assert settings.deadlines.confirm == 7
    assert settings.trusted_proxies == ("10.0.0.0/8",)


def test_all_wrong_settings_are_named_at_once() -> None:
    wrong = {
        **GOOD,
        "DATABASE_URL": "mysql://x",
        "PEPPER": "short",
        "PORT": "70000",
        "TRUSTED_PROXIES": "nonsense",
        "SEALING_KEYS": "k:AAAA",
        "LOG_LEVEL": "LOUD",
        "WEBHOOK_ALLOW_LOOPBACK": "maybe",
        "DEADLINE_LOOKUP": "0",
    }
    del wrong["REDIS_URL"]
    with pytest.raises(SettingsError) as caught:
        from_environment(wrong)
    named = " ".join(caught.value.problems)
    for name in (*(set(wrong) - set(GOOD)), "DATABASE_URL", "PEPPER", "SEALING_KEYS", "REDIS_URL"):
        assert name in named, name
    assert "short" not in named


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - compared, not bound
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_told_apart(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRIPE_TEST_SECRET_KEY", "sk_live_1"),
        ("STRIPE_TEST_SECRET_KEY", "pk_test_1"),
        ("STRIPE_LIVE_SECRET_KEY", "sk_test_1"),
        ("STRIPE_LIVE_SECRET_KEY", "whsec_1"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://pay.example/app"),
        ("PUBLIC_URL", "https://pay.example?x=1"),
        ("PUBLIC_URL", "https://me@pay.example"),
        ("PUBLIC_URL", "https://pay.example:99999"),
        ("PUBLIC_URL", "https://pay.example:0"),
        ("LEASE_SECONDS", "abc"),
        ("LEASE_SECONDS", "nan"),
    ],
)
def test_what_would_fail_later_is_named_at_the_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({**GOOD, name: value, "PEPPER": "short"})
    told = {problem.split()[0]: problem for problem in caught.value.problems}
    assert set(told) == {name, "PEPPER"}
    assert " must be a" in told[name]


def test_beyond_loopback_sessions_need_https() -> None:
    plain = {**GOOD, "PUBLIC_URL": "http://pay.example"}
    assert not from_environment(plain).https
    with pytest.raises(SettingsError, match="PUBLIC_URL must be https"):
        from_environment(plain | {"BIND_HOST": "10.0.0.1"})


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, True),
        ({"BIND_HOST": "10.0.0.1"}, False),
        ({"BIND_HOST": "10.0.0.1", "DOCS_PUBLIC": "true"}, True),
        ({"DOCS_PUBLIC": "false"}, False),
    ],
)
def test_the_reference_is_public_only_where_somebody_said_so(
    changes: dict[str, str], served: bool
) -> None:
    assert from_environment(GOOD | changes).docs_served is served
