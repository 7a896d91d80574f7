"""What browsers report against our content security policy: logged in few words, and counted.

A report is an alarm (an injected script, a page of ours that breaks its own policy), and anybody
can send one. So it is small, few are taken, and nothing in it is believed or repeated whole: an
address of ours can be a secret (a checkout, a link of a letter), so only its first part is kept.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import structlog
from litestar import Request, Response, Router, post
from prometheus_client import CollectorRegistry, Counter

from app.accounts.throttling import address_scope
from app.errors import TooMany
from web.deps import UnsupportedMedia, client_address, read_json
from web.limits import Limiter

PATH = "/policy-reports"
BODY_BYTES = 16_384
MEDIA = ("application/csp-report", "application/reports+json")
MOST = 20  # Of one batch; a browser sends fewer.
_DIRECTIVES = frozenset(
    (
        "default-src script-src script-src-elem script-src-attr style-src style-src-elem "
        "style-src-attr img-src font-src connect-src media-src object-src frame-src child-src "
        "worker-src manifest-src base-uri form-action frame-ancestors"
    ).split()
)
_AREAS = frozenset("m admin account sign-in checkout link forgotten shops docs static".split())

log = structlog.get_logger(__name__)


class Reports:
    """Takes reports in: a few a minute from one network, and a few a second from everybody."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.of_one = Limiter(rate=0.5, burst=20)
        self.of_all = Limiter(rate=5, burst=100)
        self.counted = Counter(
            "counterfoil_policy_reports",
            "What browsers reported against the content security policy, by directive.",
            ["directive"],
            registry=registry,
        )

    async def let_in(self, address: str | None) -> None:
        """Raise TooMany for what is more than a person's browser sends."""
        for limiter, name in ((self.of_one, address_scope(address)), (self.of_all, "all")):
            verdict = await limiter.check(name)
            if not verdict.allowed:
                raise TooMany("Too many reports.", retry_after=verdict.reset)

    def note(self, report: dict[str, Any], address: str | None) -> None:
        """Log and count one report."""
        told = _text(report, "effective-directive", "effectiveDirective", "violated-directive")
        directive = told.split(" ")[0] if told.split(" ")[0] in _DIRECTIVES else "other"
        self.counted.labels(directive).inc()
        log.warning(
            "a browser reported a breach of the content security policy",
            kind=directive,
            path=_area(_text(report, "document-uri", "documentURL")),
            host=_origin(_text(report, "blocked-uri", "blockedURL")),
            address=address,
        )


def _text(report: dict[str, Any], *names: str) -> str:
    found = next((report[name] for name in names if report.get(name)), "")
    return found[:2000] if isinstance(found, str) else ""


def _area(url: str) -> str:
    """Return the first part of one of our paths, all that may be kept of it."""
    try:
        first = urlsplit(url).path.split("/")[1:2]
    except ValueError:
        return "other"
    return f"/{first[0]}" if first and first[0] in _AREAS else "other"


def _origin(url: str) -> str:
    """Return where something was to come from: a scheme, a host, or a word such as `inline`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "other"
    return (f"{parts.scheme}://{host}" if host else parts.scheme or url)[:100]


def _reports(sent: Any) -> Iterator[dict[str, Any]]:
    """Return the reports of a body, in the old form or the new."""
    if isinstance(sent, dict):
        yield from (one for one in [sent.get("csp-report")] if isinstance(one, dict))
    for one in sent[:MOST] if isinstance(sent, list) else []:
        if isinstance(one, dict) and one.get("type") == "csp-violation":
            body = one.get("body")
            yield body if isinstance(body, dict) else {}


@post(PATH, status_code=204, opt={"permission": "public"}, request_max_body_size=BODY_BYTES)
async def receive(request: Request[Any, Any, Any]) -> Response[None]:
    """Take reports of a browser. Raises TooMany, UnsupportedMedia, Invalid, TooLarge."""
    reports: Reports = request.app.state.reports
    address = client_address(request.scope)
    await reports.let_in(address)
    if request.content_type[0].lower() not in MEDIA:
        raise UnsupportedMedia(f"Send reports as {' or '.join(MEDIA)}.")
    for report in _reports(read_json(await request.body())):
        reports.note(report, address)
    return Response(None, status_code=204)


router = Router("/", route_handlers=[receive])
