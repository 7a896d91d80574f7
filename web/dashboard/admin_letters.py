"""Dead letters of all shops: the list, one letter, and what changed since they were shown."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.params import FromPath
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import to_micros
from app.deadletters import operations, queries, work
from app.deadletters.queries import Letters, LetterUnknown, Wanted
from app.deadletters.verdict import is_fresh, judge
from app.ids import is_id
from app.jobs import Job
from web.dashboard import admin_views
from web.dashboard.access import Looking, Req, Viewer
from web.dashboard.admin_views import BASE, SAYS, LetterPage, Line
from web.dashboard.forms import FINE, Faults
from web.dashboard.views import psp_name
from web.deps import check_text, runtime
from web.render import is_fragment, render

PAGE = 50
READ = {"permission": "admin:deadletters"}
_AGES = {
    "hour": ("longer than an hour", timedelta(hours=1)),
    "day": ("longer than a day", timedelta(days=1)),
    "week": ("longer than a week", timedelta(days=7)),
}
_FIELDS = ("says", "kind", "merchant", "psp", "age", "cause")
_TABS = {
    "": ("All", "quiet"),
    "safe": ("Safe to send", "ok"),
    "paid": ("Already done", "info"),
    "declined": ("Nothing to send", "bad"),
    "unknown": ("Still unknown", "odd"),
    "review": ("Needs review", "wait"),
}


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What the list's page shows."""

    lines: list[Line]
    tabs: list[dict[str, Any]]
    chips: list[dict[str, str]]
    add: list[tuple[str, str]]
    options: dict[str, list[tuple[str, str]]]
    fields: dict[str, str]
    newer: str
    older: str
    capped: bool
    filtered: bool

    def kept(self, own: str) -> list[tuple[str, str]]:
        """Return the filters that stay when the filter `own` is set anew."""
        return [(name, value) for name, value in self.fields.items() if name != own]


def _read(sent: Mapping[str, str]) -> dict[str, str]:
    """Return the filters of the address that mean something; others are left out."""
    fields = {name: sent[name] for name in _FIELDS if sent.get(name)}
    check_text("".join(fields.values()))
    if fields.get("says") not in SAYS:
        fields.pop("says", None)
    if fields.get("kind") not in work.GROUPS:
        fields.pop("kind", None)
    if fields.get("age") not in _AGES:
        fields.pop("age", None)
    if not is_id(fields.get("merchant", ""), "mer"):
        fields.pop("merchant", None)
    return fields


def _wanted(fields: Mapping[str, str]) -> Wanted:
    age = fields.get("age")
    return Wanted(
        group=fields.get("kind"),
        merchant_id=fields.get("merchant"),
        psp=fields.get("psp"),
        cause=fields.get("cause"),
        older_than=_AGES[age][1] if age else None,
        says=fields.get("says"),
    )


def address(fields: Mapping[str, str], **changes: str | None) -> str:
    """Return the list's address with changes to its filters."""
    kept = {name: value for name, value in {**fields, **changes}.items() if value}
    return f"{BASE}?{urlencode(kept)}" if kept else BASE


@get("/dead-letters", opt=READ)
async def listing(request: Req, viewer: Looking) -> Response[str]:
    """List dead letters; htmx gets the list alone."""
    sent = dict(request.query_params)
    fields = _read(sent)
    rt = runtime(request)
    after, before = sent.get("after"), sent.get("before")
    async with rt.sessions.read() as session:
        found = await queries.dead_letters(
            session,
            wanted=_wanted(fields),
            now=rt.clock(),
            limit=PAGE,
            starting_after=after if not before else None,
            ending_before=before,
        )
        shops = await queries.merchants_with_letters(session)
        waiting = await queries.approvals(session)
        seen = await list_cursor(session)
    made = _listing(found, fields, shops, now=rt.clock(), after=after, before=before)
    return render(
        request,
        "dead_letters/index.html",
        fragment="dead_letters/_list.html",
        shell=viewer.shell("dead-letters"),
        mode=None,
        listing=made,
        waiting=waiting,
        cursor=seen,
    )


def _listing(
    found: Letters,
    fields: dict[str, str],
    shops: list[tuple[str, str]],
    *,
    now: Any,
    after: str | None,
    before: str | None,
) -> Listing:
    lines = [admin_views.line_of(letter, now) for letter in found.letters]
    first, last = (lines[0].job.id, lines[-1].job.id) if lines else ("", "")
    newer = found.has_more if before else bool(after)
    older = True if before else found.has_more
    options = {
        "kind": list(work.GROUPS.items()),
        "merchant": shops,
        "psp": [(name, psp_name(name)) for name in ("sandbox", "stripe")],
        "age": [(key, words.capitalize()) for key, (words, _) in _AGES.items()],
    }
    labels = {"kind": "Kind", "merchant": "Shop", "psp": "PSP", "age": "Waiting"}
    return Listing(
        lines=lines,
        tabs=_tabs(fields, found.counts),
        chips=_chips(fields, options, labels),
        add=[(key, label) for key, label in labels.items() if key not in fields],
        options=options,
        fields=fields,
        newer=address(fields, before=first) if newer and first else "",
        older=address(fields, after=last) if older and last else "",
        capped=found.capped,
        filtered=bool(fields),
    )


def _tabs(fields: dict[str, str], counts: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "href": address(fields, says=key),
            "current": fields.get("says", "") == key,
            "count": counts.get(key, 0) if key else sum(counts.values()),
            "tone": tone,
        }
        for key, (label, tone) in _TABS.items()
        if key in {"", "safe", "unknown", fields.get("says")} or counts.get(key)
    ]


def _chips(
    fields: dict[str, str], options: dict[str, list[tuple[str, str]]], labels: dict[str, str]
) -> list[dict[str, str]]:
    made = [
        (labels[key], dict(options[key]).get(fields[key], fields[key]), key)
        for key in labels
        if key in fields
    ]
    if "cause" in fields:
        made.append(("Cause", fields["cause"], "cause"))
    changes: list[dict[str, str]] = []
    for label, text, key in made:
        changes.append({"label": label, "text": text, "remove": address(fields, **{key: None})})
    return changes


@get("/dead-letters/{job_id:str}", opt=READ)
async def show(request: Req, viewer: Looking, job_id: FromPath[str]) -> Response[str]:
    """Show one letter; htmx gets its live part alone. Raises LetterUnknown.

    Who opens it wants to decide, so a worker is asked to look at the PSP, unless that is fresh.
    """
    if is_id(job_id, "job") and not is_fragment(request):
        await look_up(request, [job_id])
    return await letter_answer(request, viewer, job_id)


async def look_up(request: Req, job_ids: list[str]) -> None:
    """Have a worker ask the PSP about the letters whose look-up is not fresh."""
    rt = runtime(request)
    async with rt.sessions.read() as session:
        letters = await queries.letters_of(session, job_ids=job_ids)
    letters = [one for one in letters if not one.looking and not is_fresh(one, rt.clock())]
    if not any(judge(one).says in {"safe", "unknown"} for one in letters):
        return
    async with rt.sessions.begin() as session:
        for letter in letters:
            await operations.ask_psp(session, rt=rt, letter=letter)


async def letter_answer(
    request: Req,
    viewer: Viewer,
    job_id: str,
    *,
    wrong: Faults = FINE,
    why: str = "",
    opened: bool = False,
) -> Response[str]:
    """Return a letter's page; with the discard dialog open, or with what is wrong."""
    if not is_id(job_id, "job"):
        raise LetterUnknown("There is no such dead letter.")
    rt = runtime(request)
    async with rt.sessions.read() as session:
        page: LetterPage = await admin_views.load(session, rt=rt, viewer=viewer, job_id=job_id)
    plain = not opened and wrong is FINE
    return render(
        request,
        "dead_letters/letter.html",
        fragment="dead_letters/_letter.html" if plain else None,
        status_code=wrong.status,
        shell=viewer.shell("dead-letters"),
        mode={True: "live", False: "test", None: None}[page.line.livemode],
        page=page,
        form_key=rt.ids.token(16),
        wrong=wrong,
        why=why,
        opened=opened and page.is_dead and page.verdict.discard,
        cursor=page.cursor,
    )


async def list_cursor(session: AsyncSession) -> str:
    """Return a short text that is another one as soon as the list has changed."""
    number, newest = (
        await session.execute(
            select(func.count(), func.max(Job.finished_at)).where(Job.state == "dead")
        )
    ).one()
    return f"{number}.{to_micros(newest) if newest else 0}"


@get("/live", opt=READ)
async def changed(request: Req, viewer: Looking) -> Response[Any]:
    """Answer 204, or the live mark with the name of what changed in `HX-Trigger`."""
    page, seen = request.query_params.get("page", ""), request.query_params.get("seen", "")
    job_id = seen.partition("~")[0]
    async with runtime(request).sessions.read() as session:
        if is_id(job_id, "job"):
            try:
                letter = await queries.letter(session, job_id=job_id)
            except LetterUnknown:
                return Response(None, status_code=204)
            now, name = await admin_views.cursor(session, letter=letter), "letter"
        else:
            now, name = await list_cursor(session), "letters"
    if now == seen:
        return Response(None, status_code=204)
    return render(
        request,
        "components/_live.html",
        headers={"HX-Trigger": name} if seen else {},
        shell=viewer.shell(page if page in {"dead-letters", "health"} else ""),
        cursor=now,
    )


@get("/dead-letters/news", opt=READ)
async def news(request: Req, viewer: Looking) -> Response[str]:
    """Say that the list has changed: rows never move by themselves."""
    del viewer
    return render(request, "dead_letters/_news.html", changed=True)
