"""Settings: one frozen struct, read from the environment once; it names all wrong ones at once."""

import base64
import binascii
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from app import failpoints


class SettingsError(Exception):
    """One or more settings are wrong; `problems` names each with what it should be."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Deadlines(msgspec.Struct, frozen=True):
    """Seconds after which a call to another system is given up (its outcome is then unknown)."""

    connect: float = 2.0
    create: float = 10.0
    confirm: float = 20.0
    capture: float = 20.0
    refund: float = 20.0
    void: float = 10.0
    lookup: float = 5.0
    mail: float = 10.0
    webhook: float = 15.0
    risk: float = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the environment decides; a variable is a field name in capitals."""

    database_url: str
    redis_url: str
    data_dir: str
    public_url: str
    sealing_keys: dict[str, bytes]
    sealing_key_id: str
    pepper: bytes
    bind_host: str = "127.0.0.1"
    port: int = 8000
    trusted_proxies: tuple[str, ...] = ()
    sandbox_url: str | None = None
    sandbox_secret_key: str | None = None
    sandbox_webhook_secret: str | None = None
    stripe_test_secret_key: str | None = None
    stripe_test_webhook_secret: str | None = None
    stripe_live_secret_key: str | None = None
    stripe_live_webhook_secret: str | None = None
    risk_url: str | None = None
    risk_token: str | None = None
    mail_url: str | None = None
    mail_from: str = "Counterfoil <no-reply@localhost>"
    webhook_allow_loopback: bool = False
    docs_public: bool | None = None  # None: on a loopback address alone.
    metrics_public: bool = False
    metrics_token: str | None = None
    log_level: str = "INFO"
    lease_seconds: float = 15.0
    grace_seconds: float = 30.0
    max_crashes: int = 3
    rate_limit_per_second: float = 100.0
    rate_limit_burst: int = 200
    retention_days: int = 90
    pool_size: int = 10
    requests_at_once: int = 100
    psp_rate_per_second: float = 100.0
    psp_calls_at_once: int = 32
    second_person_above: int = 100_000
    second_person_count: int = 50
    argon2_memory_kib: int = 19_456  # No variable sets it: tests alone go below.
    failpoint: str | None = None
    deadlines: Deadlines = Deadlines()

    @property
    def sqlite(self) -> bool:
        """Whether the embedded database is used."""
        return self.database_url.startswith("sqlite")

    @property
    def https(self) -> bool:
        """Whether customers and merchants reach us by https (decides HSTS and link schemes)."""
        return self.public_url.startswith("https://")

    @property
    def docs_served(self) -> bool:
        """Whether the reference and its document are served."""
        return self.loopback if self.docs_public is None else self.docs_public

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect; demo users and made-up keys need it."""
        return is_loopback(self.bind_host)


def is_loopback(host: str) -> bool:
    """Tell whether a bind address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _text(value: str) -> str:
    return value


def _url(*schemes: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes:
            raise ValueError(f"must be an address that starts with {' or '.join(schemes)}://")
        return value.rstrip("/")

    return read


def _public_url(value: str) -> str:
    """Read what links, the checks of Host and Origin, and the names of cookies are made from."""
    address = _url("http", "https")(value)
    parts = urlsplit(address)
    try:
        plain = parts.hostname and parts.port != 0
    except ValueError:
        plain = False
    if not plain or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be a scheme, a host and perhaps a port: https://pay.example.com")
    return address


def _key_of(mode: str) -> Callable[[str], str]:
    """Read a Stripe key of one mode: a live key in test mode would move real money."""

    def read(value: str) -> str:
        if not value.startswith((f"sk_{mode}_", f"rk_{mode}_")):
            raise ValueError(f"must be a {mode} key (sk_{mode}_… or rk_{mode}_…)")
        return value

    return read


def _flag(value: str) -> bool:
    if value.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ValueError("must be true or false")
    return value.lower() in {"1", "true", "yes", "on"}


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"must be a number between {low:g} and {high:g}")
        return number

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number between {low} and {high}")
        return int(value)

    return read


def _networks(value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    for name in names:
        ipaddress.ip_network(name, strict=False)
    return names


def _secret_bytes(value: str) -> bytes:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64") from error
    if len(raw) < 32:
        raise ValueError("must be base64 of at least 32 random bytes")
    return raw


def _sealing_keys(value: str) -> dict[str, bytes]:
    keys = {}
    for part in value.split(","):
        name, _, body = part.strip().partition(":")
        if not name.isalnum() or not body:
            raise ValueError("must be name:base64[,name:base64…], the first seals new values")
        raw = _secret_bytes(body)
        if len(raw) != 32:
            raise ValueError("each key must be base64 of exactly 32 random bytes")
        keys[name] = raw
    return keys


def _level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


def _failpoint(value: str) -> str:
    failpoints.parse(value)
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    "database_url": _url("sqlite+aiosqlite", "postgresql+asyncpg"),
    "redis_url": _url("redis", "rediss", "unix"),
    "data_dir": _text,
    "public_url": _public_url,
    "sealing_keys": _sealing_keys,
    "pepper": _secret_bytes,
    "bind_host": _text,
    "port": _whole(1, 65535),
    "trusted_proxies": _networks,
    "sandbox_url": _url("http", "https"),
    "sandbox_secret_key": _text,
    "sandbox_webhook_secret": _text,
    "stripe_test_secret_key": _key_of("test"),
    "stripe_test_webhook_secret": _text,
    "stripe_live_secret_key": _key_of("live"),
    "stripe_live_webhook_secret": _text,
    "risk_url": _url("http", "https"),
    "risk_token": _text,
    "mail_url": _url("smtp", "smtps"),
    "mail_from": _text,
    "webhook_allow_loopback": _flag,
    "docs_public": _flag,
    "metrics_public": _flag,
    "metrics_token": _text,
    "log_level": _level,
    "lease_seconds": _number(1, 300),
    "grace_seconds": _number(0, 300),
    "max_crashes": _whole(1, 1000),
    "rate_limit_per_second": _number(0.1, 100_000),
    "rate_limit_burst": _whole(1, 1_000_000),
    "retention_days": _whole(1, 3650),
    "pool_size": _whole(1, 200),
    "requests_at_once": _whole(1, 10_000),
    "psp_rate_per_second": _number(0.1, 100_000),
    "psp_calls_at_once": _whole(2, 1000),
    "second_person_above": _whole(0, 10**12),
    "second_person_count": _whole(1, 1_000_000),
    "failpoint": _failpoint,
}
_REQUIRED = ("database_url", "redis_url", "data_dir", "public_url", "sealing_keys", "pepper")


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Read the settings. Raises SettingsError that names every wrong or missing one."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, read in _READERS.items():
        raw = environ.get(name.upper())
        if raw is None or raw == "":
            if name in _REQUIRED:
                problems.append(f"{name.upper()} is missing")
            continue
        try:
            values[name] = read(raw)
        except ValueError as error:
            problems.append(f"{name.upper()} {error}")
    deadlines: dict[str, float] = {}
    for name in Deadlines.__struct_fields__:
        raw = environ.get(f"DEADLINE_{name.upper()}")
        if raw:
            try:
                deadlines[name] = _number(0.05, 120)(raw)
            except ValueError as error:
                problems.append(f"DEADLINE_{name.upper()} {error}")
    if not is_loopback(values.get("bind_host", "127.0.0.1")):
        if values.get("failpoint"):
            problems.append("FAILPOINT needs a loopback BIND_HOST")
        if values.get("public_url", "").startswith("http://"):
            problems.append("PUBLIC_URL must be https, unless BIND_HOST is a loopback address")
    if problems:
        raise SettingsError(problems)
    keys: dict[str, bytes] = values["sealing_keys"]
    return Settings(**values, sealing_key_id=next(iter(keys)), deadlines=Deadlines(**deadlines))
