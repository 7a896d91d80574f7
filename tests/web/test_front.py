"""What every answer has, unknown addresses and failures included; hosts, proxies, request ids."""

import asyncio
import itertools
import json
import typing
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.accounts.models import User
from app.audit.models import AuditRow
from app.payments import queries
from app.runtime import Runtime
from app.settings import SettingsError
from tests.support.asgi import ask
from tests.support.cast import Cast
from tests.support.psp import BookConnections
from tests.support.runtime import Clock, make_runtime, test_settings
from tests.web.api.shop import Api, problem
from web import errors, front
from web.asgi import create_app

ALWAYS = {
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
}


def paths(app: Litestar) -> list[tuple[str, str]]:
    found = [
        (method, route.path.replace(":str", ""))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    ]
    return [
        *found,
        ("GET", "/"),
        ("GET", "/no/such/page"),
        ("GET", "/v1/no"),
        ("BREW", "/v1/payments"),
    ]


def check(answer: httpx.Response) -> None:
    for name, value in ALWAYS.items():
        assert answer.headers[name] == value, (answer.url, name)
    policy = answer.headers["content-security-policy"]
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert "camera=()" in answer.headers["permissions-policy"]
    assert answer.headers["referrer-policy"] in {"no-referrer", "same-origin"}
    assert answer.headers["request-id"]
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers
    if not answer.url.path.startswith("/static/"):
        assert answer.headers["cache-control"] == "no-store"


async def test_every_answer_has_the_security_headers(api: Api, app: Litestar) -> None:
    for method, path in paths(app):
        for client in (api.send, api.client.request):
            answer = await client(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code < 500, (method, path, answer.text)
            check(answer)
            if path.startswith("/v1/"):
                assert answer.headers["counterfoil-version"]


async def test_failures_have_them_too_and_tell_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: Any, **kw: Any) -> Any:
        raise RuntimeError("SELECT secret FROM users")

    monkeypatch.setattr(queries, "list_payments", broken)
    answer = await api.get("/v1/payments")
    problem(answer, 500, "internal_error")
    check(answer)
    assert "SELECT" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError("no"),
        OperationalError("q", {}, Exception("database is locked")),
    ],
)
async def test_an_outage_of_the_database_is_503_with_a_time(
    api: Api, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """F44."""

    async def away(*args: Any, **kw: Any) -> Any:
        raise failure

    monkeypatch.setattr(queries, "list_payments", away)
    answer = await api.get("/v1/payments")
    problem(answer, 503, "database_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    check(answer)


def test_a_missing_table_is_our_defect_and_no_outage() -> None:
    missing = OperationalError("q", {}, Exception("no such table: payments"))
    assert not errors.is_outage(missing)
    assert not errors.is_outage(ValueError("x"))


async def test_a_failure_of_the_last_resort_is_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kw: Any) -> Any:
        raise RuntimeError("the template is broken")

    monkeypatch.setattr(errors, "render", broken)
    answer = await api.client.get("/no/such/page")
    problem(answer, 500, "internal_error")
    assert "template" not in answer.text
    check(answer)


async def test_people_get_a_page_and_machines_problem_details(api: Api) -> None:
    page = await api.client.get("/no/such/page")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["request-id"] in page.text
    problem(await api.client.get("/v1/no"), 404, "not_found")


async def test_an_unknown_method_names_the_known_ones(api: Api) -> None:
    for method in ("DELETE", "OPTIONS", "TRACE", "HEAD"):
        answer = await api.send(method, "/v1/payments")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST"), method


async def test_a_sane_request_id_is_kept_and_another_one_replaced(api: Api) -> None:
    kept = await api.get("/v1/payments", headers={"Request-Id": "shop-17.a_b"})
    assert kept.headers["request-id"] == "shop-17.a_b"
    for wrong in ("a b", "x" * 65, "<script>", "4242424242424242", ""):
        answer = await api.get("/v1/payments", headers={"Request-Id": wrong})
        assert answer.headers["request-id"].startswith("req_")


async def test_other_hosts_are_refused(api: Api) -> None:
    for host in ("evil.example", "localhost.evil.example", "", "evil.example:443"):
        answer = await api.client.get("/v1/openapi.json", headers={"Host": host})
        problem(answer, 400, "host_not_allowed")
    for host in ("localhost", "localhost:443", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        answer = await api.client.get("/v1/openapi.json", headers={"Host": host})
        assert answer.status_code == 200, host
    assert (await api.client.get("/healthz", headers={"Host": "10.0.0.7"})).status_code == 200


async def on(rt: Runtime, clock: Clock, **changes: Any) -> tuple[Litestar, httpx.AsyncClient]:
    settings = test_settings(rt.settings.database_url, rt.settings.data_dir, **changes)  # type: ignore[arg-type] # Text serves as a path here.
    other = make_runtime(settings, clock, BookConnections(settings, clock))
    made = create_app(other)
    transport = httpx.ASGITransport(app=typing.cast("Any", made), client=("10.0.0.7", 4000))
    return made, httpx.AsyncClient(transport=transport, base_url=settings.public_url)


async def test_the_public_name_alone_is_served_beyond_loopback(rt: Runtime, clock: Clock) -> None:
    changes = {"public_url": "https://pay.example", "bind_host": "192.0.2.1", "docs_public": True}
    made, client = await on(rt, clock, **changes)
    async with client:
        assert (await client.get("/v1/openapi.json")).status_code == 200
        answer = await client.get("/v1/openapi.json", headers={"Host": "localhost"})
        problem(answer, 400, "host_not_allowed")
    await made.state.rt.close()


async def test_http_gets_no_hsts(rt: Runtime, clock: Clock) -> None:
    made, client = await on(rt, clock, public_url="http://localhost:8123")
    async with client:
        answer = await client.get("/healthz")
    assert "strict-transport-security" not in answer.headers
    await made.state.rt.close()


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ((), "198.51.100.1", "10.0.0.7"),
        (("192.0.2.0/24",), "198.51.100.1", "10.0.0.7"),
        (("10.0.0.0/8",), "198.51.100.1", "198.51.100.1"),
        (("10.0.0.0/8",), "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (("10.0.0.0/8",), "198.51.100.1, 10.0.0.3", "198.51.100.1"),
        (("10.0.0.0/8",), "nonsense", "10.0.0.7"),
        (("10.0.0.0/8",), "", "10.0.0.7"),
    ],
)
async def test_forwarded_addresses_count_from_trusted_proxies_alone(
    rt: Runtime, cast: Cast, clock: Clock, trusted: Any, forwarded: str, expected: str
) -> None:
    made, client = await on(rt, clock, trusted_proxies=trusted)
    headers = {
        "Authorization": f"Bearer {cast.shop.secret}",
        "X-Forwarded-For": forwarded,
        "Idempotency-Key": "k",
    }
    async with client:
        body = {"amount": 100, "currency": "eur"}
        answer = await client.post("/v1/payments", json=body, headers=headers)
        assert answer.status_code == 201
        story = await client.get(f"/v1/payments/{answer.json()['id']}/timeline", headers=headers)
    assert story.status_code == 200
    async with rt.sessions.read() as session:
        query = select(AuditRow.address).where(AuditRow.action == "payment.create")
        assert (await session.scalars(query)).all() == [expected]
    await made.state.rt.close()


async def test_demo_users_keep_the_server_on_loopback(rt: Runtime, clock: Clock) -> None:
    async with rt.sessions.begin() as session:
        session.add(
            User(id=rt.ids("usr"), email="demo@example.com", is_demo=True, created_at=clock())
        )
    made, _ = await on(rt, clock, bind_host="0.0.0.0", public_url="https://pay.example")  # noqa: S104 - the case under test
    with pytest.raises(ExceptionGroup) as caught:
        async with made.lifespan():
            pass
    assert caught.group_contains(SettingsError, match="demo users")
    made, _ = await on(rt, clock)
    async with made.lifespan():
        pass


async def test_metrics_need_the_setting_or_the_token(rt: Runtime, clock: Clock, api: Api) -> None:
    assert (await api.client.get("/metrics")).status_code == 404
    made, client = await on(rt, clock, metrics_token="a-token")
    async with client:
        assert (await client.get("/metrics")).status_code == 404
        wrong = {"Authorization": "Bearer other"}
        assert (await client.get("/metrics", headers=wrong)).status_code == 404
        right = {"Authorization": "Bearer a-token"}
        answer = await client.get("/metrics", headers=right)
    await made.state.rt.close()
    assert answer.status_code == 200
    assert 'counterfoil_http_requests_total{method="GET",route="/metrics",status="404"}' in (
        answer.text
    )
    assert "counterfoil_risk_fallbacks 0.0" in answer.text
    assert "counterfoil_risk_reviews_waiting 0.0" in answer.text


async def test_health_says_what_works(api: Api, rt: Runtime) -> None:
    assert (await api.client.get("/healthz")).json() == {"status": "ok"}
    ready = await api.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ok", "database": "ok", "redis": "down"}


async def test_a_database_without_tables_is_not_ready(
    empty_database_url: str, rt: Runtime, clock: Clock
) -> None:
    settings = test_settings(empty_database_url, rt.settings.data_dir)  # type: ignore[arg-type] # As above.
    other = make_runtime(settings, clock)
    made = create_app(other)
    transport = httpx.ASGITransport(app=typing.cast("Any", made))
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["database"] == "not migrated"
    assert ready.headers["retry-after"]
    await other.close()


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return what tells that a list of payments is being read, which then takes for ever."""
    reached = asyncio.Event()

    async def slow(*args: Any, **kw: Any) -> Any:
        reached.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(queries, "list_payments", slow)
    return reached


async def test_a_cancelled_request_is_not_swallowed(api: Api, inside: asyncio.Event) -> None:
    task = asyncio.create_task(api.get("/v1/payments"))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_that_the_stop_cuts_off_is_answered(
    api: Api, app: Litestar, inside: asyncio.Event
) -> None:
    # The server below cancels what is left when it has waited long enough, and answers a bare 500
    # for what has not answered by itself.
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/v1/payments",
        "raw_path": b"/v1/payments",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {api.secret}".encode())],
        "client": ("127.0.0.1", 1),
    }
    task = asyncio.create_task(app(scope, receive, send))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    start, body = sent
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body["body"])["code"] == "stopping"


@pytest.mark.parametrize("path", [b"/v1/payments", b"/psp/conn_sandbox/events", b"/sign-in"])
async def test_a_body_that_drips_is_given_up_and_its_place_with_it(
    app: Litestar, cast: Cast, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    """F55: the bytes come so slowly that the request never ends."""
    monkeypatch.setattr(front, "_BODY_SECONDS", 0.2)
    headers = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {cast.shop.secret}".encode()),
        (b"idempotency-key", b"a-1"),
        (b"origin", b"https://localhost"),
        (b"sec-fetch-site", b"same-origin"),
        (b"content-type", b"application/json"),
    ]
    answer = await ask(
        app, "POST", path, headers=headers, body=itertools.repeat(b" ", 500), pause=0.02
    )
    assert answer.status == 408
    if path != b"/sign-in":
        assert answer.json()["code"] == "request_timeout"
