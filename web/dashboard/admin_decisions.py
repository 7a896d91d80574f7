"""What an admin decides about one dead letter: retry, discard, look again."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from app.deadletters import operations
from app.deadletters.queries import LetterUnknown
from app.errors import Conflict, Problem
from app.ids import is_id
from web.dashboard import forms
from web.dashboard.access import Looking, Req
from web.dashboard.admin_letters import READ, letter_answer
from web.dashboard.admin_views import BASE
from web.dashboard.forms import Faults, Sent
from web.deps import runtime
from web.render import with_toast


class DiscardSent(Sent):
    """The discard form."""

    reason: str = ""


def checked(job_id: str) -> str:
    """Return what can be a job's id. Raises LetterUnknown."""
    if not is_id(job_id, "job"):
        raise LetterUnknown("There is no such dead letter.")
    return job_id


def to(path: str, said: str) -> Response[Any]:
    """Go to a page and say something there."""
    answer: Response[Any] = Redirect(path, status_code=303)
    with_toast(answer, said)
    return answer


@post("/dead-letters/{job_id:str}/retry", opt=READ)
async def retry(request: Req, viewer: Looking, job_id: FromPath[str]) -> Response[Any]:
    """Retry one letter, once however often it is pressed. Raises LetterUnknown."""
    sent, rt = await forms.read(request, Sent), runtime(request)

    async def work(session: AsyncSession) -> str:
        job = await operations.retry(
            session, rt=rt, actor=viewer.actor(request), job_id=checked(job_id)
        )
        return job.id

    try:
        await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    except Conflict as refusal:
        wrong = Faults(text=refusal.detail, status=409)
        return await letter_answer(request, viewer, job_id, wrong=wrong)
    return to(f"{BASE}/{job_id}", "Retried. What comes of it shows here.")


@post("/dead-letters/{job_id:str}/look", opt=READ)
async def look(request: Req, viewer: Looking, job_id: FromPath[str]) -> Response[Any]:
    """Have a worker ask the PSP now. Raises LetterUnknown."""
    await forms.read(request, Sent)
    rt = runtime(request)
    try:
        async with rt.sessions.begin() as session:
            await operations.look_again(session, rt=rt, job_id=checked(job_id))
    except Conflict as refusal:
        wrong = Faults(text=refusal.detail, status=409)
        return await letter_answer(request, viewer, job_id, wrong=wrong)
    return to(f"{BASE}/{job_id}", "We ask the PSP now. The answer shows here.")


@get("/dead-letters/{job_id:str}/discard", opt=READ)
async def discard_form(request: Req, viewer: Looking, job_id: FromPath[str]) -> Response[str]:
    """Show the discard dialog in a page of its own. Raises LetterUnknown."""
    return await letter_answer(request, viewer, job_id, opened=True)


@post("/dead-letters/{job_id:str}/discard", opt=READ)
async def discard(request: Req, viewer: Looking, job_id: FromPath[str]) -> Response[Any]:
    """Give one letter up, with a reason. Raises LetterUnknown."""
    sent, rt = await forms.read(request, DiscardSent), runtime(request)

    async def work(session: AsyncSession) -> str:
        job = await operations.discard(
            session,
            rt=rt,
            actor=viewer.actor(request),
            job_id=checked(job_id),
            why=sent.reason,
        )
        return job.id

    try:
        await forms.once(request, user_id=viewer.user_id, key=sent.form_key, work=work)
    except Conflict as refusal:
        wrong = Faults(text=refusal.detail, status=409)
        return await letter_answer(request, viewer, job_id, wrong=wrong)
    except Problem as problem:
        wrong = forms.faults(problem)
        return await letter_answer(
            request, viewer, job_id, wrong=wrong, why=sent.reason, opened=True
        )
    return to(f"{BASE}/{job_id}", "Discarded. It stays here to be read.")
