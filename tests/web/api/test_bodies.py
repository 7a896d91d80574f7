"""Hostile and wrong bodies: each a clear 4xx that leaves nothing behind (trap 0.15)."""

import gzip
import json
from typing import Any

import pytest
from sqlalchemy import func, select

from app.idempotency import KeyRow
from app.payments.models import Payment
from app.runtime import Runtime
from tests.web.api.shop import Api, problem
from web import deps

PATH = "/v1/payments"
GOOD: dict[str, Any] = {"amount": 1200, "currency": "eur"}
CARD = "4242424242424242"


async def raw(api: Api, content: bytes, media: str = "application/json") -> Any:
    headers = {"Content-Type": media, "Idempotency-Key": "k"}
    return await api.send("POST", PATH, content=content, headers=headers)


HOSTILE = {
    "deep lists": b'{"amount":' + b"[" * 30_000,
    "deep objects": b'{"a":' * 10_000,
    "33 levels": b'{"metadata":' + b"[" * 33 + b"]" * 33 + b"}",
    "not utf-8": b'{"amount":1200,"currency":"eur","description":"\xff\xfe"}',
    "utf-16": '{"amount":1200,"currency":"eur"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"amount":1200,"currency":"eur"}',
    "text as amount": b'{"amount":"1200","currency":"eur"}',
    "true as amount": b'{"amount":true,"currency":"eur"}',
    "half a cent": b'{"amount":1200.5,"currency":"eur"}',
    "2**63": b'{"amount":9223372036854775808,"currency":"eur"}',
    "400 digits": b'{"amount":1' + b"0" * 400 + b',"currency":"eur"}',
    "5000 digits": b'{"amount":1' + b"0" * 5000 + b',"currency":"eur"}',
    "nothing": b'{"amount":0,"currency":"eur"}',
    "less than nothing": b'{"amount":-1,"currency":"eur"}',
    "too much": b'{"amount":1000000000000,"currency":"eur"}',
    "not a number": b'{"amount":NaN,"currency":"eur"}',
    "infinity": b'{"amount":Infinity,"currency":"eur"}',
    "1e999": b'{"amount":1e999,"currency":"eur"}',
    "doubled name": b'{"amount":1200,"amount":1,"currency":"eur"}',
    "doubled name below": b'{"amount":1200,"currency":"eur","metadata":{"a":"1","a":"2"}}',
    "unknown field": b'{"amount":1200,"currency":"eur","merchant_id":"mer_x"}',
    "unknown currency": b'{"amount":1200,"currency":"eux"}',
    "currency and newline": b'{"amount":1200,"currency":"eur\\n"}',
    "NUL": b'{"amount":1200,"currency":"eur","description":"a\\u0000b"}',
    "NUL as a name": b'{"amount":1200,"currency":"eur","metadata":{"a\\u0000":"b"}}',
    "half a pair": b'{"amount":1200,"currency":"eur","description":"\\ud800"}',
    "control character": b'{"amount":1200,"currency":"eur","description":"a\x00b"}',
    "a list": b"[]",
    "text": b'"hello"',
    "null": b"null",
    "two values": b'{"amount":1200,"currency":"eur"}{}',
    "comment": b'{"amount":1200,/* */"currency":"eur"}',
    "cut off": b'{"amount":1200,"currency":',
    "form": b"amount=1200&currency=eur",
    "many fields": json.dumps({f"f{n}": 1 for n in range(300)}).encode(),
    "metadata of 51": json.dumps({**GOOD, "metadata": {f"m{n}": "" for n in range(51)}}).encode(),
    "number in metadata": b'{"amount":1200,"currency":"eur","metadata":{"a":1}}',
    "script address": b'{"amount":1200,"currency":"eur","return_url":"javascript:alert(1)"}',
    "credentials in url": b'{"amount":1200,"currency":"eur","return_url":"https://a:b@c.example/"}',
    "empty": b"",
}


async def test_a_hostile_body_is_refused_and_leaves_nothing(api: Api, rt: Runtime) -> None:
    """F57."""
    for name, body in HOSTILE.items():
        answer = await raw(api, body)
        assert answer.status_code == 400, (name, answer.text)
        problem(answer, 400, "invalid_request")
    async with rt.sessions.read() as session:
        for table in (Payment, KeyRow):
            assert await session.scalar(select(func.count()).select_from(table)) == 0


async def test_a_whole_number_in_another_form_is_refused_by_a_rule(api: Api) -> None:
    for amount in ("1200.0", "12e2", "1.2E3"):
        body = f'{{"amount":{amount},"currency":"eur"}}'.encode()
        refused = problem(await raw(api, body), 422, "integer_form")
        assert refused["param"] == "amount"


async def test_every_bad_field_is_told_at_once(api: Api) -> None:
    body = {
        "amount": 0,
        "currency": "eux",
        "customer": {"email": "no", "phone": "1"},
        "capture_method": "later",
        "metadata": {"good": "x", "bad": 1, "long": "x" * 501},
        "colour": "red",
    }
    refused = problem(await api.post(PATH, body), 400, "invalid_request")
    assert {(one["param"], one["code"]) for one in refused["errors"]} == {
        ("amount", "out_of_range"),
        ("currency", "wrong_format"),
        ("customer.email", "wrong_format"),
        ("customer.phone", "unknown"),
        ("capture_method", "not_allowed"),
        ("metadata.bad", "wrong_type"),
        ("metadata.long", "wrong_length"),
        ("colour", "unknown"),
    }
    assert all(one["detail"] for one in refused["errors"])


NAMED: dict[bytes, str | None] = {
    b'{"description":"a\\u0000b"}': "description",
    b'{"customer":{"name":"\\ud800"}}': "customer.name",
    b'{"metadata":{"a\\u0000":"b"}}': "metadata",
    b'{"metadata":[[0,"\\ud800"]]}': "metadata[0][1]",
    b'{"metadata":' + b"[" * 33 + b"]" * 33 + b"}": ("metadata" + "[0]" * 31)[:100] + "…",
    b'{"amount":1,"amount":2}': "amount",
    b'{"a\\u0000":1}': None,  # A name that cannot be shown; the whole body holds it.
}


async def test_text_that_no_field_may_hold_is_named_by_its_place(api: Api) -> None:
    """F57."""
    for body, param in NAMED.items():
        refused = problem(await raw(api, body), 400, "invalid_request")
        assert refused["param"] == param, body


async def test_a_doubled_name_is_shown_only_if_it_can_be(api: Api) -> None:
    """F57: half of a pair in the answer was a failure of ours."""
    problem(await raw(api, b'{"\\ud800":1,"\\ud800":2}'), 400, "invalid_request")
    answer = await raw(api, f'{{"{CARD}":1,"{CARD}":2}}'.encode())
    problem(answer, 400, "card_data_not_allowed")
    assert CARD not in answer.text


async def test_a_coded_body_has_its_own_status(api: Api) -> None:
    """F57: it is not unpacked, so it cannot unpack into too much."""
    for body in (gzip.compress(json.dumps(GOOD).encode()), json.dumps(GOOD).encode()):
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        answer = await api.send("POST", PATH, content=body, headers=headers)
        problem(answer, 415, "unsupported_media_type")


async def test_missing_fields_are_named_even_without_a_body(api: Api) -> None:
    refused = problem(await api.post(PATH), 400, "invalid_request")
    assert [one["param"] for one in refused["errors"]] == ["amount", "currency"]
    assert {one["code"] for one in refused["errors"]} == {"missing"}


async def test_other_media_and_large_bodies_have_their_own_status(api: Api) -> None:
    text = json.dumps(GOOD).encode()
    problem(await raw(api, text, "text/plain"), 415, "unsupported_media_type")
    problem(await raw(api, text, "application/xml"), 415, "unsupported_media_type")
    large = json.dumps({**GOOD, "description": "x" * 70_000}).encode()
    problem(await raw(api, large), 413, "request_too_large")


async def test_a_body_that_never_ends_is_cut_off(api: Api) -> None:
    """F55, F57."""
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 10_000_000:
            sent += 8192
            yield b" " * 8192

    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    answer = await api.send("POST", PATH, content=endless(), headers=headers)
    problem(answer, 413, "request_too_large")


WITH_CARDS: list[dict[str, Any]] = [
    {"description": f"card {CARD}"},
    {"description": "4242 4242 4242 4242"},
    {"payment_method": CARD},
    {"metadata": {"card": "4000-0000-0000-0002"}},
    {"metadata": {CARD: "x"}},
    {"customer": {"name": "3782 822463 10005"}},
    {"reference": "5555555555554444"},
    {"number": int(CARD)},
    {"expires_in": int(CARD)},
]


async def test_a_card_number_is_refused_and_not_repeated(api: Api) -> None:
    for change in WITH_CARDS:
        answer = await api.post(PATH, {**GOOD, **change})
        refused = problem(answer, 400, "card_data_not_allowed")
        assert refused["param"].split(".")[0] == next(iter(change))
        assert CARD not in answer.text


async def test_a_card_number_is_refused_elsewhere_too(api: Api) -> None:
    refused = problem(await api.post(PATH, GOOD, key=CARD), 400, "card_data_not_allowed")
    assert refused["param"] == "Idempotency-Key"
    answer = await api.get(f"{PATH}?reference={CARD}")
    assert problem(answer, 400, "card_data_not_allowed")["param"] == "reference"


@pytest.mark.parametrize(
    "text",
    [
        "20261122000000000000",
        "4242424242424241",
        "00004242-4242-4242-4242-424242424242",
        "c3d4242424242424242a0",
        "order 1234567890123",
    ],
)
def test_other_long_numbers_are_no_cards(text: str) -> None:
    assert not deps.has_card_number(text)


WRONG_QUERIES = [
    "limit=0",
    "limit=101",
    "limit=1_0",
    "limit=%D9%A1",
    "limit=1.0",
    "limit=",
    "limit=5&limit=6",
    "unknown=1",
    "status=paid",
    "currency=eux",
    "created_gte=yesterday",
    "created_gte=2026-11-22T10:00:00",
    "amount_gte=-1",
    "amount_lte=9223372036854775808",
    "starting_after=pay_1",
    "reference=%00",
    "reference=%FF",
    "expand[]=everything",
    "customer_email=nobody",
]


async def test_a_wrong_query_is_refused(api: Api) -> None:
    """F57."""
    for query in WRONG_QUERIES:
        problem(await api.get(f"{PATH}?{query}"), 400, "invalid_request")


async def test_dates_at_the_edge_of_the_calendar_are_no_failure(api: Api) -> None:
    for moment in ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"):
        answer = await api.get(f"{PATH}?created_gte={moment}")
        assert answer.status_code == 200, answer.text


WRONG_IDS = ["x", "pay_", "pay_1", "re_" + "0" * 34, "pay_" + "I" * 34, "%00"]


async def test_an_id_that_cannot_be_one_does_not_exist(api: Api) -> None:
    """F57."""
    for wrong in WRONG_IDS:
        problem(await api.get(f"{PATH}/{wrong}"), 404, "not_found")
