"""System health: does money move, and where it waits; and letters that were written to files."""

import asyncio
import tomllib
from email import policy
from email.parser import BytesParser
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from app import mail
from app.errors import NotFound
from app.mail import MailFile
from app.risk import queries as risk
from app.risk.queries import ProviderState
from app.runtime import Runtime
from app.verification import health
from app.verification.health import Health, Sentence
from web.dashboard.access import Looking, Req
from web.dashboard.views import psp_name
from web.deps import runtime
from web.render import render

READ = {"permission": "admin:health"}
_QUEUES = {
    "psp": "Charges and refunds",
    "ledger": "Ledger",
    "inbox": "Messages from PSPs",
    "webhooks": "Messages to shops",
    "janitor": "Unknown outcomes",
    "mail": "E-mail",
}
_STEPS = {
    "charge": "Charge",
    "checkout": "Checkout page",
    "capture": "Capture",
    "void": "Cancel",
    "refund": "Refund",
    "lookup": "Look up",
}


_GATES = {
    "open": "Left alone",
    "half_open": "Being probed",
    "ramp": "Coming back",
}


class HealthPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows."""

    found: Health
    says: Sentence
    redis: bool
    database: str
    version: str
    queue_names: dict[str, str]
    step_names: dict[str, str]
    gate_names: dict[str, str]
    psp_names: dict[str, str]
    letters: list[MailFile]
    shows_letters: bool
    risk: ProviderState
    risk_host: str  # Of the provider; empty when the rule set alone decides.


@cache
def version() -> str:
    """Return the version that runs here."""
    path = Path(__file__).parents[2] / "pyproject.toml"
    return str(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"])


def _shows_letters(rt: Runtime) -> bool:
    """Tell whether letters lie in a folder of this machine; they hold links that sign in."""
    return rt.settings.mail_url is None and rt.settings.loopback


@get("/health", opt=READ)
async def show(request: Req, viewer: Looking) -> Response[str]:
    """Show how everything is doing; htmx gets the live part alone."""
    rt = runtime(request)
    redis = await request.app.state.limiter.alive()
    async with rt.sessions.read() as session:
        found = await health.health(session, now=rt.clock())
        state = await risk.provider_state(session, now=rt.clock())
    shows = _shows_letters(rt)
    letters: list[MailFile] = []
    if shows:
        letters = await asyncio.to_thread(mail.list_files, rt.settings.data_dir, limit=20)
    page = HealthPage(
        found=found,
        says=health.sentence(found, redis=redis),
        redis=redis,
        database="SQLite" if rt.settings.sqlite else "PostgreSQL",
        version=version(),
        queue_names=_QUEUES,
        step_names=_STEPS,
        gate_names=_GATES,
        psp_names={name: psp_name(rt.connections.psp_of(name)) for name in rt.connections},
        letters=letters,
        shows_letters=shows,
        risk=state,
        risk_host=urlsplit(rt.settings.risk_url or "").hostname or "",
    )
    return render(
        request,
        "health/index.html",
        fragment="health/_health.html",
        shell=viewer.shell("health"),
        mode=None,
        page=page,
    )


@get("/health/mail/{name:str}", opt=READ)
async def letter(request: Req, viewer: Looking, name: FromPath[str]) -> Response[str]:
    """Show one letter that was written to a file. Raises NotFound."""
    rt = runtime(request)
    if not _shows_letters(rt):
        raise NotFound
    files = await asyncio.to_thread(mail.list_files, rt.settings.data_dir)
    found = next((one for one in files if one.name == name), None)
    if found is None:
        raise NotFound
    text = await asyncio.to_thread(_text, Path(rt.settings.data_dir) / mail.FOLDER / found.name)
    return render(
        request,
        "health/mail.html",
        shell=viewer.shell("health"),
        mode=None,
        letter=found,
        text=text,
        links=[word for word in text.split() if word.startswith(f"{rt.settings.public_url}/")],
    )


def _text(path: Path) -> str:
    with path.open("rb") as file:
        message = BytesParser(policy=policy.default).parse(file)
    body = message.get_body(preferencelist=("plain",))
    return str(body.get_content()) if body is not None else ""
