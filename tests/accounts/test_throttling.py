"""How fast an attacker may guess, computed with the counters that the application uses (S06)."""

from datetime import UTC, datetime, timedelta

import pytest

from app.accounts import throttling
from app.accounts.models import User
from app.accounts.operations import clear_failures, reserve_try
from app.accounts.throttling import CODE_HARD_STOP, LOCK, LOCK_AT, address_scope, wait_after

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def fresh() -> User:
    return User(id="usr_1", email="a@example.com", password_failures=0)


def test_four_failures_are_free_then_the_waits_double() -> None:
    waits = [wait_after(failures).total_seconds() for failures in range(11)]
    assert waits == [0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 64]


def test_ten_failures_lock_for_half_an_hour() -> None:
    user, now = fresh(), NOW
    for _ in range(LOCK_AT):
        now += timedelta(minutes=2)
        assert reserve_try(user, now=now)
    assert user.locked_until == now + LOCK
    assert not reserve_try(user, now=now + LOCK - timedelta(seconds=1))
    assert reserve_try(user, now=now + LOCK)
    assert user.locked_until == now + LOCK + LOCK


def test_a_right_password_takes_everything_back() -> None:
    user = fresh()
    for _ in range(5):
        reserve_try(user, now=NOW)
    assert not reserve_try(user, now=NOW)
    clear_failures(user)
    assert reserve_try(user, now=NOW)


def test_a_patient_attacker_gets_few_passwords_a_day() -> None:
    user, now, tries = fresh(), NOW, 0
    while now < NOW + timedelta(days=1):
        tries += reserve_try(user, now=now)
        now += timedelta(seconds=1)
    assert tries <= 10 + 48


def test_guessing_codes_succeeds_rarely_over_the_life_of_a_seed() -> None:
    codes_that_count = 2 * 1 + 1  # The present step and one at each side.
    missed = (1 - codes_that_count / 10**6) ** CODE_HARD_STOP
    assert 1 - missed <= 3e-4


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("192.0.2.7", "address:192.0.2.7"),
        ("::ffff:192.0.2.7", "address:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "address:2001:db8:1:2::/64"),
        (None, "address:unknown"),
        ("unix", "address:unknown"),
    ],
)
def test_a_network_that_one_subscriber_holds_counts_as_one(address: str | None, scope: str) -> None:
    assert address_scope(address) == scope


def test_windows_are_stated() -> None:
    assert throttling.CODES.limit * 60 // throttling.CODES.seconds <= 5
