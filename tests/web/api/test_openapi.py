"""The served document tells of every operation what it needs, and its examples are true."""

import re
from typing import get_args

from app.errors import Problem
from app.webhooks.schemas import EVENT_TYPES
from tests.web.api.shop import Api, problem
from web.api import examples
from web.api.events import LISTED_TYPES, AnyEventType
from web.api.reference import all_routes, codes, document


async def test_every_operation_says_what_it_needs_and_answers(api: Api) -> None:
    made = (await api.client.get("/v1/openapi.json")).json()
    seen = set()
    for path, methods in made["paths"].items():
        assert path.startswith("/v1/")
        for operation in methods.values():
            seen.add(operation["operationId"])
            assert operation["summary"]
            assert operation["x-consistency"] in {"strong", "eventual"}
            assert f"Consistency: {operation['x-consistency']}" in operation["description"]
            for status in ("400", "401", "403", "429", "500", "503"):
                content = operation["responses"][status]["content"]
                assert list(content) == ["application/problem+json"]
    assert seen == {route.name for route in all_routes()}
    assert made["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    for name in ("CreatePayment", "CreateRefund", "CreateEndpoint", "CustomerInput"):
        assert made["components"]["schemas"][name]["additionalProperties"] is False


async def test_the_examples_are_accepted(api: Api) -> None:
    made = await api.post("/v1/payments", examples.CREATE_PAYMENT)
    assert made.status_code == 201, made.text
    answer = await api.post("/v1/refunds", examples.CREATE_REFUND)
    problem(answer, 404, "payment_not_found")
    endpoint = {**examples.CREATE_ENDPOINT, "url": "http://127.0.0.1:9/hook"}
    assert (await api.post("/v1/webhook_endpoints", endpoint)).status_code == 201


async def test_the_reference_shows_every_operation_and_needs_nothing_from_elsewhere(
    api: Api,
) -> None:
    page = await api.client.get("/docs")
    assert page.status_code == 200
    for route in all_routes():
        assert f'id="{route.name}"' in page.text
        assert route.path in page.text
    assert re.findall(r'(?:src|href)="https?://', page.text) == []


async def test_every_code_has_its_place_in_the_reference(api: Api) -> None:
    page = await api.client.get("/docs/errors")
    for one in codes():
        assert f'id="{one.code}"' in page.text, one.code
        assert one.text, one.code
    known = {one.code for one in codes()}
    assert {kind.code for route in all_routes() for kind in route.refusals()} <= known
    assert Problem.code not in known - {"internal_error"}


def test_event_types_are_the_ones_that_are_sent() -> None:
    assert set(get_args(AnyEventType)) == set(LISTED_TYPES)
    assert set(EVENT_TYPES) < set(LISTED_TYPES)


def test_links_lead_from_what_is_made_to_what_takes_it() -> None:
    made = document("https://localhost")
    links = made["paths"]["/v1/payments"]["post"]["responses"]["201"]["links"]
    assert set(links) >= {"get_payment", "capture_payment", "cancel_payment"}
