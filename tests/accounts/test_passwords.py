"""Passwords: hashed as the floor asks, whole, and refused when anybody could guess them."""

import secrets
import string
import time
from pathlib import Path

import pytest

from app.accounts.passwords import FLOOR_MEMORY_KIB, Hasher, PasswordRefused, check_new
from app.secrets import Sealer
from app.settings import Settings, from_environment
from tests.support.runtime import KEY

SALT = bytes(range(16))
CONTEXT = ["alice.archer@example.com", "Alice's Alpine Shop"]


def sealer(pepper: bytes = KEY) -> Sealer:
    return Sealer({"k1": KEY}, "k1", pepper, secrets.token_bytes)


@pytest.fixture
def quick() -> Hasher:
    return Hasher(sealer(), 64)


def test_the_parameters_hold_the_floor() -> None:
    stored = Hasher(sealer()).hash("plum velvet orbit canyon", SALT)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert FLOOR_MEMORY_KIB >= 19 * 1024


def test_no_variable_lowers_the_floor(tmp_path: Path) -> None:
    key = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
    settings = from_environment(
        {
            "DATABASE_URL": "sqlite+aiosqlite:///x.db",
            "REDIS_URL": "redis://127.0.0.1",
            "DATA_DIR": str(tmp_path),
            "PUBLIC_URL": "https://pay.example.com",
            "SEALING_KEYS": f"k1:{key}",
            "PEPPER": key,
            "ARGON2_MEMORY_KIB": "8",
        }
    )
    assert settings.argon2_memory_kib == FLOOR_MEMORY_KIB
    assert Settings.__struct_defaults__


def test_the_whole_password_counts(quick: Hasher) -> None:
    twins = "x" * 72 + "a", "x" * 72 + "b"
    stored = quick.hash(twins[0], SALT)
    assert quick.verify(stored, twins[0])
    assert not quick.verify(stored, twins[1])
    assert quick.verify(quick.hash("y" * 128, SALT), "y" * 128)
    assert not quick.verify(quick.hash("y" * 128, SALT), "y" * 127)


def test_composed_and_decomposed_letters_are_one_password(quick: Hasher) -> None:
    stored = quick.hash("Zu\u0308rich caf\u00e9 crayon", SALT)
    assert quick.verify(stored, "Z\u00fcrich cafe\u0301 crayon")


def test_a_stolen_hash_is_useless_without_the_pepper(quick: Hasher) -> None:
    stored = quick.hash("plum velvet orbit canyon", SALT)
    assert not Hasher(sealer(bytes(32)), 64).verify(stored, "plum velvet orbit canyon")


def test_nobodys_password_is_wrong_and_so_is_a_broken_hash(quick: Hasher) -> None:
    assert not quick.verify(None, "plum velvet orbit canyon")
    assert not quick.verify("$argon2id$broken", "plum velvet orbit canyon")


@pytest.mark.parametrize("text", ["a\x00b", "\ud800 lone surrogate"])
def test_odd_input_is_just_wrong(quick: Hasher, text: str) -> None:
    assert not quick.verify(quick.hash("plum velvet orbit canyon", SALT), text)


def test_weaker_hashes_are_outdated() -> None:
    weak = Hasher(sealer(), 64).hash("plum velvet orbit canyon", SALT)
    today = Hasher(sealer())
    assert today.is_outdated(weak)
    assert not Hasher(sealer(), 64).is_outdated(weak)


@pytest.mark.parametrize(
    "password",
    [
        "plum velvet orbit canyon",
        "lantern quarry mosaic fjord",
        "seven brittle umbrellas sang",
        "Tr7!kq9#Lm2$Wz5&",
        "Übergrößenträger fährt Ski",
        "山が高くて川が長い町に住んでいます",
        "a" * 50 + "plum velvet orbit canyon",
    ],
)
def test_long_and_uncommon_ones_pass(password: str) -> None:
    check_new(password, context=CONTEXT)


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("Tr7!kq9#Lm2$W", "at least 15"),
        ("x" * 129, "at most 128"),
        ("passwordpassword", "lists of stolen"),
        ("qwertyuiop123456", "lists of stolen"),
        ("aaaaaaaaaaaaaaaaaaaa", "easy to guess"),
        ("abcdefghijklmnop", "easy to guess"),
        ("1234567890123456", "easy to guess"),
        ("Counterfoil 2026!!", "Leave out"),
        ("alice.archer@example.com", "Leave out"),
        ("AliceArcherAlpine", "Leave out"),
        ("alpinealpinealpineshop", "Leave out"),
        ("19900101199001011990", "easy to guess"),
        ("password" * 16, "easy to guess"),
    ],
)
def test_guessable_ones_are_refused_with_a_reason(password: str, sentence: str) -> None:
    with pytest.raises(PasswordRefused) as caught:
        check_new(password, context=CONTEXT)
    assert sentence in caught.value.detail
    assert caught.value.param == "password"
    assert password not in caught.value.detail


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(PasswordRefused) as caught:
        check_new("counterfoil", context=[])
    assert len(caught.value.errors) == 2


def test_no_password_takes_a_core_for_long() -> None:
    text = (string.ascii_letters + string.digits + string.punctuation) * 2
    started = time.perf_counter()
    for password in (text[:128], "a1" * 64, "password" * 16, "@4$5" * 32, "4@5$i1!0" * 16):
        try:
            check_new(password, context=CONTEXT)
        except PasswordRefused:
            continue
    assert time.perf_counter() - started < 10
