"""What is logged: known fields, one line each, and no secret in any of them (S41)."""

import io
import json
import logging
from typing import Any

import pytest
import structlog

from app import logging as logs

CARD = "4242 4242 4242 4242"
KEY = "cf_test_" + "7" * 52


@pytest.mark.parametrize(
    ("text", "canary"),
    [
        (f"paid with {CARD}", "4242"),
        ("paid with 4242424242424242!", "4242"),
        ("pan=5555-5555-5555-4444", "5555"),
        (f"Authorization: Bearer {KEY}", "7777"),
        ("authorization=Bearer abcdefghijkl", "abcdefghijkl"),
        ('{"cookie": "session=abcdef; other=ghijkl"}', "ghijkl"),
        ("Cookie: a=abcdef; b=ghijkl", "ghijkl"),
        ("stripe-signature: t=1,v1=" + "ab" * 32, "abab"),
        ("t=1,v1=" + "ab" * 32, "abab"),
        ("webhook signed v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", "K5oZ"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ"),
        ("key sk_live_abcdef123 refused", "abcdef"),
        ("bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("password=correct-horse", "correct"),
        ("GET /link/reset/0123456789abcdefghjk", "0123456789"),
        ("GET /checkout/pay_0123456789.0a1b2c3d4e5f/return", "0a1b2c3d4e5f"),
        ("Invalid email: some.one+x@shop.example.", "some.one"),
        ("otpauth://totp/x?secret=ABCDEF", "ABCDEF"),
        ("connect redis://:hunter2@localhost/0", "hunter2"),
        ("postgresql://someone:hunter2@localhost/db", "hunter2"),
        ("hash $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "aGFzaA"),
        ("v1.k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AAAA"),
    ],
)
def test_secrets_and_card_numbers_are_blotted_out(text: str, canary: str) -> None:
    assert canary not in logs.redact(text)
    assert logs.HIDDEN in logs.redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "pay_01jd0000000000000000000000000000000",
        "order 4242424242424243",
        "1700000000000",
        "took 12 ms, tried 3 of 8",
        "GET /v1/payments/pay_1?limit=20",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert logs.redact(text) == text


def written(write: Any, level_name: str = "INFO") -> list[dict[str, Any]]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        logs.configure(level_name, stream)
        write()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.reset_defaults()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_forged_line_stays_one_line() -> None:
    forged = 'done\n{"event": "admin signed in"}\r\u2028\x1b[31m'
    (line,) = written(lambda: structlog.get_logger("app.test").info("note", reason=forged))
    assert line["event"] == "note"
    assert "\x1b" not in line["reason"]
    assert "\u2028" not in line["reason"]


def test_a_line_holds_known_fields_and_tells_which_it_dropped() -> None:
    def write() -> None:
        structlog.get_logger("app.test").warning(
            "psp_slow", ms=12, payment_id="pay_1", customer_email="someone@example.com"
        )

    (line,) = written(write)
    assert (line["event"], line["level"], line["ms"]) == ("psp_slow", "warning", 12)
    assert line["dropped"] == ["customer_email"]
    assert "someone@example.com" not in json.dumps(line)


def test_libraries_pass_the_same_sieve() -> None:
    def write() -> None:
        logging.getLogger("library").error("failed for %s", KEY, extra={"password": "hunter2"})
        logging.getLogger("library").error('{"event": "forged", "card": "%s"}\n{}', CARD)
        logging.getLogger("library").debug("not at this level")

    first, second = written(write)
    assert KEY not in json.dumps(first)
    assert first["logger"] == "library"
    assert second["event"].startswith('{"event": "forged"')
    assert "4242" not in json.dumps(second)


def test_an_exceptions_text_is_redacted_too() -> None:
    def write() -> None:
        try:
            raise ValueError(f"no such key {KEY}")
        except ValueError:
            structlog.get_logger("app.test").exception("failed")

    (line,) = written(write)
    assert "ValueError" in line["exception"]
    assert KEY not in line["exception"]


def test_nested_values_are_cleaned_by_their_names_and_their_text() -> None:
    def write() -> None:
        state = {"api_key": "anything", "deep": [{"note": CARD}], "card": 4242424242424242}
        structlog.get_logger("app.test").info("state", state=state)

    (line,) = written(write)
    assert line["state"]["api_key"] == logs.HIDDEN
    assert "4242" not in json.dumps(line)


def test_libraries_say_nothing_below_info_whatever_the_level() -> None:
    """The database's driver would write every value of every row at DEBUG."""

    def write() -> None:
        logging.getLogger("aiosqlite").debug("INSERT INTO users VALUES %s", ("a value",))
        logging.getLogger("app.test").debug("ours")

    (line,) = written(write, "DEBUG")
    assert line["event"] == "ours"
