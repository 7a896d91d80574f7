"""The demo's credentials are kept for their user alone and shown so that a phone reads them."""

from pathlib import Path

import pytest

from app.cli import demo

STORY = {
    "merchant_id": "mer_1",
    "api_key": "cf_test_1",
    "users": [
        {
            "email": "owner@demo-shop.example",
            "password": "four random words",
            "totp_secret": "JBSWY3DPEHPK3PXP",
            "role": "owner",
        }
    ],
}


def test_the_file_is_for_its_user_alone_and_complete_or_not_there(tmp_path: Path) -> None:
    assert demo.read(tmp_path) is None
    aside = demo.write_aside(tmp_path, STORY)
    assert demo.read(tmp_path) is None
    aside.replace(demo.path(tmp_path))
    assert demo.read(tmp_path) == STORY
    assert demo.path(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_no_reason_to_fail(tmp_path: Path) -> None:
    demo.path(tmp_path).write_text("{")
    assert demo.read(tmp_path) is None


def test_everything_that_signing_in_needs_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    demo.show(STORY)
    said = capsys.readouterr().out
    for word in ("mer_1", "cf_test_1", "owner@demo-shop.example", "four random words"):
        assert word in said
    assert "JBSWY3DPEHPK3PXP" in said
    assert "▄" in said  # The QR code.


def test_without_a_demo_shop_the_first_admin_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    demo.show(None)
    assert "counterfoil create-user" in capsys.readouterr().out
