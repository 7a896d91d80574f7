"""What we asked the PSP, what it answered, and what became of each attempt, in words; pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app import money
from app.payments.models import Attempt, PspCall
from app.payments.states import UNEXPECTED
from app.psp.port import KEPT, UNAUTHORIZED
from app.timeline.schemas import Detail, Moment, Tone
from app.timeline.words import sentence, took

US_TO_PSP = "Us to PSP"


class _Saying(NamedTuple):
    words: str
    tone: Tone
    icon: str
    text: str = ""


_MAYBE = "It may or may not have happened, so we ask before anything is sent again."
_ANSWERS: dict[str | None, _Saying] = {
    "succeeded": _Saying("It did", "ok", "check"),
    "authorized": _Saying("It holds the money", "ok", "lock"),
    "open": _Saying("The page is ready", "info", "send"),
    "next": _Saying("Done", "quiet", "send", "This moves no money yet; the next step follows."),
    "pending": _Saying("It accepted and decides later", "info", "clock"),
    "closed": _Saying("It confirmed", "ok", "check", "Nothing can be paid any more."),
    "declined": _Saying("Declined", "bad", "x"),
    "rejected": _Saying("It refused the request", "bad", "x", "Nothing happened at the PSP."),
    "not_sent": _Saying(
        "It never left us",
        "wait",
        "rotate-clockwise",
        "Nothing can have happened. Tried again by itself, with the same key.",
    ),
    KEPT: _Saying(
        "We kept it back",
        "wait",
        "rotate-clockwise",
        "Nothing left us this time. It goes by itself, with the same key.",
    ),
    UNAUTHORIZED: _Saying(
        "It does not accept our credential",
        "bad",
        "x",
        "Nothing happened. Tried again by itself, with the same key.",
    ),
    "busy": _Saying(
        "It asked us to come back later",
        "wait",
        "rotate-clockwise",
        "Nothing happened. Tried again by itself, with the same key.",
    ),
    "unknown": _Saying("No usable answer", "wait", "clock-exclamation", _MAYBE),
    "mismatch": _Saying(
        "The answer does not fit",
        "wait",
        "user-exclamation",
        "Nothing more is done by itself; a person has to look.",
    ),
    "not_found": _Saying("Not found", "quiet", "zoom-question"),
    None: _Saying("No answer yet", "wait", "clock-exclamation", _MAYBE),
}
_FOUND: dict[str | None, _Saying] = {
    "succeeded": _Saying("It had done it, once", "info", "zoom-check"),
    "authorized": _Saying("It holds the money", "info", "zoom-check"),
    "open": _Saying("The page is open and nobody has paid yet", "quiet", "zoom-check"),
    "next": _Saying(
        "It has not been done",
        "info",
        "zoom-check",
        "While its key still counts at the PSP, the same call may be repeated safely.",
    ),
    "pending": _Saying("It has not decided yet", "quiet", "zoom-question"),
    "closed": _Saying("It can no longer be paid", "info", "zoom-check"),
    "declined": _Saying("It was declined", "info", "zoom-check"),
    "rejected": _Saying("It refused to say", "quiet", "zoom-question"),
    "mismatch": _Saying(
        "What it has does not fit what we asked for",
        "wait",
        "user-exclamation",
        "Nothing more is done by itself; a person has to look.",
    ),
    UNAUTHORIZED: _Saying("It does not accept our credential", "bad", "x", "We ask again."),
    "not_found": _Saying(
        "Not found, but its search may be behind",
        "quiet",
        "zoom-question",
        "Not found is not yet a “no”.",
    ),
}
_UNASKED = _Saying("We had to leave it alone", "quiet", "zoom-question", "We ask later.")
_NO_ANSWER = _Saying("No usable answer", "quiet", "zoom-question", "We ask again.")
_DONE = {
    "checkout": ("Paid", "The customer paid on the PSP's page."),
    "charge": ("Succeeded", "The customer was charged once."),
    "capture": ("Captured", "The money that was held has been taken."),
    "void": ("Ended", "The PSP confirmed that nothing more can be charged."),
}
_ENDS: dict[str, _Saying] = {
    "declined": _Saying("Declined", "bad", "x"),
    "rejected": _Saying("Not accepted by the PSP", "bad", "x"),
    "not_sent": _Saying("Never left us", "quiet", "rotate-clockwise", "Nothing was charged."),
    "closed": _Saying("Closed unpaid", "quiet", "ban", "It can no longer be paid."),
}


def effect(attempt: Attempt, step: str) -> str:
    """Say what a step asks the PSP to do."""
    amount = money.text(attempt.amount, attempt.currency)
    if attempt.kind == "charge" and step == "create":
        return f"prepare a charge of {amount}"
    if step == "close":
        return f"give up the charge of {amount} for good"
    return {
        "checkout": f"make its payment page for {amount}",
        "charge": f"charge {amount}",
        "capture": f"take {amount} of what is held",
        "void": "end the payment without a charge",
        "refund": f"refund {amount}",
    }.get(attempt.kind, attempt.kind)


def call_moments(
    calls: Sequence[PspCall], attempts: Mapping[str, Attempt], answers: Mapping[str, str]
) -> list[Moment]:
    """Tell each call; `answers` are the opened answers by call id."""
    out = []
    for call in calls:
        attempt = attempts.get(call.attempt_id)
        if attempt is None:
            continue
        out.append(_call(call, attempt, answers.get(call.id, "")))
        if call.kind in {"request", "replay"} and call.outcome == "unknown" and call.finished_at:
            moves = attempt.kind in {"charge", "capture", "void"}
            seen = "Your shop sees “processing” until it is known." if moves else ""
            out.append(
                Moment(
                    at=call.finished_at,
                    kind="attempt",
                    title="Outcome unknown",
                    who=_name(attempt, attempts),
                    text=seen,
                    tone="odd",
                    icon="help-circle",
                    about=attempt.id,
                )
            )
    return out


def _call(call: PspCall, attempt: Attempt, answer: str) -> Moment:
    if call.kind == "lookup" and call.outcome == KEPT:
        says = _UNASKED
        title = f"We meant to ask the PSP. {says.words}"
    elif call.kind == "lookup":
        says = _FOUND.get(call.outcome, _NO_ANSWER)
        title = f"We asked the PSP. {says.words}"
    else:
        says = _ANSWERS.get(call.outcome, _ANSWERS[None])
        told, again = "We told the PSP", "We repeated the same call"
        if call.outcome == KEPT:
            told, again = "We were about to tell the PSP", "We were about to repeat the call"
        start = again if call.kind == "replay" else told
        words = says.words
        if call.outcome == "unknown" and call.http_status is None and call.duration_us:
            words = f"No answer in {took(call.duration_us / 1000)}"
        title = f"{start} to {effect(attempt, call.step)}. {words}"
    spent = f"Answer in {took(call.duration_us / 1000)}." if call.duration_us is not None else ""
    lost = call.outcome in {"unknown", "not_sent", KEPT, None}
    parts = [says.text, sentence(call.detail) if not lost else "", "" if lost else spent]
    return Moment(
        at=call.started_at,
        kind="psp_call",
        title=title,
        who=US_TO_PSP,
        text=" ".join(part for part in parts if part),
        tone=says.tone,
        icon=says.icon,
        about=call.id,
        details=[Detail(summary="Request and answer", text=_exchange(call, answer))],
    )


def _exchange(call: PspCall, answer: str) -> str:
    lines = [f"{call.kind} {call.step} of {call.attempt_id}"]
    if call.key:
        # The first part of the key names this installation, which is nobody's business.
        lines.append(f"idempotency key …:{call.key.partition(':')[2]}")
    status = f"HTTP {call.http_status}" if call.http_status else "no HTTP status"
    if call.duration_us is not None:
        status += f" in {took(call.duration_us / 1000)}"
    if call.psp_request_id:
        status += f", PSP request {call.psp_request_id}"
    lines.append(status if call.finished_at else "no answer noted")
    if call.detail:
        lines.append(call.detail)
    return "\n".join([*lines, answer] if answer else lines)


def attempt_moments(attempts: Mapping[str, Attempt], *, manual: bool) -> list[Moment]:
    """Tell how attempts ended, and which one waits for a person.

    `manual`: a charge only holds the money until it is captured.
    """
    out = []
    for attempt in attempts.values():
        ended = _ended(attempt, manual=manual)
        at = attempt.updated_at if attempt.state == "needs_review" else attempt.finished_at
        if ended is None or at is None or _told_by_refund(attempt):
            continue
        out.append(
            Moment(
                at=at,
                kind="attempt",
                title=ended.words,
                who=_name(attempt, attempts),
                text=ended.text,
                tone=ended.tone,
                icon=ended.icon,
                about=attempt.id,
            )
        )
    return out


def _told_by_refund(attempt: Attempt) -> bool:
    return attempt.kind == "refund" and attempt.state in {"succeeded", "declined"}


def _ended(attempt: Attempt, *, manual: bool) -> _Saying | None:
    if attempt.state == "needs_review":
        text = sentence(attempt.message) or "What the PSP has does not fit what we asked for."
        return _Saying("Needs review", "wait", "user-exclamation", text)
    if attempt.state == "succeeded":
        if attempt.code == UNEXPECTED:
            text = "The money is set apart; a person decides about it."
            return _Saying("Paid after the payment had ended", "wait", "user-exclamation", text)
        if manual and attempt.kind in {"checkout", "charge"}:
            return _Saying("Authorised", "ok", "lock", "The money is held, not taken yet.")
        title, text = _DONE.get(attempt.kind, ("Succeeded", ""))
        return _Saying(title, "ok", "check", text)
    known = _ENDS.get(attempt.state)
    if known is None:
        return None
    return known._replace(text=sentence(attempt.message) or known.text)


def next_moments(attempts: Mapping[str, Attempt]) -> list[Moment]:
    """Tell when the PSP is asked again about outcomes that are unknown."""
    return [
        Moment(
            at=attempt.next_check_at,
            kind="next",
            title="Next: we ask the PSP again",
            who=_name(attempt, attempts),
            text="Found: we record it. Still not known: we go on asking; nobody is charged twice.",
            tone="info",
            icon="clock",
            about=attempt.id,
        )
        for attempt in attempts.values()
        if attempt.state == "unknown" and attempt.next_check_at is not None
    ]


def _name(attempt: Attempt, attempts: Mapping[str, Attempt]) -> str:
    return f"Attempt {list(attempts).index(attempt.id) + 1}"
