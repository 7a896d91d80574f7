"""Whether a dead letter may be retried or discarded, from what the rows say; pure.

Nothing whose outcome is unknown is sent again or given up here.
"""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from app.deadletters import work
from app.jobs import Job
from app.merchants.models import Merchant
from app.payments.ending import hold_left
from app.payments.models import Attempt, Payment, Refund
from app.payments.states import FINAL, HELD_TWICE, LANE
from app.psp.port import FAILED_LOOKS

Says = Literal["safe", "paid", "declined", "unknown", "review", "looking_up"]
Ends = Literal["fail_payment", "keep_hold", "fail_refund", "close"]

GOOD_FOR = timedelta(minutes=5)  # So long a PSP's word is good enough to decide by.
_OPEN_QUESTION = frozenset({"sent", "unknown"})
_MAY_HOLD_MONEY = frozenset({"sent", "unknown", "open", "needs_review", "succeeded"})
_QUESTION = {
    "charge": "whether the customer was charged",
    "checkout": "whether the PSP's page exists",
    "capture": "whether the money that is held was taken",
    "void": "whether the payment has ended",
    "refund": "whether the customer got the money back",
}
_HAPPENED = {
    "charge": "The customer was charged, and that is recorded.",
    "checkout": "The customer has paid on the PSP's page, and that is recorded.",
    "capture": "The money that was held was taken, and that is recorded.",
    "void": "The payment has ended at the PSP, and that is recorded.",
    "refund": "The customer got the money back, and that is recorded.",
}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The last look-up of an attempt. `sent_since`: something was sent after it."""

    at: datetime
    outcome: str
    sent_since: bool = False


class Letter(msgspec.Struct, kw_only=True):
    """A dead letter with the rows that it is about."""

    job: Job
    payment: Payment | None = None
    attempts: list[Attempt] = []
    refund: Refund | None = None
    merchant: Merchant | None = None
    look: Look | None = None
    looking: bool = False  # A worker has been asked to look and has not answered yet.

    @property
    def attempt(self) -> Attempt | None:
        """The attempt at the PSP that it is about."""
        return work.attempt_of(self.job, self.attempts)

    @property
    def effect(self) -> str | None:
        """The effect at a PSP that it is for."""
        return work.effect_of(self.job, self.attempt)

    @property
    def amount(self) -> int | None:
        """What it is about, in minor units of the payment's currency."""
        return work.amount_of(self.job, self.payment, self.refund, self.attempt)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is known, in words, and which ways are open. `ends`: what a discard does.

    `no_retry` and `no_discard` say why a way is closed.
    """

    says: Says
    title: str
    because: str
    look: bool = False
    no_retry: str = ""
    no_discard: str = ""
    ends: Ends = "close"
    next_at: datetime | None = None  # When the PSP is asked again by itself.

    @property
    def retry(self) -> bool:
        """Whether it may be retried."""
        return not self.no_retry

    @property
    def discard(self) -> bool:
        """Whether it may be discarded."""
        return not self.no_discard


def judge(letter: Letter) -> Verdict:
    """Return what may be done about a dead letter."""
    effect, attempt = letter.effect, letter.attempt
    if effect is None:
        return _inside(letter)
    if attempt is not None and attempt.state in _OPEN_QUESTION:
        return _unknown(_QUESTION[effect], attempt.next_check_at)
    if attempt is not None and attempt.state == "needs_review":
        return _review()
    if attempt is not None and attempt.state == "succeeded":
        return _happened(_HAPPENED[effect])
    if attempt is not None and attempt.state == "open" and effect == "checkout":
        return _happened("The PSP's page exists and the customer may pay on it.")
    if attempt is not None and attempt.code == HELD_TWICE:
        return _twice()
    if over := _over(letter, effect):
        return Verdict(
            says="declined",
            title="There is nothing left to send.",
            because=over,
            no_retry="There is nothing left to send.",
        )
    others = _in_its_place(letter, effect, attempt)
    if any(row.state in _OPEN_QUESTION for row in others):
        return _unknown("how another call about this payment has ended")
    if any(row.state == "needs_review" for row in others):
        return _review()
    return _safe(letter, effect, attempt)


def asks_psp(letter: Letter) -> bool:
    """Tell whether the PSP must be asked before anything is decided about a letter.

    Not what never left us in any try, and not what is known to have happened.
    """
    attempt = letter.attempt
    if letter.effect is None or attempt is None or not attempt.params_sealed:
        return False
    return attempt.first_sent_at is not None and attempt.state not in {"succeeded", "declined"}


def is_fresh(letter: Letter, now: datetime) -> bool:
    """Tell whether the last look-up is young, and nothing was sent after it."""
    look = letter.look
    return look is not None and not look.sent_since and now - look.at < GOOD_FOR


def weigh(letter: Letter, *, now: datetime) -> Verdict:
    """Return what may be done by what the rows say and the PSP's own word, while that is fresh."""
    said = judge(letter)
    if said.says != "safe" or not asks_psp(letter):
        return said
    if letter.look is None or not is_fresh(letter, now):
        return _ask_first(letter)
    if letter.look.outcome in FAILED_LOOKS:
        silent = "The PSP has not told us what became of this."
        return Verdict(
            says="unknown",
            title="Nobody can say yet: the PSP has not told us.",
            because=f"{silent} Nothing is sent before it does.",
            look=True,
            no_retry=f"{silent} Look again first.",
            no_discard=f"{silent} Look again first.",
        )
    because = f"We asked the PSP: it has not done this. {said.because}"
    return msgspec.structs.replace(said, because=because, look=True)


def _ask_first(letter: Letter) -> Verdict:
    why = "The PSP is asked first what became of this; its answer is good for five minutes."
    title = "Asking the PSP what it knows…" if letter.looking else "Ask the PSP first."
    return Verdict(
        says="looking_up",
        title=title,
        because=(
            f"{why} You can decide when it has answered. If it does not, this stays unknown and "
            "nothing is sent."
        ),
        look=True,
        no_retry=why,
        no_discard=why,
    )


def _over(letter: Letter, effect: str) -> str:
    """Say why the effect is not wanted any more; empty when it still is."""
    if effect == "refund":
        if letter.refund is None:
            return "The refund that it is about does not exist."
        if letter.refund.status != "pending":
            return f"The refund has {letter.refund.status} by now."
        return ""
    if letter.payment is None:
        return "The payment that it is about does not exist."
    if letter.payment.status in FINAL and not _holds(letter, effect):
        return f"The payment is {letter.payment.status} by now."
    return ""


def _holds(letter: Letter, effect: str) -> bool:
    # Money that came in for a payment that has ended is let go by a void.
    late = letter.payment is not None and hold_left(letter.payment, letter.attempts) is not None
    return effect == "void" and late


def _in_its_place(letter: Letter, effect: str, attempt: Attempt | None) -> list[Attempt]:
    """Return the other attempts whose outcome decides whether this one may be made again."""
    others = [row for row in letter.attempts if row is not attempt]
    if effect == "refund":
        refund_id = letter.refund.id if letter.refund is not None else None
        return [row for row in others if row.kind == "refund" and row.refund_id == refund_id]
    return [row for row in others if effect in LANE and row.kind in LANE]


def _unknown(question: str, next_at: datetime | None = None) -> Verdict:
    return Verdict(
        says="unknown",
        title=f"Nobody can say yet {question}.",
        because=(
            "The PSP's answer was lost. We go on asking it; sending this again or giving it up "
            "before it answers could charge twice or lose a payment."
        ),
        look=True,
        next_at=next_at,
        no_retry=f"Nobody can say yet {question}. Look again first.",
        no_discard=f"Nobody can say yet {question}. It is given up only when that is known.",
    )


def _review() -> Verdict:
    why = "What the PSP did does not fit what we asked for; a person compares the two first."
    return Verdict(
        says="review",
        title="The PSP did something else than we asked for.",
        because=(
            "The payment is stopped, and money that came in is held apart from the wallet. No "
            "button can settle this: compare our request with the PSP's own records."
        ),
        no_retry=why,
        no_discard=why,
    )


def _twice() -> Verdict:
    return Verdict(
        says="declined",
        title="The PSP holds the money a second time.",
        because=(
            "Another hold carries the payment, and nothing is taken of this one. Cancel it at the "
            "PSP, or let it lapse; then give this letter up."
        ),
        no_retry="Nothing is to be sent: another hold carries the payment.",
    )


def _happened(because: str) -> Verdict:
    return Verdict(
        says="paid",
        title="It has happened already.",
        because=f"{because} A retry sends nothing and closes this letter.",
        no_discard="It has happened, so there is nothing to give up. Close it with a retry.",
    )


def _safe(letter: Letter, effect: str, attempt: Attempt | None) -> Verdict:
    if attempt is None:
        title, because = "Nothing was sent. Safe to try.", "It stopped before any call to the PSP."
    elif attempt.state == "rejected":
        said = f"It said: “{' '.join(attempt.message.split())}” " if attempt.message else ""
        title = "The PSP refused the request, so nothing happened. Safe to send again."
        because = (
            f"{said}A retry is a new request with a key of its own; while the cause is still "
            "there, it is refused again."
        )
    elif attempt.state == "closed":
        title = "The PSP's page is closed unpaid. Safe to send again."
        because = "The PSP confirms that nobody can pay on it any more."
    else:
        title, because = _without_effect(attempt)
    ends, no_discard = _discarding(letter, effect)
    return Verdict(says="safe", title=title, because=because, ends=ends, no_discard=no_discard)


def _without_effect(attempt: Attempt) -> tuple[str, str]:
    """Say how far an attempt came that has had no effect: the PSP may have turned it away."""
    same = "the same request goes again with the same key."
    if attempt.state != "created":
        same = "a retry is a new request with a key of its own."
    if attempt.first_sent_at is None:
        return "Nothing reached the PSP. Safe to send again.", f"No try left us, so {same}"
    because = "Each try failed on its way or was turned away by the PSP"
    return "The PSP has not done this. Safe to send again.", f"{because}, so {same}"


def _discarding(letter: Letter, effect: str) -> tuple[Ends, str]:
    """Return what a discard ends, and why it must not; the attempt itself is conclusive."""
    if effect == "refund":
        return "fail_refund", ""
    others = [row for row in letter.attempts if row is not letter.attempt]
    live = [row for row in others if row.state in _MAY_HOLD_MONEY]
    if effect == "capture":
        if letter.payment is not None and letter.payment.cancel_requested_at is not None:
            return "close", ""  # The shop has asked for its end since, and that goes on.
        if any(row.state in _OPEN_QUESTION for row in live):
            return "close", "Another call about this payment is under way."
        return "keep_hold", ""
    if effect == "void" and any(row.kind in {"charge", "checkout"} for row in live):
        return "close", (
            "The customer can still pay, or the money is still held. Only the PSP can end that, "
            "so retry it."
        )
    if live:
        return "close", "Another attempt of this payment may still succeed or has succeeded."
    return "fail_payment", ""


def _inside(letter: Letter) -> Verdict:
    """Judge work that asks no PSP to do anything."""
    job = letter.job
    if job.kind == "ledger.posting":
        return Verdict(
            says="safe",
            title="The ledger could not record this.",
            because=(
                "Its money is missing from the books until it is recorded. Find the cause first; "
                "a retry gives the same posting to the writer again, and it is recorded once."
            ),
            no_discard="Money that has moved must be in the ledger; this can only be retried.",
        )
    if (
        job.kind == "payments.refund_refused"
        and letter.refund
        and letter.refund.status == "pending"
    ):
        return Verdict(
            says="safe",
            title="Nothing is sent by this. Safe to run again.",
            because="It only notes that the wallet does not cover the refund.",
            no_discard="The refund would stay open for ever; a retry ends it.",
        )
    if job.kind == "inbox.apply":
        return Verdict(
            says="safe",
            title="What the PSP tells of is not in the books.",
            because=(
                "It moves no money, but money may have moved at the PSP. Find the cause first; a "
                "retry asks the PSP again, and what it shows is recorded once."
            ),
            no_discard="What a PSP tells of money must be recorded; this can only be retried.",
        )
    no_discard = ""
    if job.kind in {"desk.settle", "desk.once_more"}:
        no_discard = "What a review item is about is settled by the PSP's word; a retry asks it."
    return Verdict(
        says="safe",
        title="No money is moved by this. Safe to run again.",
        because=f"{work.kind_of(job.kind).does}; done twice it has one effect.",
        no_discard=no_discard,
    )
