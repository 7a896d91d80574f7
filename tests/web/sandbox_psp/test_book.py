"""The book: whole operations, one commit for many, and a disk that is full."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from web.sandbox_psp.book import Book, Stored
from web.sandbox_psp.config import Config
from web.sandbox_psp.delivery import Courier
from web.sandbox_psp.wire import Wire
from web.sandbox_psp.work import Sandbox


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with Book(tmp_path / "book.db") as opened:
        yield opened


def thing(name: str, **more: Any) -> Stored:
    return Stored(kind="thing", created=1.0, body={"id": name, **more})


async def fill(book: Book) -> None:
    """Let the disk be full from now on."""
    await book.durable()
    pages = book.execute("PRAGMA page_count").fetchone()[0]
    book.execute(f"PRAGMA max_page_count = {pages}")
    await book.durable()


async def test_an_operation_that_fails_leaves_nothing_and_harms_nobody(book: Book) -> None:
    book.save(thing("first"))

    def half_way() -> None:
        with book.whole():
            book.save(thing("second"))
            book.execute("INSERT INTO objects (id) VALUES ('third')")

    with pytest.raises(sqlite3.IntegrityError):
        half_way()
    await book.durable()
    assert book.find("thing", "first") is not None
    assert book.find("thing", "second") is None


async def test_many_operations_share_one_commit(book: Book) -> None:
    for number in range(20):
        book.save(thing(f"t{number}"))
    await asyncio.gather(*(book.durable() for _ in range(20)))
    assert len(book.select("kind = ?", ("thing",))) == 20


async def test_f45_a_full_disk_is_told_and_nothing_is_believed_written(book: Book) -> None:
    await fill(book)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        book.save(thing("large", text="x" * 100_000))
    if book._db.in_transaction:
        book._db.execute("ROLLBACK")
    with pytest.raises(sqlite3.OperationalError, match="lost"):
        await book.durable()
    assert book.find("thing", "large") is None
    await book.durable()


class Line:
    """A connection that notes that it was cut."""

    cut = False

    def abort(self) -> None:
        self.cut = True


async def test_f45_a_request_on_a_full_disk_gets_no_answer_and_charges_nothing(
    tmp_path: Path,
) -> None:
    config = Config(data=tmp_path, public_url="http://x", secret_key="k", webhook_secret="w")
    line = Line()
    body = b"amount=100&currency=eur&payment_method=pm_card_visa&confirm=true"
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": body + b"&description=" + b"x" * 4000},
    ]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    with Book(tmp_path / "book.db") as book:
        sandbox = Sandbox(config=config, book=book)
        await fill(book)
        scope = {
            "method": "POST",
            "path": "/v1/payment_intents",
            "query_string": b"",
            "headers": [(b"authorization", b"Bearer k")],
            "extensions": {"sandbox.transport": line},
        }
        await Wire(sandbox, Courier(sandbox))(scope, receive, send)
        assert (line.cut, sent) == (True, [])
        assert book.select("kind = ?", ("charge",)) == []
