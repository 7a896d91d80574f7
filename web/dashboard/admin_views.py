"""Dead letters as pages show them: their words, faces, tries and what a look-up said."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncSession

from app.deadletters import bulk, queries, work
from app.deadletters.effect import Effect, of_retry
from app.deadletters.queries import Alike
from app.deadletters.verdict import Letter, Verdict, asks_psp, judge, weigh
from app.jobs import Job
from app.payments import queries as payments
from app.payments.models import Attempt, PspCall
from app.psp.port import KEPT
from app.runtime import Runtime
from app.timeline import queries as timeline
from app.timeline.schemas import Moment
from app.webhooks import queries as webhooks
from web.dashboard.access import Viewer
from web.dashboard.views import name_of, psp_name
from web.render.badges import BADGES
from web.render.pages import badge, pill

BASE = "/admin/dead-letters"
SAYS = ("safe", "paid", "declined", "unknown", "review")
_TONES = {
    "safe": "ok",
    "paid": "info",
    "declined": "bad",
    "unknown": "odd",
    "review": "wait",
    "looking_up": "quiet",
}
_ICONS = {"review": "user-exclamation"}
_MONEY = frozenset({"charge", "capture", "checkout"})
_OUTCOMES = {
    "succeeded": "It happened",
    "authorized": "The money is held",
    "open": "The page is open, not paid yet",
    "next": "Begun, but without effect so far",
    "pending": "The PSP decides later",
    "closed": "Closed, nobody can pay it",
    "declined": "Declined",
    "rejected": "Refused",
    "not_found": "Not found",
    "mismatch": "Something else than we asked for",
    "not_sent": "The question never left us",
    "unauthorized": "The PSP does not accept our credential",
    "busy": "The PSP is busy",
    "unknown": "No answer that we can read",
}
_TRIES = {
    "failed": ("wait", "rotate-clockwise", "It failed, to be tried again by itself"),
    "postponed": ("quiet", "clock", "Put off"),
    "buried": ("bad", "inbox-off", "Stopped"),
    "retried": ("info", "rotate-clockwise", "Started again by a person"),
    "discarded": ("quiet", "trash", "Given up by a person"),
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in a list."""

    job: Job
    title: str
    says: Markup
    amount: int | None
    currency: str
    shop: str
    why: str
    waits: float
    livemode: bool | None


class Try(msgspec.Struct, frozen=True):
    """One line of a job's own history."""

    at: datetime
    tone: str
    icon: str
    title: str
    text: str


class Look(msgspec.Struct, frozen=True):
    """What the last look-up at the PSP said."""

    at: datetime
    words: str
    number: int


class Key(msgspec.Struct, frozen=True):
    """A key at the PSP: when it was first sent, its age and what is left of its time, in s."""

    text: str
    sent_at: datetime
    age: float
    left: float
    ends_at: datetime


class LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """One letter, with all that its page says about it."""

    line: Line
    letter: Letter
    verdict: Verdict
    tone: str
    icon: str
    state: Markup
    does: str
    effect: Effect
    urls: list[str]
    look: Look | None
    psp: str | None
    asks: bool
    needs_second: bool
    key: Key | None
    tries: list[Try]
    moments: list[Moment]
    alike: Alike
    payment_address: str | None
    address: str
    cursor: str

    @property
    def looking(self) -> bool:
        """Whether the PSP's answer is awaited."""
        return self.is_dead and self.letter.looking

    @property
    def is_dead(self) -> bool:
        """Whether somebody has to decide."""
        return self.letter.job.state == "dead"


def line_of(letter: Letter, now: datetime) -> Line:
    """Return a letter as a list shows it."""
    job, payment, attempt = letter.job, letter.payment, letter.attempt
    name = work.name_of(job, attempt)
    about = name_of(payment) if payment is not None else f"…{job.id[-6:]}"
    return Line(
        job=job,
        title=f"{name} {about}",
        says=says_badge(letter, judge(letter)),
        amount=letter.amount if payment is not None else None,
        currency=payment.currency if payment is not None else "",
        shop=letter.merchant.name if letter.merchant is not None else "The platform",
        why=job.reason or _last_why(job),
        waits=(now - (job.finished_at or job.created_at)).total_seconds(),
        livemode=job.livemode,
    )


def _last_why(job: Job) -> str:
    return str(job.history[-1].get("why", "")) if job.history else ""


def says_badge(letter: Letter, verdict: Verdict) -> Markup:
    """Return the badge of what is known about a letter."""
    if verdict.says == "review":
        return pill("wait", "user-exclamation", "Needs review")
    if verdict.says == "safe" and letter.effect is None:
        return pill("ok", "rotate-clockwise", "Safe to run")
    if verdict.says == "declined":
        return badge("verdict", "declined", "Nothing to send")
    if verdict.says == "paid" and letter.effect not in _MONEY:
        return badge("verdict", "paid", "Already done")
    return badge("verdict", verdict.says)


def state_badge(job: Job, now: datetime) -> Markup:
    """Return the badge of a job's state now."""
    state = job.state
    if state == "due" and job.owner is not None:
        state = "running"
    elif state == "due" and job.run_at > now:
        state = "postponed"
    return badge("job", state)


async def load(session: AsyncSession, *, rt: Runtime, viewer: Viewer, job_id: str) -> LetterPage:
    """Read a letter's page. Raises LetterUnknown."""
    letter = await queries.letter(session, job_id=job_id)
    job, now = letter.job, rt.clock()
    verdict = weigh(letter, now=now)
    psp = psp_name(letter.payment.psp) if letter.payment is not None else None
    calls, moments = await _story(session, rt, letter)
    effect = of_retry(letter, verdict, psp=psp or "The PSP")
    money = bulk.in_question(letter, verdict)
    return LetterPage(
        line=line_of(letter, now),
        letter=letter,
        verdict=verdict,
        tone=_TONES[verdict.says],
        icon=_ICONS.get(verdict.says) or BADGES["verdict"][verdict.says].icon,
        state=state_badge(job, now),
        does=work.kind_of(job.kind).does,
        effect=effect,
        urls=await _urls(session, letter, effect),
        look=_look(letter, calls),
        psp=psp,
        asks=asks_psp(letter),
        needs_second=money is not None and bulk.needs_second([money], 1, rt.settings),
        key=key_of(rt, letter.attempt, calls),
        tries=[_try(line) for line in job.history or []],
        moments=moments,
        alike=await queries.alike(session, job=job),
        payment_address=_payment_address(viewer, letter),
        address=f"{BASE}/{job.id}",
        cursor=await cursor(session, letter=letter),
    )


async def _story(
    session: AsyncSession, rt: Runtime, letter: Letter
) -> tuple[Sequence[PspCall], list[Moment]]:
    if letter.payment is None:
        return [], []
    of: dict[str, Any] = {
        "merchant_id": letter.payment.merchant_id,
        "livemode": letter.payment.livemode,
        "payment_id": letter.payment.id,
    }
    _, calls = await payments.attempts_and_calls(session, **of)
    return calls, await timeline.story(session, rt=rt, **of)


def _look(letter: Letter, calls: Sequence[PspCall]) -> Look | None:
    attempt = letter.attempt
    looks = [
        call
        for call in calls
        if call.kind == "lookup" and attempt is not None and call.attempt_id == attempt.id
        if call.outcome != KEPT
    ]
    if not looks:
        return None
    last = looks[-1]
    return Look(last.finished_at or last.started_at, outcome_words(last.outcome), len(looks))


def outcome_words(outcome: str | None) -> str:
    """Return what a look-up said, in words."""
    return _OUTCOMES.get(outcome or "", "No answer yet")


def key_of(rt: Runtime, attempt: Attempt | None, calls: Sequence[PspCall]) -> Key | None:
    """Return the key of an attempt at its PSP with its age; None when nothing was sent."""
    asked = [c for c in calls if c.key and c.outcome != KEPT]
    mine = [c for c in asked if attempt is not None and c.attempt_id == attempt.id]
    if attempt is None or not mine:
        return None
    known = attempt.connection_id in set(rt.connections)
    window = rt.psp(attempt.connection_id).key_window if known else timedelta()
    sent, age = mine[0].started_at, (rt.clock() - mine[0].started_at).total_seconds()
    left = max(window.total_seconds() - age, 0.0)
    return Key(mine[-1].key or "", sent, age, left, sent + window)


def _try(line: dict[str, Any]) -> Try:
    tone, icon, title = _TRIES.get(line["what"], ("quiet", "clock", str(line["what"])))
    number = f"Try {line['try']}: " if line.get("try") else ""
    title = f"{number}{title[0].lower()}{title[1:]}" if number else title
    at = datetime.fromisoformat(line["at"])
    return Try(at, tone, icon, title, str(line.get("why") or ""))


async def _urls(session: AsyncSession, letter: Letter, effect: Effect) -> list[str]:
    job = letter.job
    if not effect.events or job.merchant_id is None or job.livemode is None:
        return []
    page = await webhooks.endpoints(session, merchant_id=job.merchant_id, livemode=job.livemode)
    return [
        one.url
        for one in page.data
        if one.status != "disabled"
        and (not one.event_types or set(effect.events) & set(one.event_types))
    ]


def _payment_address(viewer: Viewer, letter: Letter) -> str | None:
    payment = letter.payment
    if payment is None or payment.merchant_id not in viewer.identity.memberships:
        return None
    mode = "live" if payment.livemode else "test"
    return f"/m/{payment.merchant_id}/{mode}/payments/{payment.id}"


async def cursor(session: AsyncSession, *, letter: Letter) -> str:
    """Return a short text that is another one as soon as the letter's page would be."""
    job = letter.job
    own = f"{job.id}~{job.state}.{job.fence}.{len(job.history or [])}.{int(bool(job.owner))}"
    if letter.payment is None:
        return own
    seen = await timeline.payment_cursor(
        session,
        merchant_id=letter.payment.merchant_id,
        livemode=letter.payment.livemode,
        payment_id=letter.payment.id,
    )
    return f"{own}.{seen}"
