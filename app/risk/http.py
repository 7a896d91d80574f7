"""A risk provider that speaks HTTP: one POST of JSON, and an answer that is read strictly."""

import json
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.egress import Answer as Reply
from app.egress import Egress, EgressFailed
from app.risk.port import Answer, Decision, ProviderDown, Question, Reason

_VERSION = 1
# In words of ours: shops read them, and the provider's address is none of their business.
_NO_ANSWER = {
    "connect": "it could not be reached",
    "dns": "its name is not known",
    "protocol": "its answer was not HTTP",
    "timeout": "it did not answer in time",
    "tls": "its certificate does not hold",
}
_MOST_REASONS, _LONGEST_REASON = 10, 200


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    decision: Decision
    reasons: Annotated[list[str], Meta(max_length=_MOST_REASONS)] = []
    score: Annotated[float, Meta(ge=0, le=100)] | None = None


class HttpProvider:
    """Asks the address of RISK_URL; anything but a proper answer in time means that it is down.

    What is sent holds hashes, countries, amounts and counts: nobody's name or address.
    """

    name = "http"

    def __init__(self, http: Egress, *, url: str, token: str | None, seconds: float) -> None:
        self._http, self._url, self._token, self._seconds = http, url, token, seconds

    async def ask(self, question: Question) -> Answer:
        """Return what the provider says. Raises ProviderDown."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            reply = await self._http.post(
                self._url, body=body_of(question), headers=headers, seconds=self._seconds
            )
        except EgressFailed as error:
            raise ProviderDown(_NO_ANSWER.get(error.code, error.code)) from None
        return read(reply)


def body_of(question: Question) -> bytes:
    """Return the JSON that is sent about a payment; times are RFC 3339 in UTC."""
    return msgspec.json.encode({"version": _VERSION, **msgspec.to_builtins(question)})


def read(reply: Reply) -> Answer:
    """Return what a reply says. Raises ProviderDown for every one that is odd in any way."""
    if reply.status != 200:
        raise ProviderDown(f"it answered with status {reply.status}")
    if reply.truncated:
        raise ProviderDown("its answer is too large")
    if reply.encoding not in {None, "identity"}:
        raise ProviderDown("its answer is packed")
    try:
        found = json.loads(
            reply.body.decode(), object_pairs_hook=_no_doubles, parse_constant=_no_number
        )
        said = msgspec.convert(found, _Said)
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        # What it wrote is a stranger's text: not repeated here.
        raise ProviderDown("its answer is not the JSON that we ask for") from None
    if not all(1 <= len(text) <= _LONGEST_REASON and text.isprintable() for text in said.reasons):
        raise ProviderDown("its reasons are not short, printable texts")
    reasons = tuple(Reason("provider", text) for text in said.reasons)
    return Answer(decision=said.decision, reasons=reasons, score=said.score)


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
