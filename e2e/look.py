"""Looking at a page as a strict reader: axe, both themes, both widths, and its frame."""

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request, ViewportSize

from e2e.places import Place

AXE = Path(__file__).parent / "axe" / "axe-4.14.1.min.js"
WIDE = ViewportSize(width=1440, height=900)
NARROW = ViewportSize(width=390, height=844)
_POLICY = ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'")
_GRAVE = ("serious", "critical")
_CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
_RUN = """async (options) => (await axe.run(document, {...options, resultTypes: ['violations']}))
  .violations.map(({impact, id, nodes}) => ({impact, id, nodes: nodes.slice(0, 3).map(
    (node) => `${node.html.slice(0, 200)} (${node.any[0]?.message ?? ''})`)}))"""
_DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_FRAME = """() => ({
  headings: document.querySelectorAll('h1').length,
  title: document.title,
  language: document.documentElement.lang,
  first: document.querySelector('a, button, input')?.getAttribute('href'),
  target: Boolean(document.querySelector('main#main')),
  beyond: document.documentElement.scrollWidth - window.innerWidth,
})"""


class Reader:
    """A browser that notes whatever is wrong with the pages that it is shown."""

    def __init__(self, browser: Browser, *origins: str, **options: Any) -> None:
        """Open a window; `origins` are the only places that its pages may ask for anything."""
        options = {"viewport": WIDE, "reduced_motion": "reduce"} | options
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.name = ""
        self._expected = 200
        self._origins = origins
        self.page.on("request", self._asks)
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self._note(f"script error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("dialog", self._asked)

    def _note(self, text: str) -> None:
        self.wrong.append(f"{self.name}: {text}")

    def _heard(self, kind: str, text: str) -> None:
        refused = "Failed to load resource" in text and self._expected != 200
        if kind in {"error", "warning"} and not refused:
            self._note(f"console {kind}: {text}")

    def _asks(self, request: Request) -> None:
        if self._origins and not request.url.startswith(self._origins):
            self._note(f"asked {request.url}")

    def _failed(self, request: Request) -> None:
        # A page that is left takes its open requests with it.
        if request.failure != "net::ERR_ABORTED":
            self._note(f"no answer from {request.url}: {request.failure}")

    def _asked(self, dialog: Dialog) -> None:
        self._note(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, place: Place) -> None:
        """Open a page and hold its status."""
        self.name, self._expected = place.name, place.status
        answer = self.page.goto(place.url)
        if answer is None or answer.status != place.status:
            self._note(f"answered {answer and answer.status}, not {place.status}")
        policy = answer.headers.get("content-security-policy", "") if answer else ""
        if not all(part in policy for part in _POLICY) or "unsafe" in policy:
            self._note(f"has the policy {policy!r}")

    def look(self, name: str = "", *, ours: bool = True, brief: bool = False) -> None:
        """Judge the page that is open, light and wide, then dark and narrow; brief: dark only."""
        self.name = name or self.name
        self.page.evaluate(AXE.read_text())
        if not brief:
            self._axe("light, wide", {})
        self.page.emulate_media(color_scheme="dark")
        self.page.set_viewport_size(NARROW)
        self.page.evaluate(_DRAWN)  # Half in the new theme, a page has colours that nobody sees.
        self._axe("dark, narrow", {})
        self._frame(ours=ours)
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size(WIDE)

    def look_as_chosen(self) -> None:
        """Judge the colours of the page for who chose the dark theme on a light device.

        The choice is an attribute, which the style sheets know beside the device's wish.
        """
        self.page.evaluate("document.documentElement.dataset.bsTheme = 'dark'")
        self._axe("dark by choice", _CONTRAST)

    def _axe(self, how: str, options: dict[str, Any]) -> None:
        for found in self.page.evaluate(_RUN, options):
            if found["impact"] in _GRAVE:
                self._note(f"({how}) {found['impact']} {found['id']}: {json.dumps(found['nodes'])}")

    def _frame(self, *, ours: bool) -> None:
        frame = self.page.evaluate(_FRAME)
        if frame["headings"] != 1:
            self._note(f"{frame['headings']} headings of the first level")
        if frame["beyond"] > 0:
            self._note(f"scrolls {frame['beyond']} pixels sideways at 390")
        if not frame["title"] or not frame["language"]:
            self._note("no title or no language")
        if ours and (frame["first"], frame["target"]) != ("#main", True):
            self._note("no skip link to the content")
