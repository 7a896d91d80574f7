"""What the sandbox tells about itself: its book and its log of requests, in stable shapes."""

from typing import Any

import msgspec

from web.sandbox_psp.book import Book
from web.sandbox_psp.work import Sandbox

_IN_BOOK = "kind IN ('charge', 'refund')"


def read_log(
    book: Book,
    *,
    key: str | None = None,
    path: str | None = None,
    since: int | None = None,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """Return API requests, oldest first.

    Without `since` the newest `limit`; with it the next `limit` after the request with that `id`,
    so that the last id read is the cursor of the next page and an empty page is the end. A row:

    - `id` (ascending), `request_id`, `at` and `answered` (epoch seconds; null: never answered)
    - `method`, `path`, `query`, `headers` (without credentials), `body` as it arrived,
      `body_hash` (SHA-256, hex), `key` (idempotency key or null)
    - `status` that was sent (null: none), `replayed` (1: the kept answer of the key)
    - `effect`: ids of the objects that this very request made or changed, empty when it did
      nothing; `fault`: names of the faults that struck it, as `after:reset`, or null
    """
    where, values = ["1 = 1"], list[Any]()
    for condition, value in (("key = ?", key), ("instr(path, ?) > 0", path), ("id > ?", since)):
        if value is not None:
            where.append(condition)
            values.append(value)
    order = "DESC" if since is None else "ASC"
    rows = book.execute(
        f"SELECT * FROM requests WHERE {' AND '.join(where)} "  # noqa: S608 - our conditions.
        f"ORDER BY id {order} LIMIT ?",
        (*values, limit),
    )
    found = [_request(row) for row in rows]
    return found[::-1] if since is None else found


def _request(row: Any) -> dict[str, Any]:
    told = dict(row)
    told["headers"] = msgspec.json.decode(row["headers"])
    told["effect"] = msgspec.json.decode(row["effect"])
    return told


def read_book(sandbox: Sandbox, metadata_key: str) -> dict[str, Any]:
    """Return the whole book; amounts in minor units.

    - `charges`, `refunds`: objects of the API, oldest first; `captures`: see `_capture`
    - `by_currency`: per currency `charged`, `refunded` and their `_count`
    - `by_metadata`: the same per value of the metadata's `metadata_key`
    - `balance` and `net`: per currency what the account holds after fees and refunds
    - `cursor`: for `since`, to be told only what changes from here on
    """
    book = sandbox.book
    charges = [row.body for row in book.select("kind = 'charge'", (), limit=10**9)][::-1]
    made = [row.body for row in book.select("kind = 'refund'", (), limit=10**9)][::-1]
    by_currency: dict[str, dict[str, int]] = {}
    by_metadata: dict[str, dict[str, int]] = {}

    def add(entry: dict[str, Any], name: str, amount: int) -> None:
        sums = [by_currency.setdefault(entry["currency"], {})]
        value = entry["metadata"].get(metadata_key)
        if value is not None:
            sums.append(by_metadata.setdefault(value, {}))
        for total in sums:
            total[name] = total.get(name, 0) + amount
            total[f"{name}_count"] = total.get(f"{name}_count", 0) + 1

    for entry in charges:
        if entry["captured"]:
            add(entry, "charged", entry["amount_captured"])
    for entry in made:
        if entry["status"] in {"succeeded", "pending"}:
            add(entry, "refunded", entry["amount"])
    held = balance(book)
    return {
        "charges": charges,
        "captures": [_capture(entry) for entry in charges if entry["captured"]],
        "refunds": made,
        "by_currency": by_currency,
        "by_metadata": by_metadata,
        "balance": held,
        "net": {currency: sums["net"] for currency, sums in held.items()},
        "cursor": _last_change(book),
    }


def read_changes(sandbox: Sandbox, *, since: int, limit: int) -> dict[str, Any]:
    """Return the charges and refunds that changed after a cursor, as they are now.

    The answer has `charges`, `captures` and `refunds` as the whole book has them, `balance`,
    the next `cursor`, and `more`: whether to ask again at once. An object that changes twice
    comes again: the reader keeps the newest of each id. Begin with 0.
    """
    book = sandbox.book
    rows = book.execute(
        f"SELECT kind, body, changed FROM objects WHERE changed > ? AND {_IN_BOOK} "  # noqa: S608 - ours.
        "ORDER BY changed LIMIT ?",
        (since, limit + 1),
    ).fetchall()
    page = rows[:limit]
    bodies = [(row["kind"], msgspec.json.decode(row["body"])) for row in page]
    charges = [body for kind, body in bodies if kind == "charge"]
    return {
        "charges": charges,
        "captures": [_capture(body) for body in charges if body["captured"]],
        "refunds": [body for kind, body in bodies if kind == "refund"],
        "balance": balance(book),
        "cursor": page[-1]["changed"] if page else since,
        "more": len(rows) > limit,
    }


def balance(book: Book) -> dict[str, dict[str, int]]:
    """Return per currency the sums of the account's lines: `amount`, `fee` and `net`."""
    rows = book.execute(
        "SELECT json_extract(body, '$.currency') AS currency, "
        "sum(json_extract(body, '$.amount')) AS amount, sum(json_extract(body, '$.fee')) AS fee, "
        "sum(json_extract(body, '$.net')) AS net FROM objects "
        "WHERE kind = 'balance_transaction' GROUP BY 1 ORDER BY 1"
    )
    return {
        row["currency"]: {"amount": row["amount"], "fee": row["fee"], "net": row["net"]}
        for row in rows
    }


def _capture(charge: dict[str, Any]) -> dict[str, Any]:
    """Return what was taken of a charge: its id, intent, amount, currency and metadata."""
    return {
        "charge": charge["id"],
        "payment_intent": charge["payment_intent"],
        "amount": charge["amount_captured"],
        "currency": charge["currency"],
        "metadata": charge["metadata"],
    }


def _last_change(book: Book) -> int:
    return int(book.execute("SELECT coalesce(max(changed), 0) FROM objects").fetchone()[0])
