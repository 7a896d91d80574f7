"""Decisions about many dead letters: a preview, a reason, and a second admin above a limit."""

from collections.abc import Awaitable
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.identity import SignInFailed
from app.deadletters import bulk, operations, processing, queries
from app.deadletters.bulk import Action, Plan
from app.deadletters.effect import of_retry
from app.deadletters.models import Approval
from app.deadletters.operations import ReasonTooShort, checked_reason
from app.deadletters.processing import Decided, LeftOut
from app.errors import Conflict, NotFound
from app.ids import is_id
from web.dashboard import admin_views, forms
from web.dashboard.access import Looking, Req, Viewer, step_up
from web.dashboard.admin_decisions import to
from web.dashboard.admin_letters import READ, look_up
from web.dashboard.admin_views import BASE, Line
from web.dashboard.forms import FINE, Faults, StepUp
from web.dashboard.views import psp_name
from web.deps import runtime
from web.render import render

WAITING = "/admin/approvals"
_SUMS = {"refund": "Sent back to customers", "capture": "Taken of what is held"}


class ManySent(StepUp):
    """The chosen letters and why they are decided."""

    letter: list[str] = msgspec.field(default_factory=list)
    why: str = ""


class Group(msgspec.Struct, kw_only=True):
    """Letters of a preview that have the same fate."""

    lines: list[Line] = []
    why: dict[str, str] = {}


class Preview(msgspec.Struct, kw_only=True):
    """What a decision about the chosen letters would do, and what it leaves out."""

    action: Action
    sent: Group
    closed: Group
    left: Group
    sums: list[tuple[str, list[tuple[int, str]]]]
    counts: list[tuple[str, int]]
    ledger_lines: int
    messages: int
    chosen: list[str]
    looking: int
    needs_second: bool

    @property
    def will_run(self) -> int:
        """How many will be decided."""
        return len(self.sent.lines) + len(self.closed.lines)


def _chosen(sent: list[str]) -> list[str]:
    return list(dict.fromkeys(one for one in sent if is_id(one, "job")))[: processing.MOST]


@get(["/dead-letters/retry", "/dead-letters/discard"], opt=READ)
async def preview(request: Req, viewer: Looking) -> Response[Any]:
    """Show what would happen to the chosen letters, and have the PSP asked about them."""
    chosen = _chosen(request.query_params.getall("letter", []))
    if not chosen:
        return to(BASE, "Choose letters first.")
    await look_up(request, chosen)
    return await _preview_page(request, viewer, _action(request), chosen, "", FINE)


def _action(request: Req) -> Action:
    return _read(request.scope["path"].rpartition("/")[2])


def _read(name: str) -> Action:
    return "discard" if name == "discard" else "retry"


async def _plan(request: Req, action: Action, chosen: list[str]) -> Plan:
    rt = runtime(request)
    async with rt.sessions.read() as session:
        letters = await queries.letters_of(session, job_ids=chosen)
    return bulk.plan(letters, action, now=rt.clock())


async def _preview_page(
    request: Req, viewer: Viewer, action: Action, chosen: list[str], why: str, wrong: Faults
) -> Response[str]:
    shown = _preview(request, action, await _plan(request, action, chosen))
    return render(
        request,
        "dead_letters/many.html",
        status_code=wrong.status,
        shell=viewer.shell("dead-letters"),
        mode=None,
        preview=shown,
        why=why,
        wrong=wrong,
        form_key=runtime(request).ids.token(16),
        fresh=viewer.is_confirmed(),
    )


def _preview(request: Req, action: Action, plan: Plan) -> Preview:
    rt = runtime(request)
    now, settings = rt.clock(), rt.settings
    sent, closed, left = Group(), Group(), Group()
    sums: dict[str, dict[str, int]] = {}
    ledger_lines = messages = 0
    for letter, verdict in plan.runs:
        (closed if verdict.says == "paid" else sent).lines.append(admin_views.line_of(letter, now))
        if money := bulk.in_question(letter, verdict):
            label = _SUMS.get(letter.effect or "", "Charged to customers")
            of = sums.setdefault(label if action == "retry" else "Given up", {})
            of[money[1]] = of.get(money[1], 0) + money[0]
        if action == "retry":
            psp = psp_name(letter.payment.psp) if letter.payment is not None else "The PSP"
            effect = of_retry(letter, verdict, psp=psp)
            ledger_lines += len(effect.lines)
            messages += len(effect.events)
    for letter, why in plan.left:
        left.lines.append(admin_views.line_of(letter, now))
        left.why[letter.job.id] = why
    every = [*(one for one, _ in plan.runs), *(one for one, _ in plan.left)]
    return Preview(
        action=action,
        sent=sent,
        closed=closed,
        left=left,
        sums=[(label, [(v, c) for c, v in sorted(of.items())]) for label, of in sums.items()],
        counts=sorted(plan.counts.items()),
        ledger_lines=ledger_lines,
        messages=messages,
        chosen=[letter.job.id for letter in every],
        looking=sum(letter.looking for letter in every),
        needs_second=bulk.needs_second(plan.sums, len(plan.runs), settings),
    )


@post(["/dead-letters/retry", "/dead-letters/discard"], opt=READ)
async def decide(request: Req, viewer: Looking) -> Response[Any]:
    """Decide about the chosen letters; a second press finds none of them.

    Above the limit the decision waits as a row for a second admin.
    """
    sent, action, rt = await forms.read(request, ManySent), _action(request), runtime(request)
    chosen = _chosen(sent.letter)
    plan = await _plan(request, action, chosen)
    try:
        why = checked_reason(sent.why, param="why")
        if bulk.needs_second(plan.sums, len(plan.runs), rt.settings):
            await step_up(request, viewer, sent)
            return await _ask(request, viewer, sent, action, plan, why)
    except (ReasonTooShort, SignInFailed) as refusal:
        wrong = forms.faults(refusal)
        return await _preview_page(request, viewer, action, chosen, sent.why, wrong)
    # Those alone whose sum was weighed: others may allow it a moment later, above the limit.
    weighed = [letter.job.id for letter, _ in plan.runs]
    done = await processing.decide_many(
        rt, actor=viewer.actor(request), action=action, job_ids=weighed, why=why, approved=True
    )
    others = dict.fromkeys(one for one in chosen if one not in weighed)
    left = [LeftOut(one, "It could not be done when the sum was weighed.") for one in others]
    return to(BASE, Decided(done.done, done.left_out + left).sentence(action))


async def _ask(
    request: Req, viewer: Viewer, sent: ManySent, action: Action, plan: Plan, why: str
) -> Response[Any]:
    rt = runtime(request)

    async def work(session: AsyncSession) -> str:
        made = await operations.ask_second(
            session, rt=rt, actor=viewer.actor(request), action=action, plan=plan, why=why
        )
        return made.id

    done = await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    return to(f"{WAITING}/{done.resource_id}", "A second admin must agree. Nothing is done yet.")


@get("/approvals/{approval_id:str}", opt=READ)
async def waiting(request: Req, viewer: Looking, approval_id: FromPath[str]) -> Response[Any]:
    """Show what a first admin asked for, with what is known now. Raises ApprovalUnknown."""
    found = await _approval(request, approval_id)
    if found.state == "waiting":
        await look_up(request, list(found.job_ids))
    return await _waiting_page(request, viewer, found, FINE)


async def _approval(request: Req, approval_id: str) -> Approval:
    if not is_id(approval_id, "apr"):
        raise NotFound
    async with runtime(request).sessions.read() as session:
        return await queries.approval(session, approval_id=approval_id)


async def _waiting_page(
    request: Req, viewer: Viewer, found: Approval, wrong: Faults
) -> Response[str]:
    plan = await _plan(request, _read(found.action), list(found.job_ids))
    return render(
        request,
        "dead_letters/approval.html",
        status_code=wrong.status,
        shell=viewer.shell("dead-letters"),
        mode=None,
        approval=found,
        mine=found.asked_by == viewer.user_id,
        preview=_preview(request, _read(found.action), plan),
        wrong=wrong,
        form_key=runtime(request).ids.token(16),
        fresh=viewer.is_confirmed(),
    )


@post(["/approvals/{approval_id:str}/agree", "/approvals/{approval_id:str}/refuse"], opt=READ)
async def answer(request: Req, viewer: Looking, approval_id: FromPath[str]) -> Response[Any]:
    """Agree as a second admin, or refuse; once. Raises ApprovalUnknown."""
    sent, rt = await forms.read(request, StepUp), runtime(request)
    found = await _approval(request, approval_id)
    agrees = request.scope["path"].endswith("/agree")
    try:
        if agrees:
            await step_up(request, viewer, sent)
        await forms.once(
            request,
            user_id=viewer.user_id,
            key=sent.form_key,
            work=lambda session: _answered(session, request, viewer, found, agrees=agrees),
        )
    except (SignInFailed, Conflict) as refusal:
        wrong = forms.faults(refusal)
        if isinstance(refusal, Conflict):
            wrong = Faults(text=refusal.detail, status=409)
        return await _waiting_page(request, viewer, await _approval(request, approval_id), wrong)
    if not agrees:
        return to(BASE, "Refused. Nothing was done.")
    done = await processing.carry_out(rt, actor=viewer.actor(request), approval_id=approval_id)
    return to(f"{WAITING}/{approval_id}", done)


async def _answered(
    session: AsyncSession, request: Req, viewer: Viewer, found: Approval, *, agrees: bool
) -> str:
    answered: Awaitable[Approval] = operations.answer_second(
        session,
        rt=runtime(request),
        actor=viewer.actor(request),
        approval_id=found.id,
        agrees=agrees,
    )
    return (await answered).id
