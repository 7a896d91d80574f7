"""Pages, their frame, and the answers made with them."""

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from jinja2 import UndefinedError
from litestar.response import Response

from tests.web.render.support import HOSTILE, NOW, body, days, request, shell
from web.render import (
    ENVIRONMENT,
    TEMPLATE_DIR,
    Counts,
    Membership,
    Shell,
    pages,
    render,
    with_theme,
    with_toast,
)


class Tags(HTMLParser):
    """Collects what a content security policy or a screen reader would stumble over."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "script":
            self.scripts.append(found)
        if tag == "style" or "style" in found:
            self.faults.append(f"inline style in <{tag}>")
        self.faults += [f"{name} in <{tag}>" for name in found if name.startswith(("on", "hx-on"))]
        if found.get("id"):
            self.ids.append(str(found["id"]))


def test_every_template_compiles_and_holds_its_limit() -> None:
    names = ENVIRONMENT.list_templates(extensions=["html"])
    assert "base.html" in names
    for name in names:
        ENVIRONMENT.get_template(name)
        text = (TEMPLATE_DIR / name).read_text()
        assert len(text.splitlines()) <= 200, name
        assert not re.search(r"\|\s*safe\b", text), name


@pytest.mark.parametrize("role", ["owner", "operator", "viewer"])
def test_the_frame_keeps_to_its_content_security_policy(test_pages: None, role: str) -> None:
    page = body(
        render(request(), "test/page.html", heading="x", shell=shell(role=role, is_admin=True))
    )
    tags = Tags()
    tags.feed(page)
    assert tags.faults == []
    assert len(tags.ids) == len(set(tags.ids))
    assert len(tags.scripts) == 2
    for script in tags.scripts:
        assert str(script["src"]).startswith("/static/")
        assert str(script["integrity"]).startswith("sha384-")
    for setting in ("allowEval", "includeIndicatorStyles"):
        assert f"&#34;{setting}&#34;:false" in page
    assert "&#34;selfRequestsOnly&#34;:true" in page


def test_only_owners_see_keys_and_only_admins_the_platform(test_pages: None) -> None:
    viewer = body(render(request(), "test/page.html", heading="x", shell=shell(role="viewer")))
    assert "API keys" not in viewer
    assert "Dead letters" not in viewer
    counts = Counts(dead_letters=7)
    admin = shell(merchant_id=None, merchant_name=None, role=None, is_admin=True, counts=counts)
    page = body(render(request(), "test/page.html", heading="x", shell=admin))
    assert "7<span" in page
    assert "/m/None" not in page
    assert "Search payments" not in page
    assert "/admin/live?page=overview" in page


def test_what_people_write_stays_text(test_pages: None) -> None:
    frame = shell(
        merchant_name=HOSTILE,
        user_email=HOSTILE,
        path=HOSTILE,
        csrf_token=HOSTILE,
        memberships=(Membership(merchant_id="m", merchant_name=HOSTILE, role="owner"),),
    )
    page = body(render(request(), "test/page.html", heading=HOSTILE, shell=frame))
    tags = Tags()
    tags.feed(page)
    assert len(tags.scripts) == 2
    assert tags.faults == []


def test_a_name_that_a_page_forgot_is_an_error(test_pages: None) -> None:
    with pytest.raises(UndefinedError):
        render(request(), "test/page.html", shell=shell())


def test_the_mode_bar_stands_in_test_mode_alone(test_pages: None) -> None:
    test = body(render(request(), "test/page.html", heading="x", shell=shell()))
    live = body(render(request(), "test/page.html", heading="x", shell=shell(mode="live")))
    assert "Nothing here moves real money" in test
    assert "Nothing here moves real money" not in live


def test_htmx_gets_the_part_and_a_browser_the_page(test_pages: None) -> None:
    def ask(headers: dict[str, str]) -> Response[str]:
        return render(
            request(headers),
            "test/page.html",
            fragment="test/_part.html",
            heading="Hello",
            shell=shell(),
        )

    whole, part = ask({}), ask({"HX-Request": "true"})
    back = ask({"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert "<!doctype html>" in body(whole)
    assert body(part) == '<div id="part">Hello</div>'
    assert "<!doctype html>" in body(back)
    assert {whole.headers["Vary"], part.headers["Vary"]} == {"HX-Request"}


def test_a_toast_is_said_once_and_only_by_a_whole_page(test_pages: None) -> None:
    first: Response[Any] = Response("", status_code=303)
    with_toast(first, "Refund of 40.00 EUR sent; <b>")
    cookie = first.cookies[0]
    assert (cookie.secure, cookie.httponly, cookie.samesite) == (True, True, "lax")
    carried = f"{cookie.key}={cookie.value}"
    polled = render(
        request({"HX-Request": "true"}, carried), "test/_part.html", heading="x", shell=shell()
    )
    assert polled.cookies == []
    page = render(request(cookies=carried), "test/page.html", heading="x", shell=shell())
    assert "Refund of 40.00 EUR sent; &lt;b&gt;" in body(page)
    assert [(c.key, c.max_age) for c in page.cookies] == [(cookie.key, 0)]


@pytest.mark.parametrize(
    ("cookie", "attribute"),
    [("dark", ' data-bs-theme="dark"'), ("light", ' data-bs-theme="light"'), (HOSTILE, "")],
)
def test_the_theme_is_rendered_by_the_server(test_pages: None, cookie: str, attribute: str) -> None:
    kept = f"{pages.THEME_COOKIE}={quote(cookie)}"
    page = body(render(request(cookies=kept), "test/page.html", heading="x", shell=shell()))
    assert f'<html lang="en-GB"{attribute}>' in page


def test_only_known_themes_are_kept() -> None:
    for choice, kept in (("dark", ("dark", 31_536_000)), ("purple", ("", 0)), ("", ("", 0))):
        response: Response[Any] = Response("")
        with_theme(response, choice)
        assert (response.cookies[0].value, response.cookies[0].max_age) == kept


@pytest.mark.parametrize("frame", [None, shell()])
def test_errors_say_what_happened_and_give_one_way_on(frame: Shell | None) -> None:
    page = body(
        render(
            request(),
            "error.html",
            shell=frame,
            title="We cannot find this page",
            text=HOSTILE,
            way_href="/",
            way_label="Go to the overview",
            request_id="req_1",
            status_code=404,
        )
    )
    assert "req_1" in page
    assert "<script>" not in page
    assert ("Main" in page) == (frame is not None)


def test_components_render_and_escape() -> None:
    source = (
        '{% import "components/card.html" as c %}{% import "components/wallet.html" as w %}'
        '{% import "components/field.html" as f %}{% import "components/filters.html" as fi %}'
        '{% import "components/pagination.html" as p %}{% import "components/button.html" as b %}'
        '{% import "components/timeline.html" as t %}{% import "components/charts.html" as ch %}'
        '{% from "components/dialog.html" import sheet %}'
        '{{ c.crumbs([("/x", x), ("", x)]) }}{{ c.page_head(x, x) }}{{ c.panel("ok", "check", x) }}'
        '{{ c.facts([(x, x), ("none", none)]) }}{{ c.empty(x, x) }}{{ c.raw(x, x) }}'
        '{{ w.wallet("eur", 1, 0, -1, x) }}{{ f.summary([("amount", x)]) }}'
        '{{ f.field("amount", x, value=x, hint=x, error=x, attrs={"placeholder": x}) }}'
        '{{ f.field("secret", "s", value="kept back", type="password") }}'
        '{{ f.textarea("why", x, value=x) }}{{ f.select("s", x, [(x, x)], value=x) }}'
        '{{ fi.status_tabs([{"label": x, "href": x, "current": true}]) }}'
        '{{ fi.chips([{"label": x, "text": x, "remove": x}], [("k", x)]) }}'
        '{{ p.pagination(1200, x, "") }}{{ b.link(x, x) }}{{ b.copy(x) }}'
        '{{ t.step(now, "ok", "check", x, x, x) }}{{ t.details(x, x) }}'
        '{{ ch.volume(days, "eur", none, x) }}{{ ch.rate(days, none, {}) }}'
        '{% call sheet("refund", x, x, x, x, x) %}{{ x }}{% endcall %}'
    )
    page = ENVIRONMENT.from_string(source).render(x=HOSTILE, now=NOW, days=days(3, volume=7))
    tags = Tags()
    tags.feed(page)
    assert tags.scripts == []
    assert tags.faults == []
    assert 'aria-invalid="true"' in page
    assert 'aria-describedby="amount-error amount-hint"' in page
    assert "kept back" not in page
    assert "1,200 shown" in page
    assert 'rel="prev"' in page
    assert 'rel="next"' not in page
