"""What a risk provider is asked about a payment, and the little that it may answer; pure."""

from datetime import datetime
from typing import Literal, Protocol

import msgspec

Decision = Literal["allow", "hold", "refuse"]
_STRICTNESS: dict[Decision, int] = {"allow": 0, "hold": 1, "refuse": 2}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many other payments were accepted within the hour before; of this customer, and all."""

    customer_hour: int = 0
    merchant_hour: int = 0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as far as a risk check may know it: hashes and countries, never who pays.

    `amount` is in minor units. Countries are two capital letters, as far as the shop told them.
    `method_hash` names the PSP's token of a saved card without giving it away.
    """

    payment_id: str
    merchant_id: str
    livemode: bool
    amount: int
    currency: str
    hosted: bool
    created_at: datetime
    email_hash: str | None = None
    method_hash: str | None = None
    country: str | None = None
    card_country: str | None = None
    counts: Counts = Counts()


class Reason(msgspec.Struct, frozen=True):
    """Why: a code for programs and a sentence for people."""

    code: str
    text: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says; `score` from 0 (fine) to 100, where it has one."""

    decision: Decision
    reasons: tuple[Reason, ...] = ()
    score: float | None = None


class ProviderDown(Exception):
    """The provider gave no answer that counts; `detail` says why, in a few words."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Provider(Protocol):
    """Somebody who judges payments. Asking twice must be harmless: a crash asks again."""

    name: str

    async def ask(self, question: Question) -> Answer:
        """Return what is to be done with a payment. Raises ProviderDown."""
        ...


def stricter(first: Answer, second: Answer) -> Answer:
    """Return the stricter of two answers, with the reasons of both and the score of either."""
    both = sorted((first, second), key=lambda one: -_STRICTNESS[one.decision])
    return Answer(
        decision=both[0].decision,
        reasons=(*both[0].reasons, *both[1].reasons),
        score=second.score if first.score is None else first.score,
    )
