"""The review desk: what waits for a person, its evidence, and how it is closed."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.identity import SignInFailed
from app.desk import operations, queries
from app.desk.finding import answers
from app.desk.operations import ReviewUnknown
from app.desk.queries import Item
from app.errors import Conflict, Refused
from app.ids import is_id
from app.psp.port import KEPT
from app.timeline import queries as timeline
from app.timeline.schemas import Moment
from web.dashboard import forms
from web.dashboard.access import Looking, Req, Viewer, step_up
from web.dashboard.admin_views import Key, key_of, outcome_words
from web.dashboard.forms import FINE, Faults, Sent, StepUp
from web.dashboard.views import name_of, psp_name
from web.deps import runtime
from web.render import render, with_toast

BASE = "/admin/reviews"
READ = {"permission": "admin:reviews"}
PAGE = 50
KINDS = {
    "unknown_outcome": "Outcome unknown",
    "mismatch": "Does not fit",
    "unexpected_receipt": "Unexpected money",
}
_CHOICES = {
    "happened": "It happened at the PSP",
    "otherwise": "It happened with another amount",
    "did_not_happen": "It did not happen",
    "refunded": "The money was refunded at the PSP",
}
_DID = {
    "charge": "Charge",
    "checkout": "Checkout page",
    "capture": "Capture",
    "void": "Cancel",
    "refund": "Refund",
}


class DecisionSent(StepUp):
    """What a person says about an item."""

    version: str = ""
    decision: str = ""
    evidence: str = ""
    confirmed: str = ""
    reason: str = ""


class AnswerSent(StepUp):
    """A second person's answer."""

    version: str = ""


class ReviewPage(msgspec.Struct, frozen=True, kw_only=True):
    """One item, with all that its page says about it."""

    item: Item
    title: str
    kind: str
    psp: str
    request: list[tuple[str, Any]]
    said: str | None
    said_at: Any
    key: Key | None
    choices: list[tuple[str, str]]
    decided: str | None
    moments: list[Moment]
    address: str
    mine: bool
    needs_second: bool


def title_of(item: Item) -> str:
    """Return what an item is called: its work and its payment."""
    return f"{_DID.get(item.attempt.kind, item.attempt.kind)} {name_of(item.payment)}"


@get("/reviews", opt=READ)
async def listing(request: Req, viewer: Looking) -> Response[str]:
    """List review items, open ones unless closed ones are asked for."""
    sent = request.query_params
    state = "closed" if sent.get("state") == "closed" else "open"
    kind = sent.get("kind") if sent.get("kind") in KINDS else None
    after, before = _cursor(sent.get("after")), _cursor(sent.get("before"))
    async with runtime(request).sessions.read() as session:
        found, more = await queries.items(
            session,
            state=state,
            kind=kind,
            limit=PAGE,
            starting_after=after if not before else None,
            ending_before=before,
        )
        counts = await queries.counts(session)
    kept = "".join(f"{name}={text}&" for name, text in (("state", state), ("kind", kind)) if text)
    first, last = (found[0].review.id, found[-1].review.id) if found else ("", "")
    return render(
        request,
        "desk/index.html",
        shell=viewer.shell("desk"),
        mode=None,
        lines=[(one, title_of(one), KINDS[one.review.kind]) for one in found],
        tabs=_tabs(state, kind, counts),
        state=state,
        newer=f"{BASE}?{kept}before={first}" if found and (more if before else after) else "",
        older=f"{BASE}?{kept}after={last}" if found and (before or more) else "",
    )


def _cursor(text: str | None) -> str | None:
    return text if text and is_id(text, "rev") else None


def _tabs(state: str, kind: str | None, counts: dict[str, int]) -> list[dict[str, Any]]:
    tabs = [
        {
            "label": "All open",
            "href": BASE,
            "current": state == "open" and kind is None,
            "count": sum(counts.values()),
        }
    ]
    tabs += [
        {
            "label": label,
            "href": f"{BASE}?kind={key}",
            "current": state == "open" and kind == key,
            "count": counts.get(key, 0),
            "tone": "wait",
        }
        for key, label in KINDS.items()
    ]
    closed = {"label": "Closed", "href": f"{BASE}?state=closed", "current": state == "closed"}
    return [*tabs, closed]


@get("/reviews/{review_id:str}", opt=READ)
async def show(request: Req, viewer: Looking, review_id: FromPath[str]) -> Response[str]:
    """Show one item; htmx gets its live part alone. Raises ReviewUnknown."""
    return await _page(request, viewer, review_id)


async def _page(
    request: Req,
    viewer: Viewer,
    review_id: str,
    *,
    wrong: Faults = FINE,
    sent: DecisionSent | None = None,
) -> Response[str]:
    rt = runtime(request)
    async with rt.sessions.read() as session:
        item = await queries.item(session, review_id=_checked(review_id))
        moments = await timeline.story(
            session,
            rt=rt,
            merchant_id=item.payment.merchant_id,
            livemode=item.payment.livemode,
            payment_id=item.payment.id,
        )
    return render(
        request,
        "desk/review.html",
        fragment="desk/_review.html" if wrong is FINE else None,
        status_code=wrong.status,
        shell=viewer.shell("desk"),
        mode="live" if item.review.livemode else "test",
        page=_shown(request, viewer, item, moments),
        sent=sent or DecisionSent(),
        wrong=wrong,
        form_key=rt.ids.token(16),
        fresh=viewer.is_confirmed(),
    )


def _checked(review_id: str) -> str:
    if not is_id(review_id, "rev"):
        raise ReviewUnknown("There is no such review item.")
    return review_id


def _shown(request: Req, viewer: Viewer, item: Item, moments: Sequence[Moment]) -> ReviewPage:
    rt, review, attempt = runtime(request), item.review, item.attempt
    told = [call for call in item.calls if call.outcome not in {None, KEPT}]
    looks = [call for call in told if call.kind == "lookup"]
    psp = psp_name(item.payment.psp)
    return ReviewPage(
        item=item,
        title=title_of(item),
        kind=KINDS[review.kind],
        psp=psp,
        request=[
            ("We asked for", _DID.get(attempt.kind, attempt.kind)),
            ("First sent", attempt.first_sent_at),
            ("Reference at the PSP", attempt.psp_reference or attempt.session_reference),
        ],
        said=outcome_words(looks[-1].outcome) if looks else None,
        said_at=looks[-1].finished_at if looks else None,
        key=key_of(rt, attempt, item.calls),
        choices=[(key, _CHOICES[key]) for key in answers(review.kind, attempt.kind)],
        decided=_CHOICES.get(review.decision or ""),
        moments=list(moments),
        address=f"{BASE}/{review.id}",
        mine=review.decided_by == viewer.user_id,
        # What has gone back is a fact, to which nobody needs to agree.
        needs_second=review.kind != "unexpected_receipt"
        and max(review.amount, attempt.amount) > rt.settings.second_person_above,
    )


@post("/reviews/{review_id:str}/look", opt=READ)
async def look(request: Req, viewer: Looking, review_id: FromPath[str]) -> Response[Any]:
    """Have a worker ask the PSP now. Raises ReviewUnknown."""
    del viewer
    await forms.read(request, Sent)
    rt = runtime(request)
    try:
        async with rt.sessions.begin() as session:
            await operations.look(session, rt=rt, review_id=_checked(review_id))
    except Conflict as refusal:
        return _to(f"{BASE}/{review_id}", refusal.detail)
    return _to(f"{BASE}/{review_id}", "We ask the PSP now. The answer shows here.")


def _to(path: str, said: str) -> Response[Any]:
    answer: Response[Any] = Redirect(path, status_code=303)
    with_toast(answer, said)
    return answer


@post("/reviews/{review_id:str}/decide", opt=READ)
async def decide(request: Req, viewer: Looking, review_id: FromPath[str]) -> Response[Any]:
    """Note what a person says; a worker compares it with the PSP's word. Raises ReviewUnknown."""
    sent, rt = await forms.read(request, DecisionSent), runtime(request)

    async def work(session: AsyncSession) -> str:
        review = await operations.decide(
            session,
            rt=rt,
            actor=viewer.actor(request),
            review_id=_checked(review_id),
            version=_version(sent.version),
            decision=sent.decision,
            evidence=sent.evidence,
            reason=sent.reason,
            confirmed=sent.confirmed == "on",
        )
        return review.id

    try:
        await step_up(request, viewer, sent)
        await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    except Conflict as refusal:
        wrong = Faults(text=refusal.detail, status=409)
        return await _page(request, viewer, review_id, wrong=wrong, sent=sent)
    except (SignInFailed, Refused) as refusal:
        wrong = forms.faults(refusal)
        return await _page(request, viewer, review_id, wrong=wrong, sent=sent)
    return _to(f"{BASE}/{review_id}", "We compare that with the PSP now. The answer shows here.")


def _version(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


@post(["/reviews/{review_id:str}/agree", "/reviews/{review_id:str}/refuse"], opt=READ)
async def answer(request: Req, viewer: Looking, review_id: FromPath[str]) -> Response[Any]:
    """Agree as a second person, or refuse. Raises ReviewUnknown."""
    sent, rt = await forms.read(request, AnswerSent), runtime(request)
    agrees = request.scope["path"].endswith("/agree")

    async def work(session: AsyncSession) -> str:
        act = operations.agree if agrees else operations.take_back
        review = await act(
            session,
            rt=rt,
            actor=viewer.actor(request),
            review_id=_checked(review_id),
            version=_version(sent.version),
        )
        return review.id

    try:
        if agrees:
            await step_up(request, viewer, sent)
        await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    except Conflict as refusal:
        wrong = Faults(text=refusal.detail, status=409)
        return await _page(request, viewer, review_id, wrong=wrong)
    except SignInFailed as refusal:
        return await _page(request, viewer, review_id, wrong=forms.faults(refusal))
    said = "Agreed. The PSP is asked once more." if agrees else "Refused. Nothing was done."
    return _to(f"{BASE}/{review_id}", said)
