"""Codes: RFC 6238, one step of slack, ASCII digits; recovery codes that people can type."""

import base64
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from app.accounts import totp
from app.ids import Ids

NOW = datetime(2026, 11, 22, 12, 0, 10, tzinfo=UTC)
SEED = base64.b32encode(b"12345678901234567890").decode()
IDS = Ids(lambda: NOW, secrets.token_bytes)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert totp.code_at(SEED, moment) == code
    assert totp.matching_step(SEED, code, moment) == seconds // 30


@pytest.mark.parametrize(
    ("steps", "counts"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_one_step_of_slack_counts_and_two_do_not(steps: int, counts: bool) -> None:
    """F60."""
    code = totp.code_at(SEED, NOW + timedelta(seconds=30 * steps))
    assert (totp.matching_step(SEED, code, NOW) is not None) == counts


@pytest.mark.parametrize("change", ["full-width", "mathematical", "arabic", "newline", "short"])
def test_only_six_ascii_digits_are_a_code(change: str) -> None:
    code = totp.code_at(SEED, NOW)
    bases = {"full-width": 0xFF10, "mathematical": 0x1D7CE, "arabic": 0x660}
    if change in bases:
        code = "".join(chr(bases[change] + int(digit)) for digit in code)
    else:
        code = code + "\n" if change == "newline" else code[:5]
    assert totp.matching_step(SEED, code, NOW) is None


def test_a_seed_has_160_random_bits() -> None:
    one, other = totp.new_secret(IDS), totp.new_secret(IDS)
    assert one != other
    assert len(base64.b32decode(one)) == 20


def test_the_qr_address_names_the_account_and_the_issuer() -> None:
    address = totp.address(SEED, email="alice+shop@example.com")
    assert address == (
        f"otpauth://totp/Counterfoil%3Aalice%2Bshop%40example.com?secret={SEED}&issuer=Counterfoil"
    )


def test_recovery_codes_are_ten_of_120_bits() -> None:
    codes = totp.new_recovery_codes(IDS)
    assert len(set(codes)) == totp.RECOVERY_CODES == 10
    assert all(len(code.replace("-", "")) * 5 >= 112 for code in codes)


def test_a_recovery_code_may_be_typed_as_people_do() -> None:
    code = "0a1b-cdef-gh2j-kmnp-qrst-vw01"
    for typed in (code.upper(), code.replace("-", " "), f" {code} ", code.replace("0", "O")):
        assert totp.recovery_hash(typed) == totp.recovery_hash(code)
    assert totp.recovery_hash(code.replace("1", "l")) == totp.recovery_hash(code)
    assert totp.recovery_hash(code[:-1] + "2") != totp.recovery_hash(code)
