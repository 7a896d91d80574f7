"""The template environment and the answers made with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request
from litestar.datastructures import Cookie
from litestar.response import Response
from markupsafe import Markup

from web.render import assets, badges, charts, formats
from web.render.shell import Shell

TEMPLATE_DIR = Path(__file__).parent.parent / "templates"

THEMES = ("light", "dark")
THEME_COOKIE = "__Host-theme"
TOAST_COOKIE = "__Host-toast"

# Without eval, without style elements, only to ourselves; a 422 carries the form with its errors.
HTMX_CONFIG = json.dumps(
    {
        "allowEval": False,
        "allowScriptTags": False,
        "includeIndicatorStyles": False,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "defaultSwapStyle": "outerHTML",
        "timeout": 20000,
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            {"code": "422", "swap": True},
            {"code": "[45]..", "swap": False, "error": True},
        ],
    },
    separators=(",", ":"),
)


def badge(kind: str, status: str, word: str | None = None) -> Markup:
    """Return the badge of a state; `word` replaces the table's word, never its tone."""
    face = badges.face(kind, status)
    return pill(face.tone, face.icon, word or face.word)


def pill(tone: str, icon: str, word: str) -> Markup:
    """Return a badge of its own: always an icon and a word, never a colour alone."""
    return Markup('<span class="st tone-{}">{}{}</span>').format(tone, assets.icon(icon), word)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_DIR),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        money=formats.money,
        amount=formats.amount,
        figure=formats.figure,
        when=formats.when,
        when_text=formats.when_text,
        moment=formats.moment,
        moment_ms=formats.moment_ms,
        clock=formats.clock,
        on_day=formats.on_day,
        day=formats.day,
        ago=formats.ago,
        duration=formats.duration,
        count=formats.count,
        percent=formats.percent,
        currency_name=formats.currency_name,
    )
    environment.globals.update(
        icon=assets.icon,
        static=assets.static,
        sri=assets.sri,
        qr_svg=assets.qr_svg,
        badge=badge,
        pill=pill,
        payment_face=badges.payment_face,
        wallet_tones=badges.WALLET_TONES,
        chart_volume=charts.chart_volume,
        chart_rate=charts.chart_rate,
        spark=charts.spark,
        meter=charts.meter,
        nothing=formats.NONE,  # Not `none`: in a template that is the literal.
        htmx_config=HTMX_CONFIG,
    )
    return environment


ENVIRONMENT = _environment()


def is_fragment(request: Request[Any, Any, Any]) -> bool:
    """Tell whether htmx asks for a part of a page; going back in history wants the whole."""
    return (
        request.headers.get("HX-Request") == "true"
        and request.headers.get("HX-History-Restore-Request") != "true"
    )


def render(
    request: Request[Any, Any, Any],
    template: str,
    *,
    fragment: str | None = None,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> Response[str]:
    """Return a page, or `fragment` (the file that the page includes) when htmx asks.

    A page inside the frame takes `shell=Shell(...)`; others take `csrf_token` and may take
    `mode` ("test" shows the mode bar) and `now`. A waiting toast is shown once, on a whole page.
    """
    partial = fragment is not None and is_fragment(request)
    shell: Shell | None = context.get("shell")
    theme = request.cookies.get(THEME_COOKIE, "")
    toast = "" if is_fragment(request) else unquote(request.cookies.get(TOAST_COOKIE, ""))
    filled: dict[str, Any] = {
        "shell": None,
        "csrf_token": shell.csrf_token if shell else "",
        "mode": shell.mode if shell else None,
        "now": shell.now if shell else None,
        **context,
        "theme": theme if theme in THEMES else "",
        "toast": toast,
    }
    token = formats.page_now.set(filled["now"])
    try:
        body = ENVIRONMENT.get_template(fragment if partial and fragment else template).render(
            filled
        )
    finally:
        formats.page_now.reset(token)
    response = Response(
        body,
        status_code=status_code,
        media_type="text/html",
        headers={"Vary": "HX-Request", **(headers or {})},
    )
    if toast:
        response.set_cookie(_cookie(TOAST_COOKIE, "", max_age=0))
    return response


def with_toast(response: Response[Any], text: str) -> None:
    """Let the next whole page say `text` once, bottom right. Never for errors."""
    response.set_cookie(_cookie(TOAST_COOKIE, quote(text), max_age=60))


def with_theme(response: Response[Any], theme: str) -> None:
    """Keep the choice of "light" or "dark" for a year; anything else follows the device."""
    known = theme in THEMES
    response.set_cookie(
        _cookie(THEME_COOKIE, theme if known else "", max_age=31_536_000 if known else 0)
    )


def _cookie(key: str, value: str, *, max_age: int) -> Cookie:
    return Cookie(
        key=key, value=value, path="/", max_age=max_age, secure=True, httponly=True, samesite="lax"
    )
