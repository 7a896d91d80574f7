"""S14: what browsers report against the policy is taken in small, counted, and tells no secret."""

from typing import Any

import httpx
from litestar import Litestar
from structlog.testing import capture_logs

from tests.web.api.shop import problem
from web.policy_reports import BODY_BYTES, MEDIA, PATH

SECRET = "a" * 52
OLD = {
    "csp-report": {
        "document-uri": f"https://localhost/checkout/{SECRET}?a={SECRET}",
        "blocked-uri": f"https://evil.example/{SECRET}.js",
        "violated-directive": "script-src-elem 'self'",
        "script-sample": SECRET,
    }
}
NEW = [
    {
        "type": "csp-violation",
        "body": {
            "documentURL": f"https://localhost/link/reset/{SECRET}",
            "blockedURL": "inline",
            "effectiveDirective": "style-src-attr",
        },
    },
    {"type": "deprecation", "body": {"documentURL": "https://localhost/"}},
]


async def send(client: httpx.AsyncClient, body: Any, media: str = MEDIA[0]) -> httpx.Response:
    if isinstance(body, bytes):
        return await client.post(PATH, content=body, headers={"Content-Type": media})
    return await client.post(PATH, json=body, headers={"Content-Type": media})


def counted(app: Litestar, directive: str) -> float:
    found = app.state.metrics.registry.get_sample_value(
        "counterfoil_policy_reports_total", {"directive": directive}
    )
    return found or 0.0


async def test_pages_say_where_to_report(client: httpx.AsyncClient) -> None:
    answer = await client.get("/sign-in")
    assert f"report-uri {PATH}; report-to policy" in answer.headers["content-security-policy"]
    assert answer.headers["reporting-endpoints"] == f'policy="{PATH}"'


async def test_a_report_is_logged_in_few_words_and_counted(
    client: httpx.AsyncClient, app: Litestar
) -> None:
    with capture_logs() as logs:
        assert (await send(client, OLD)).status_code == 204
        assert (await send(client, NEW, MEDIA[1])).status_code == 204
    told = [(one["kind"], one["path"], one["host"]) for one in logs if "host" in one]
    assert told == [
        ("script-src-elem", "/checkout", "https://evil.example"),
        ("style-src-attr", "/link", "inline"),
    ]
    assert SECRET not in str(logs)
    assert (counted(app, "script-src-elem"), counted(app, "style-src-attr")) == (1, 1)


async def test_what_is_no_report_is_refused_or_does_nothing(
    client: httpx.AsyncClient, app: Litestar
) -> None:
    problem(await send(client, OLD, "text/html"), 415, "unsupported_media_type")
    problem(await send(client, b" " * (BODY_BYTES + 1)), 413, "request_too_large")
    for broken in (b"{", b"[" * 5000, b"\xff", b'{"a":1,"a":2}'):
        problem(await send(client, broken), 400, "invalid_request")
    odd = {"violated-directive": ["x"], "blocked-uri": "http://[", "document-uri": 1}
    bodies = [[], {}, {"csp-report": 1}, [1, {"type": "csp-violation", "body": 2}], "x", b"null"]
    for body in [*bodies, {"csp-report": odd}]:
        assert (await send(client, body)).status_code == 204, body
    assert counted(app, "other") == 2
    assert (await client.get(PATH)).status_code == 405


async def test_a_flood_is_cut_off(client: httpx.AsyncClient, app: Litestar) -> None:
    answers = [await send(client, OLD) for _ in range(30)]
    assert [one.status_code for one in answers].count(204) <= 22
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert counted(app, "script-src-elem") <= 22
