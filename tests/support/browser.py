"""A browser without script, in this process: keeps cookies, reads forms and posts them back."""

from html.parser import HTMLParser
from typing import Any, Self, cast
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from litestar import Litestar

from tests.support.cast import Person

BASE = "https://localhost"
COOKIE = "__Host-session"


class Form(msgspec.Struct):
    """A form of a page: where it goes, its fields as a browser would send them, its buttons."""

    action: str
    method: str
    fields: list[tuple[str, str]]
    ids: list[str]

    def value(self, name: str) -> str | None:
        """Return the first value of a field, None when there is no such field."""
        return next((value for key, value in self.fields if key == name), None)


class Page:
    """An answer, with its text and its forms."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.text = response.text
        self.path = urlsplit(str(response.url)).path
        self.location = response.headers.get("location")

    @property
    def forms(self) -> list[Form]:
        """All forms of the page, in their order."""
        reader = _Forms()
        reader.feed(self.text)
        return reader.forms

    def form(self, action: str = "", *, method: str = "") -> Form:
        """Return the form whose action ends in `action`, else the first that contains it."""
        for form in sorted(self.forms, key=lambda one: not one.action.endswith(action)):
            if action in form.action and method in form.method:
                return form
        raise AssertionError(f"no form to {action!r} in {[form.action for form in self.forms]}")

    @property
    def words(self) -> str:
        """The text that a person reads, with spaces made single."""
        reader = _Words()
        reader.feed(self.text)
        return " ".join(" ".join(reader.parts).split())


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._skip = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skip += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.parts.append(data)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open: Form | None = None
        self._area: str | None = None
        self._text = ""
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(found.get("action", ""), found.get("method", "get"), [], [])
            self.forms.append(self._open)
        if self._open is None:
            return
        if found.get("id"):
            self._open.ids.append(found["id"])
        if tag == "input" and found.get("name"):
            ticked = found.get("type") not in {"checkbox", "radio"} or "checked" in found
            if ticked and found.get("type") != "submit":
                self._open.fields.append(
                    (
                        found["name"],
                        found.get("value", "on")
                        if found.get("type") == "checkbox"
                        else found.get("value", ""),
                    )
                )
        elif tag == "textarea":
            self._area, self._text = found.get("name"), ""
        elif tag == "select":
            self._select, self._options = found.get("name"), []
        elif tag == "option" and self._select:
            self._options.append((found.get("value", ""), "selected" in found))

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        if self._open is None:
            return
        if tag == "textarea" and self._area is not None:
            self._open.fields.append((self._area, self._text.removeprefix("\n")))
            self._area = None
        elif tag == "select" and self._select is not None:
            chosen = [value for value, selected in self._options if selected]
            first = [value for value, _ in self._options]
            self._open.fields += [(self._select, value) for value in (chosen or first)[:1]]
            self._select = None


class Browser:
    """A person's browser, without script; `await browser.get(path)`, `.submit(page, action)`.

    `follow` says whether redirects are followed; each request carries what browsers send.
    """

    def __init__(self, app: Litestar, person: Person | None = None) -> None:
        transport = httpx.ASGITransport(app=cast("Any", app), raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE)
        if person is not None:
            # The standard library's jar calls a name without a dot by this longer one.
            self.client.cookies.set(COOKIE, person.token, domain="localhost.local", path="/")
        self.csrf = person.opened.csrf_token if person is not None else ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def get(
        self,
        path: str,
        *,
        follow: bool = False,
        fragment: bool = False,
        background: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Page:
        """Open an address; `fragment` as htmx asks, `background` as its polling does."""
        sent = {"Sec-Fetch-Site": "same-origin"} | (headers or {})
        if fragment or background:
            sent["HX-Request"] = "true"
        if background:
            sent["Counterfoil-Background"] = "true"
        return Page(await self.client.get(path, headers=sent, follow_redirects=follow))

    async def post(
        self,
        path: str,
        fields: dict[str, Any] | list[tuple[str, str]] | None = None,
        *,
        follow: bool = False,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        """Post fields as a page of ours would: same origin, and the session's token.

        `token=""` leaves the token out; `headers` replace those that a browser sends.
        """
        pairs = list((fields or {}).items()) if not isinstance(fields, list) else fields
        names = {name for name, _ in pairs}
        given = self.csrf if token is None else token
        if "csrf_token" not in names and given:
            pairs.append(("csrf_token", given))
        sent = {"Content-Type": "application/x-www-form-urlencoded"}
        sent |= {"Sec-Fetch-Site": "same-origin", "Origin": BASE} if headers is None else headers
        content = urlencode(pairs, doseq=True)
        answer = await self.client.post(
            path, content=content, headers=sent, follow_redirects=follow
        )
        return Page(answer)

    async def submit(
        self, page: Page, action: str = "", /, *, follow: bool = False, **changes: Any
    ) -> Page:
        """Fill in and send the form of a page whose action contains `action`.

        A list fills a field that may stand several times; None leaves a field out.
        """
        form = page.form(action, method="post")
        pairs = [pair for pair in form.fields if pair[0] not in changes]
        for name, value in changes.items():
            values = value if isinstance(value, list) else [value]
            pairs += [(name, str(one)) for one in values if one is not None]
        return await self.post(form.action or page.path, pairs, follow=follow, token="")

    async def submit_get(self, page: Page, action: str = "", /, **changes: Any) -> Page:
        """Fill in and send a form that asks by GET, such as filters."""
        form = page.form(action, method="get")
        pairs = [pair for pair in form.fields if pair[0] not in changes]
        pairs += [(name, str(value)) for name, value in changes.items() if value is not None]
        return await self.get(f"{form.action or page.path}?{urlencode(pairs)}")
