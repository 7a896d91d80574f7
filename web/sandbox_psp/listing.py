"""Lists, search and expansion: how the API shows more than one object."""

import re
from collections.abc import Callable
from typing import Any

from web.sandbox_psp.book import Stored
from web.sandbox_psp.charges import present
from web.sandbox_psp.errors import ApiError
from web.sandbox_psp.forms import Params
from web.sandbox_psp.work import Work

_CLAUSE = re.compile(
    r"""^\s*(?:metadata\[(?P<k>"[^"]+"|'[^']+')\]|(?P<field>status|currency|amount))"""
    r"""\s*:\s*(?P<v>"[^"]*"|'[^']*'|[0-9]+)\s*$"""
)
_KINDS = {
    "balance_transaction": "balance_transaction",
    "charge": "charge",
    "failure_balance_transaction": "balance_transaction",
    "latest_charge": "charge",
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
}
# `source` names different kinds of objects.
_SOURCES = ("charge", "refund")


def page(
    work: Work,
    params: Params,
    kind: str,
    url: str,
    *,
    where: str = "",
    values: tuple[Any, ...] = (),
) -> dict[str, Any]:
    """Return one page of a list, newest first, without what is not visible yet."""
    limit = params.integer("limit", low=1, high=100) or 10
    condition, found = _condition(work, params, kind)
    condition += f" AND {where}" if where else ""
    before = params.text("ending_before")
    if before is not None:
        rows = _before(work, condition, (*found, *values), before, kind, limit)
    else:
        after = params.text("starting_after")
        if after is not None:
            condition += " AND seq < ?"
            values = (*values, work.need(kind, after, param="starting_after", status=400).seq)
        rows = work.book.select(condition, (*found, *values), limit=limit + 1)
    return {
        "object": "list",
        "data": [present(work, row) for row in rows[:limit]],
        "has_more": len(rows) > limit,
        "url": url,
    }


def _before(
    work: Work, condition: str, values: tuple[Any, ...], before: str, kind: str, limit: int
) -> list[Stored]:
    seq = work.need(kind, before, param="ending_before", status=400).seq
    rows = work.book.select(f"{condition} AND seq > ?", (*values, seq), limit=100_000)
    nearest = rows[-limit:]
    return nearest if len(rows) <= limit else [*nearest, rows[0]]


def _condition(work: Work, params: Params, kind: str) -> tuple[str, tuple[Any, ...]]:
    condition = "kind = ? AND created <= ?"
    values: list[Any] = [kind, work.now - work.settings.list_delay]
    created = params.branch("created") if not _is_text(params) else Params({})
    for name, sign in (("gte", ">="), ("gt", ">"), ("lte", "<="), ("lt", "<")):
        moment = created.integer(name, high=10**11)
        if moment is not None:
            condition += f" AND CAST(created AS INTEGER) {sign} ?"
            values.append(moment)
    if _is_text(params):
        condition += " AND CAST(created AS INTEGER) = ?"
        values.append(params.integer("created", high=10**11))
    return condition, tuple(values)


def _is_text(params: Params) -> bool:
    try:
        return params.text("created") is not None
    except ApiError:
        return False


def search(work: Work, params: Params, kind: str, url: str) -> dict[str, Any]:
    """Find objects by metadata, status, currency or amount, joined by AND."""
    params.only("query limit page expand")
    limit = params.integer("limit", low=1, high=100) or 10
    condition = "kind = ? AND created <= ?"
    values: list[Any] = [kind, work.now - work.settings.search_delay]
    for clause in re.split(r"\s+AND\s+", params.need("query")):
        match = _CLAUSE.match(clause)
        if match is None:
            raise ApiError(400, f"We were unable to parse your search query: {clause[:80]}")
        value = match["v"].strip("\"'")
        if match["k"]:
            condition += " AND id IN (SELECT object FROM metadata WHERE key = ? AND value = ?)"
            values += [match["k"].strip("\"'"), value]
        else:
            condition += " AND json_extract(body, ?) = ?"
            values += [f"$.{match['field']}", int(value) if match["field"] == "amount" else value]
    rows = work.book.select(condition, tuple(values), limit=limit + 1)
    return {
        "object": "search_result",
        "data": [present(work, row) for row in rows[:limit]],
        "has_more": len(rows) > limit,
        "next_page": None,
        "url": url,
    }


def expand(work: Work, params: Params, body: dict[str, Any]) -> dict[str, Any]:
    """Replace ids by the objects that `expand[]` names; raises ApiError for a wrong name."""
    for path in params.items("expand"):
        if not isinstance(path, str) or path.count(".") > 3:
            raise ApiError(400, "You cannot expand more than 4 levels.", param="expand")
        _expand(work, body, path.split("."), path)
    return body


def _expand(work: Work, body: dict[str, Any], parts: list[str], path: str) -> None:
    name, rest = parts[0], parts[1:]
    if name == "data" and isinstance(body.get("data"), list):
        for entry in body["data"]:
            _expand(work, entry, rest, path)
        return
    if name == "line_items" and body.get("object") == "checkout.session":
        body["line_items"] = line_items(work, body["id"])
        return
    if name not in body or (name not in _KINDS and name != "source"):
        raise ApiError(400, f"This property cannot be expanded ({path[:80]}).", param="expand")
    if isinstance(body[name], str):
        body[name] = _load(work, name, body[name])
    if rest and isinstance(body[name], dict):
        _expand(work, body[name], rest, path)


def _load(work: Work, name: str, object_id: str) -> Any:
    kinds = _SOURCES if name == "source" else (_KINDS[name],)
    for kind in kinds:
        found = work.book.find(kind, object_id)
        if found is not None:
            return present(work, found)
    return object_id


def line_items(work: Work, session_id: str) -> dict[str, Any]:
    """Return what a session sells."""
    session = work.need("checkout.session", session_id, param="session")
    return {
        "object": "list",
        "data": session.private["lines"],
        "has_more": False,
        "url": f"/v1/checkout/sessions/{session_id}/line_items",
    }


def lister(
    kind: str, url: str, filters: str, *, columns: dict[str, str] | None = None
) -> Callable[[Work, Params, str], dict[str, Any]]:
    """Return a handler that lists a kind; filters are the names of equal-to parameters."""

    def handle(work: Work, params: Params, _: str) -> dict[str, Any]:
        params.only(f"limit starting_after ending_before created expand {filters}")
        where, values = [], []
        for name in filters.split():
            value = params.text(name)
            if value is not None:
                where.append((columns or {}).get(name, f"json_extract(body, '$.{name}') = ?"))
                values.append(value)
        return page(work, params, kind, url, where=" AND ".join(where), values=tuple(values))

    return handle
