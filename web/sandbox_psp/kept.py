"""Kept answers: idempotency keys as the provider's first API version treats them."""

import hashlib
import json
from typing import Any

import msgspec

from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.routes import Answer
from web.sandbox_psp.work import Work


def fingerprint(method: str, path: str, params: dict[str, Any]) -> str:
    """Return what two requests with one key must have in common."""
    text = json.dumps([method, path, params], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def find(work: Work, key: str, mark: str) -> Answer | None:
    """Return the answer that a key keeps; raises ApiError when the parameters differ."""
    if len(key) > 255:
        raise ApiError(400, "Idempotency keys can be at most 255 characters long.")
    row = work.book.execute("SELECT * FROM kept_answers WHERE key = ?", (key,)).fetchone()
    if row is None or row["created"] <= work.now - work.settings.key_window:
        return None
    if row["fingerprint"] != mark:
        raise used_otherwise(key)
    headers = {
        **msgspec.json.decode(row["headers"], type=dict[str, str]),
        "Idempotent-Replayed": "true",
    }
    return Answer(status=row["status"], headers=headers, body=msgspec.json.decode(row["body"]))


def used_otherwise(key: str) -> ApiError:
    """Return the refusal of a key that was first used with other parameters."""
    return ApiError(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were "
        f"first used with. Try using a key other than '{key}' if you meant to execute a "
        "different request.",
        kind="idempotency_error",
    )


def in_use(key: str) -> ApiError:
    """Return the refusal of a key whose first request is not answered yet."""
    return ApiError(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably "
        f"means you submitted twice, and the other request is still going through): {key}. Please "
        "try again later.",
        kind="idempotency_error",
        code="idempotency_key_in_use",
        headers={"Stripe-Should-Retry": "true"},
    )


def keep(work: Work, key: str, mark: str, answer: Answer) -> None:
    """Keep an answer for its key, replacing one that is past the window."""
    original = {"Original-Request": work.request_id or "", **answer.headers}
    work.book.execute(
        "INSERT INTO kept_answers (key, fingerprint, created, status, headers, body) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "fingerprint = excluded.fingerprint, created = excluded.created, "
        "status = excluded.status, headers = excluded.headers, body = excluded.body",
        (
            key,
            mark,
            work.now,
            answer.status,
            msgspec.json.encode(original),
            msgspec.json.encode(answer.body),
        ),
    )


def prune(work: Work) -> None:
    """Forget the answers whose window has passed."""
    work.book.execute(
        "DELETE FROM kept_answers WHERE created <= ?", (work.now - work.settings.key_window,)
    )
