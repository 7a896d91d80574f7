"""Signatures are those of Standard Webhooks, proved by its vector and its own library."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from app.webhooks import signing

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_published_vector() -> None:
    made = signing.headers(
        [KEY],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("size", [24, 32, 64])
@pytest.mark.parametrize("body", ["{}", '{"name":"Käse ☕"}', "x" * 100_000])
def test_the_reference_library_verifies_what_we_sign(size: int, body: str) -> None:
    secret = signing.new_secret(bytes(range(size)))
    now = datetime.now(UTC)
    made = signing.headers(
        [secret], message_id="evt_1", timestamp=int(now.timestamp()), body=body.encode()
    )
    Webhook(secret).verify(body, made, json_parse=False)
    assert made["webhook-signature"] == Webhook(secret).sign("evt_1", now, body)


def test_each_secret_signs_while_one_is_replaced_by_the_other() -> None:
    old, new = signing.new_secret(b"o" * 32), signing.new_secret(b"n" * 32)
    made = signing.headers(
        [new, old], message_id="evt_1", timestamp=int(datetime.now(UTC).timestamp()), body=b"{}"
    )
    assert len(made["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(b"{}", made)


def test_a_new_secret_holds_all_of_its_random_bytes() -> None:
    secret = signing.new_secret(bytes(range(32)))
    assert base64.b64decode(secret.removeprefix("whsec_"), validate=True) == bytes(range(32))


@pytest.mark.parametrize("secret", ["", "MfKQ9r8GKYqrTwjU", "whsec_***", "whsec_abc"])
def test_a_malformed_secret_never_signs(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        signing.headers([secret], message_id="evt_1", timestamp=1, body=b"")
