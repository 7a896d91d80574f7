"""The public shape of a payment's story: moments, shared by the API and the page."""

from datetime import datetime
from typing import Literal

import msgspec

Tone = Literal["ok", "info", "wait", "bad", "odd", "quiet"]


class Detail(msgspec.Struct, kw_only=True, frozen=True):
    """What lies behind a moment, as text: a request and its answer, for example."""

    summary: str
    text: str


class Moment(msgspec.Struct, kw_only=True, frozen=True):
    """One thing that happened (or, of kind `next`, is due), in plain words.

    `who` says from whom to whom; `about` is the id of the row that tells it. `tone` and `icon`
    are how the dashboard shows it.
    """

    at: datetime
    kind: Literal[
        "accepted",
        "action",
        "attempt",
        "dead_letter",
        "delivery",
        "event",
        "ledger",
        "next",
        "psp_call",
        "psp_event",
        "refund",
        "risk",
    ]
    title: str
    who: str
    text: str = ""
    tone: Tone = "quiet"
    icon: str = "clock"
    about: str | None = None
    details: list[Detail] = []


class Timeline(msgspec.Struct, kw_only=True):
    """The answer of `GET /v1/payments/{id}/timeline`: oldest first, what is due last."""

    object: Literal["timeline"] = "timeline"
    payment: str
    livemode: bool
    data: list[Moment]
