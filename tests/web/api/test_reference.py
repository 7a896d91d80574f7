"""The reference pages: complete, true to the document, safe, and with examples that work."""

import re
import shlex
from datetime import UTC, datetime
from html import unescape
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook

from app.webhooks import signing
from tests.web.api.shop import Api
from web.api import examples, openapi, reference, shown, words
from web.api.openapi import Route
from web.api.reference import all_routes, codes, document
from web.render import ENVIRONMENT
from web.sandbox_psp import cards

SERVER = "https://localhost"
SECRET = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = document(SERVER)["paths"][route.path][route.method]
    return found


def marked(text: str) -> str:
    module: Any = ENVIRONMENT.get_template("docs/_schema.html").module
    return str(module.marked(text))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Send `latest`, *always*.", "Send <code>latest</code>, <em>always</em>."),
        ("`RateLimit-*` and `*`", "<code>RateLimit-*</code> and <code>*</code>"),
        ("One ` alone, one * alone", "One ` alone, one * alone"),
        ("`<b>` & <i>", "<code>&lt;b&gt;</code> &amp; &lt;i&gt;"),
        ("*<script>*", "<em>&lt;script&gt;</em>"),
    ],
)
def test_marks_become_elements_and_text_stays_text(text: str, html: str) -> None:
    assert marked(text) == html


async def test_no_mark_is_shown_raw(api: Api) -> None:
    for path in ("/docs", "/docs/errors"):
        page = (await api.client.get(path)).text
        prose = re.sub(
            r'<pre.*?</pre>|<code>.*?</code>|data-copy="[^"]*"', "", page, flags=re.DOTALL
        )
        assert "`" not in prose
        assert re.findall(r"\*\w+\*", prose) == []
        assert re.findall(r"\sstyle=|<style|\son\w+=", page) == []


async def test_every_link_within_the_reference_leads_somewhere(api: Api) -> None:
    pages = {path: (await api.client.get(path)).text for path in ("/docs", "/docs/errors")}
    for path, page in pages.items():
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), [one for one in ids if ids.count(one) > 1]
        for there, anchor in re.findall(r'href="(/docs|/docs/errors|)#([^"]+)"', page):
            assert f'id="{anchor}"' in pages[there or path], anchor


async def test_an_operation_shows_all_of_itself(api: Api) -> None:
    page = (await api.client.get("/docs")).text
    parts = dict(
        re.findall(r'<article class="docs-part" id="(\w+)"(.*?)</article>', page, re.DOTALL)
    )
    general = set.intersection(*({k.code for k in route.refusals()} for route in all_routes()))
    assert general <= set(re.findall(r"/docs/errors#([\w-]+)", parts["errors"]))
    for route in all_routes():
        part = parts[route.name]
        assert route.operation.permission in part
        assert route.operation.consistency.capitalize() in part
        for one in shown.parameters(operation(route)):
            assert f"<code>{one.name}</code>" in part, (route.name, one.name)
        for field in msgspec.structs.fields(route.body) if route.body else ():
            assert f"<code>{field.encode_name}</code>" in part, (route.name, field.name)
        own = set(re.findall(r"/docs/errors#([\w-]+)", part))
        assert own == {kind.code for kind in route.refusals()} - general
        assert f'href="#{route.name}"' in page


def test_every_field_and_parameter_is_explained() -> None:
    made = document(SERVER)
    for name, schema in made["components"]["schemas"].items():
        for field in shown.fields(schema):
            assert field.text, (name, field.name)
            assert field.types, (name, field.name)
    for route in all_routes():
        for one in shown.parameters(operation(route)):
            assert one.text, (route.name, one.name)


def test_words_are_only_about_fields_that_exist() -> None:
    schemas = document(SERVER)["components"]["schemas"]
    known = {name: set(schema.get("properties", {})) for name, schema in schemas.items()}
    for route in all_routes():
        if route.operation.query is not None:
            fields = msgspec.structs.fields(route.operation.query)
            known[route.operation.query.__name__] = {field.encode_name for field in fields}
    for shape, said in words.SHAPES.items():
        assert set(said) <= known[shape], shape
    assert set(words.COMMON) <= set().union(*known.values())


def test_limits_and_types_read_as_words() -> None:
    fields = {
        one.name: one
        for one in shown.fields(document(SERVER)["components"]["schemas"]["CreatePayment"])
    }
    assert fields["amount"].required
    assert fields["amount"].limits == ("1 to 999,999,999,999",)
    assert [one.word for one in fields["reference"].types] == ["string", "null"]
    assert "1 to 200 characters" in fields["reference"].limits
    assert fields["capture_method"].types[0].values == ("automatic", "manual")
    assert "default `automatic`" in fields["capture_method"].limits
    assert fields["customer"].types[0].shape == "CustomerInput"


def test_the_answers_shown_have_the_shape_that_is_answered() -> None:
    assert set(examples.ANSWERS) == {route.name for route in all_routes()}
    for route in all_routes():
        answer = examples.ANSWERS[route.name]
        shape = route.operation.answer or route.operation.rows
        assert shape is not None
        for one in answer["data"] if route.operation.rows else [answer]:
            read = msgspec.convert(one, openapi._plain(shape), strict=True)
            assert set(msgspec.to_builtins(read)) == set(one), route.name


async def test_the_commands_shown_are_understood(api: Api) -> None:
    page = (await api.client.get("/docs")).text
    for route in all_routes():
        pattern = rf'aria-label="Example request: {route.name}">(.*?)</pre>'
        found = re.search(pattern, page, re.DOTALL)
        assert found is not None
        program, *rest = shlex.split(unescape(found[1]).replace("$COUNTERFOIL_KEY", api.secret))
        assert program == "curl"
        method = rest[rest.index("-X") + 1] if "-X" in rest else "GET"
        headers = dict(rest[i + 1].split(": ", 1) for i, one in enumerate(rest) if one == "-H")
        headers.pop("Idempotency-Key", None)  # The page's keys are alike; a shop's are not.
        body = rest[rest.index("-d") + 1] if "-d" in rest else None
        url = next(one for one in rest if one.startswith(SERVER))
        if route.operation.key == "required":
            headers["Idempotency-Key"] = route.name
        answer = await api.client.request(method, url, headers=headers, content=body)
        assert answer.status_code in {route.operation.status, 404}, (route.name, answer.text)
        assert answer.json().get("code") != "not_found", (route.name, answer.text)


async def test_each_page_says_which_one_it_is(api: Api) -> None:
    for path in ("/docs", "/docs/errors"):
        page = (await api.client.get(path)).text
        assert f'href="{path}" aria-current="page"' in page
        assert page.count("<h1>") == 1
    errors = (await api.client.get("/docs/errors")).text
    assert {f'id="status-{one.status}"' in errors for one in codes()} == {True}


def test_no_503_of_a_lost_database_says_that_nothing_happened() -> None:
    """F40: the commit may stand; only what is shed before any work says that nothing was done."""
    texts = {one.code: one.text for one in codes() if one.status == 503}
    assert not [text for text in texts.values() if "nothing was stored" in text]
    for code in ("database_unavailable", "overloaded"):
        assert "may or may not have happened" in texts[code]
        assert "with the same `Idempotency-Key`" in texts[code]


def test_the_verification_shown_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_WEBHOOK_SECRET", SECRET)
    program: dict[str, Any] = {}
    exec(compile(examples.VERIFY, "reference", "exec"), program)  # noqa: S102 - our own example
    body = msgspec.json.encode(examples.WEBHOOK)
    now = int(datetime.now(UTC).timestamp())
    headers = signing.headers([SECRET], message_id="evt_1", timestamp=now, body=body)
    assert Webhook(SECRET).verify(body, headers) == examples.WEBHOOK
    seen: set[str] = set()
    assert program["receive"](headers, body, seen) == 204
    assert program["receive"](headers, body, seen) == 204
    assert seen == {"evt_1"}
    assert program["receive"](headers, body.replace(b"payment", b"refunds"), seen) == 400
    assert program["receive"]({}, body, seen) == 400


def test_the_cards_shown_are_the_sandboxs() -> None:
    for number, token, _ in reference.CARDS:
        assert cards.CARDS[number.replace(" ", "")] == token
    assert {number for number, _ in cards.SHOWN} <= {number for number, _, _ in reference.CARDS}
    faults = {f"pm_fault_{name}" for name in cards.FAULT_TOKENS}
    assert {token for token, _ in reference.TOKENS} == faults
