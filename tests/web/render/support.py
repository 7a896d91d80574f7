"""A frame, a request and hostile text for the tests of pages."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

from litestar.response import Response
from litestar.testing import RequestFactory

from web.render import (
    Day,
    Membership,
    Shell,
)

NOW = datetime(2026, 11, 22, 14, 40, 7, 118_900, tzinfo=UTC)
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


def shell(**changes: Any) -> Shell:
    values: dict[str, Any] = {
        "merchant_id": "mer_demo",
        "merchant_name": "Demo shop",
        "mode": "test",
        "role": "owner",
        "user_email": "owner@demo-shop.example",
        "is_admin": False,
        "csrf_token": "token",
        "now": NOW,
        "path": "/m/mer_demo/test/overview",
        "active": "overview",
        "memberships": (
            Membership(merchant_id="mer_demo", merchant_name="Demo shop", role="owner"),
        ),
    }
    return Shell(**(values | changes))


def request(headers: dict[str, str] | None = None, cookies: str = "") -> Any:
    given_headers = dict(headers or {})
    if cookies:
        given_headers["Cookie"] = cookies
    return RequestFactory().get("/", headers=given_headers)


def body(response: Response[str]) -> str:
    return response.content


def days(count: int, **values: int) -> list[Day]:
    first = date(2026, 11, 22) - timedelta(days=count - 1)
    return [Day(day=first + timedelta(days=index), **values) for index in range(count)]


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314 - our own markup
