"""Every statement about a shop's rows names the shop and the mode, whichever route asks.

What does not name them may only ask by ids that an earlier statement of the same request, which
did name them, was given or returned.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Litestar
from sqlalchemy import event

from app import db
from app.runtime import Runtime
from tests.support.cast import Cast
from tests.web.api.shop import Api
from tests.web.dashboard.belongings import call_all, furnish, press_all
from tests.web.dashboard.money import Shop

TENANT = {
    table.name: {"merchant_id", "livemode"} & set(table.c.keys())
    for table in db.Base.metadata.sorted_tables
    if "merchant_id" in table.c
}
# Whose shops these are is what they find out: the session's person, the key's hash.
CREDENTIALS = ("memberships.user_id = ", "memberships.user_id IN", "api_keys.hash = ")
ID = re.compile(r"[a-z]{2,4}_[0-9a-z]{34}")


def ids_in(values: Any) -> set[str]:
    if isinstance(values, str):
        return {values} if ID.fullmatch(values) else set()
    if isinstance(values, dict):
        values = values.values()
    if isinstance(values, Iterable) and not isinstance(values, bytes):
        return set().union(*map(ids_in, values))
    return set()


def tables_of(statement: str) -> set[str]:
    """Return the tables of shops' rows that a statement reads or changes."""
    if statement.startswith("INSERT") or " AS (INSERT" in statement:
        return set()
    named = re.findall(r"(?:FROM|JOIN|UPDATE|,) ([a-z_]+)\b(?!\.)", statement)
    return set(named) & set(TENANT)


def is_guarded(statement: str) -> bool:
    """Tell whether some table of the statement is compared by all its columns of tenancy.

    Tables joined to it are bound to it by their composite foreign keys.
    """
    compared = statement[statement.find(" WHERE ") :]
    return any(
        all(re.search(rf"\b{table}\.{column} (?:=|IS) ?", compared) for column in TENANT[table])
        for table in tables_of(statement)
    )


class Tap:
    """Judges the statements of one request after the other."""

    def __init__(self, merchant_id: str) -> None:
        self.merchant_id = merchant_id
        self.seen = 0
        self.wrong: list[str] = []
        self._known: set[str] = set()

    def next_request(self) -> None:
        self._known = {self.merchant_id}

    def sent(self, _c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        text = " ".join(statement.split())
        asked = ids_in(parameters)
        strangers = {one for one in asked if one.startswith("mer_")} - {self.merchant_id}
        if strangers:
            self.wrong.append(f"another shop: {text}")
        if text.startswith("INSERT") or " AS (INSERT" in text:
            self._known |= asked  # Made by this request.
        if not tables_of(text):
            return
        self.seen += 1
        if is_guarded(text) or any(one in text for one in CREDENTIALS):
            # The drivers' adapters have fetched the rows by now.
            self._known |= asked | ids_in(cursor._rows or ())
        elif not asked or asked - self._known:
            self.wrong.append(f"{sorted(asked - self._known)}: {text}")


@contextmanager
def tapped(rt: Runtime, merchant_id: str) -> Iterator[Tap]:
    """Listen to what this runtime's engine sends."""
    tap, engine = Tap(merchant_id), rt.sessions.engine.sync_engine
    event.listen(engine, "after_cursor_execute", tap.sent)
    try:
        yield tap
    finally:
        event.remove(engine, "after_cursor_execute", tap.sent)


async def test_every_statement_about_a_shops_rows_names_the_shop(
    app: Litestar, rt: Runtime, cast: Cast, shop: Shop, api: Api
) -> None:
    """S21: over every page, every button and every operation of the API."""
    things, others = await furnish(shop), await furnish(shop, "2")
    pressed = []
    with tapped(rt, cast.shop.id) as tap:
        for run in (
            press_all(app, rt, things, cast.alice),
            call_all(api, others),
        ):
            tap.next_request()
            async for one in run:
                pressed.append(one)
                assert one.status < 400, one
                assert tap.wrong == [], f"{one.method} {one.route}"
                tap.next_request()
    assert len(pressed) > 65
    assert tap.seen > 200
    await shop.story.work()
    await shop.story.end()
