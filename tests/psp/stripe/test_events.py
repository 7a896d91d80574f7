"""Nothing but a true event of this minute is read, and nothing else than EventRefused is raised."""

import hashlib
import hmac
import json
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from app.psp.port import EventRefused
from app.psp.stripe.events import verify_event
from tests.psp.stripe.wire import EPOCH, NOW, OURS, intent, refund, session
from tests.support.mutations import altered

SECRET, NEXT_SECRET = "whsec_present", "whsec_next"


def event(subject: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": EPOCH,
        "livemode": False,
        "type": "payment_intent.succeeded",
        "data": {"object": intent() if subject is None else subject},
        "request": {"id": "req_1", "idempotency_key": None},
    } | changes


BODY = json.dumps(event()).encode()


def signed(body: bytes, *, at: int = EPOCH, secret: str = SECRET) -> str:
    # The library signs text only.
    if not body.isascii():
        message = f"{at}.".encode() + body
        return f"t={at},v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"
    made: str = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at)
    return made


def verify(body: bytes, header: str, *, now: datetime = NOW) -> Any:
    return verify_event(body, {"Stripe-Signature": header}, now, (SECRET, NEXT_SECRET))


def test_a_true_event_is_read() -> None:
    found = verify(BODY, signed(BODY))
    assert (found.id, found.type, found.about) == ("evt_1", "payment_intent.succeeded", "intent")
    assert (found.psp_reference, found.attempt_id) == ("pi_1", "att_1")
    assert (found.installation, found.created_at, found.livemode) == ("inst_1", NOW, False)


def test_header_names_have_no_case_and_other_schemes_are_passed_over() -> None:
    header = f"{signed(BODY)},v0=ffff,v1={'0' * 64}"
    for name in ("stripe-signature", "STRIPE-SIGNATURE"):
        assert verify_event(BODY, {name: header}, NOW, (SECRET,)).id == "evt_1"


def test_both_secrets_of_a_rotation_are_valid_and_a_third_is_not() -> None:
    """F32."""
    assert verify(BODY, signed(BODY, secret=NEXT_SECRET)).id == "evt_1"
    two = signed(BODY, secret="whsec_gone") + "," + signed(BODY).split(",")[1]
    assert verify(BODY, two).id == "evt_1"
    with pytest.raises(EventRefused):
        verify(BODY, signed(BODY, secret="whsec_gone"))
    with pytest.raises(EventRefused):
        verify_event(BODY, {"Stripe-Signature": signed(BODY, secret="")}, NOW, ())


@pytest.mark.parametrize(("seconds", "good"), [(300, True), (301, False), (31_536_000, False)])
def test_moments_more_than_300_seconds_away_are_refused_both_ways(seconds: int, good: bool) -> None:
    """F30, F60."""
    for now in (NOW + timedelta(seconds=seconds), NOW - timedelta(seconds=seconds)):
        if good:
            assert verify(BODY, signed(BODY), now=now).id == "evt_1"
        else:
            with pytest.raises(EventRefused):
                verify(BODY, signed(BODY), now=now)


def test_the_library_agrees_on_what_is_true() -> None:
    stamp = int(time.time())
    header = signed(BODY, at=stamp)
    assert stripe.Webhook.construct_event(BODY, header, SECRET).id == "evt_1"
    assert verify(BODY, header, now=datetime.fromtimestamp(stamp, UTC)).id == "evt_1"


CHARGE = {"object": "charge", "id": "ch_1", "payment_intent": "pi_1", "metadata": OURS}
BARE: dict[str, Any] = {"object": "charge", "id": "ch_1", "payment_intent": None, "metadata": {}}
SUBJECTS = [
    (session(), ("checkout", "cs_1", "att_1", None)),
    (intent(), ("intent", "pi_1", "att_1", None)),
    (CHARGE, ("intent", "pi_1", "att_1", None)),
    (BARE, ("other", "ch_1", None, None)),
    (refund(), ("refund", "re_1", "att_1", "pi_1")),
    (refund(metadata=None), ("refund", "re_1", None, "pi_1")),
    (refund(payment_intent={"id": "pi_2"}), ("refund", "re_1", "att_1", "pi_2")),
    ({"object": "balance", "available": []}, ("other", None, None, None)),
    ({"object": ["odd"], "id": 5, "metadata": "x"}, ("other", None, None, None)),
    (intent(id="pi\x00", metadata={"attempt_id": "a b"}), ("other", None, None, None)),
]


@pytest.mark.parametrize(("subject", "expected"), SUBJECTS)
def test_an_event_says_what_it_is_about(subject: Any, expected: tuple[Any, ...]) -> None:
    body = json.dumps(event(subject)).encode()
    found = verify(body, signed(body))
    told = (found.about, found.psp_reference, found.attempt_id, found.charge_reference)
    assert told == expected


ODD_PARTS: list[dict[str, Any]] = [
    *({"id": None}, {"id": 5}, {"id": ""}, {"id": "e" * 300}, {"id": "evt\x00"}),
    *({"type": "a\nb"}, {"type": []}, {"object": "charge"}, {"object": 1}),
    *({"created": -1}, {"created": 10**15}, {"created": "1"}, {"created": True}),
    *({"created": 1.5}, {"livemode": "false"}, {"livemode": 0}, {"livemode": None}),
    *({"data": None}, {"data": []}, {"data": {}}, {"data": {"object": []}}),
]
SIGNED_NONSENSE = [
    *(b"", b"null", b"5", b"[]", b'"text"', b"{}", b"{", b"\xff", b"\xef\xbb\xbf{}", b"\x00"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"1e999", b"[" * 5000 + b"]" * 5000),
    b'{"ignored": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    BODY.replace(b"req_1", b"req\xff"),
    BODY + b"x",
    json.dumps({**event(), "object": "v2.core.event"}).encode(),
    json.dumps({k: v for k, v in event().items() if k != "object"}).encode(),
    *(json.dumps(event() | change).encode() for change in ODD_PARTS),
]


@pytest.mark.parametrize("body", SIGNED_NONSENSE, ids=range(len(SIGNED_NONSENSE)))
def test_a_signature_does_not_make_nonsense_an_event(body: bytes) -> None:
    with pytest.raises(EventRefused):
        verify(body, signed(body))


TRUE_STAMP, TRUE_SIGNATURE = signed(BODY).split(",")
HEADERS = [
    *("", ",", "=", "t", "t=", "v1=", "t=,v1=", "t==,v1==", TRUE_STAMP, TRUE_SIGNATURE),
    f"t=٣,{TRUE_SIGNATURE}",
    f"t=1e9,{TRUE_SIGNATURE}",
    f"t=-{EPOCH},{TRUE_SIGNATURE}",
    f"t=+{EPOCH},{TRUE_SIGNATURE}",
    f"t= {EPOCH},{TRUE_SIGNATURE}",
    f"t={'9' * 400},{TRUE_SIGNATURE}",
    f"t={EPOCH}.0,{TRUE_SIGNATURE}",
    f"{TRUE_STAMP},t={EPOCH + 1},{TRUE_SIGNATURE}",
    f"{TRUE_STAMP},v1=é{TRUE_SIGNATURE[4:]}",
    f"{TRUE_STAMP},v1=" + "f" * 63 + "\U0001d7d9",
    f"{TRUE_STAMP},v0={TRUE_SIGNATURE[3:]}",
    f"{TRUE_STAMP},{TRUE_SIGNATURE.upper()}",
    f"{TRUE_STAMP},{TRUE_SIGNATURE}\n",
    f"{TRUE_STAMP}," + ",".join([f"v1={'0' * 64}"] * 20 + [TRUE_SIGNATURE]),
    f"{TRUE_STAMP},{TRUE_SIGNATURE}," + "x" * 5000,
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_an_odd_header_is_refused(header: str) -> None:
    with pytest.raises(EventRefused):
        verify(BODY, header)


def test_a_missing_header_is_refused() -> None:
    with pytest.raises(EventRefused):
        verify_event(BODY, {}, NOW, (SECRET,))


def test_no_mutated_request_is_accepted_and_none_fails_otherwise(
    pytestconfig: pytest.Config,
) -> None:
    """F30: more of them with `--mutations 1000000`."""
    wanted = int(pytestconfig.getoption("--mutations") or 20_000)
    chance = random.Random(20_261_122)
    headers = [signed(BODY), *HEADERS]
    tried = 0
    while tried < wanted:
        body, header = BODY, chance.choice(headers) if chance.random() < 0.3 else headers[0]
        where = chance.randrange(3)
        if where != 0:
            body = altered(chance, body)
        if where != 1:
            header = altered(chance, header.encode("utf-8", "replace")).decode("latin-1")
        # Added parts of a header change nothing about what was signed: that is no forgery.
        if body == BODY and {TRUE_STAMP, TRUE_SIGNATURE} <= set(header.split(",")):
            continue
        tried += 1
        with pytest.raises(EventRefused):
            verify(body, header)
