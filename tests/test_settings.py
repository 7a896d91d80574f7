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
