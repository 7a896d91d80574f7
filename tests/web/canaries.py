"""Secrets that a test plants, and a watch that gathers every secret given out meanwhile (I20)."""

import base64
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import structlog
from sqlalchemy import select

from app import db
from app import logging as logs
from app.runtime import Runtime
from tests.support.cast import Cast

SEALING_KEY = bytes(range(100, 132))
PEPPER = bytes(range(200, 232))
PSP_KEY = "sk_test_canaryPSPsecret7Qx2"
PSP_WEBHOOK = "whsec_canaryPSPwebhook4Zt9"
EMAIL = "canary.customer@private.example"
NAME = "Canary Q. Zaphodsdottir"
CARD = "4000056655665556"
PASSWORD = "canary-velvet orbit canyon 9"
# A card number is refused wherever it stands, so these fields are sent apart from it.
PERSONAL = {"email": EMAIL, "name": NAME}
# What an answer shows once, to whom it belongs, by how it looks there.
_SHOWN = {
    "API key": re.compile(r"cf_(?:test|live)_[0-9A-Za-z]{40,}"),
    "webhook signing secret": re.compile(r"whsec_[A-Za-z0-9+/=]{20,}"),
    "TOTP secret": re.compile(r'data-copy="([A-Z2-7]{32})"'),
    "recovery code": re.compile(r"<li>([0-9a-z-]{20,})</li>"),
    "form token": re.compile(r'name="csrf_token" value="(\w{20,})"'),
    "form key": re.compile(r'name="form_key" value="(\w{20,})"'),
    "checkout address": re.compile(r"/checkout/(pay_\w+\.\w+)"),
}
_LINK = re.compile(r"/link/[a-z]+/([0-9a-z]{10,})")
# Where a secret may stand although it is none of the sealed columns, and why.
LEGITIMATE = {
    # It guards against forged requests and is worth nothing without the session's cookie, of
    # which the same row holds the hash alone.
    ("form token", "sessions.csrf_token"),
}


def written(value: bytes | str) -> set[str]:
    """Return the ways in which a secret could come to be written."""
    if isinstance(value, bytes):
        plain = base64.b64encode(value).decode()
        safe = base64.urlsafe_b64encode(value).decode()
        return {value.hex(), plain, plain.rstrip("="), safe, safe.rstrip("="), repr(value)[2:-1]}
    return {value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1]}


class Canaries:
    """Every secret that must not be found, by its kind; answers add those that they give out."""

    def __init__(self, rt: Runtime, cast: Cast) -> None:
        self.rt = rt
        self.known: dict[str, str] = {}
        self.refused: list[str] = []
        self.add("sealing key", SEALING_KEY)
        self.add("pepper", PEPPER)
        planted = {
            "PSP secret key": [PSP_KEY],
            "PSP webhook secret": [PSP_WEBHOOK],
            "customer e-mail": [EMAIL],
            "customer name": [NAME],
            "card number": [CARD],
            "password": [PASSWORD],
            "API key": [cast.shop.secret, cast.other_shop.secret],
        }
        for kind, values in planted.items():
            for value in values:
                self.add(kind, value)
        for person in (cast.alice, cast.bob, cast.vera, cast.charlie, cast.ada):
            self.add("password", person.password)
            self.add("TOTP secret", person.totp_secret)
            self.add("session cookie", person.token)
            self.add("form token", person.opened.csrf_token)
            for code in person.recovery_codes:
                self.add("recovery code", code)

    def add(self, kind: str, value: bytes | str) -> None:
        """Know one more secret."""
        for form in written(value):
            if len(form) > 8:
                self.known[form] = kind

    def found(self, text: str, *allowed: str) -> set[str]:
        """Return the kinds of secrets in a text, but for those that are allowed there."""
        return {kind for form, kind in self.known.items() if kind not in allowed and form in text}

    def answered(self, answer: httpx.Response) -> None:
        """Gather what an answer gives out; a refusal gives nothing out at all."""
        for header in answer.headers.get_list("set-cookie"):
            value = unquote(header.partition("=")[2].partition(";")[0])
            if len(value) > 20:
                self.add("session cookie", value)
        text = answer.content.decode("utf-8", "replace")
        for form in re.findall(r"form_key=(\w{20,})", _sent(answer)):
            self.add("form key", form)
        problem = answer.headers.get("content-type", "").startswith("application/problem")
        if problem or answer.status_code >= 500:
            # A page's frame has the sign-out form, whose token is this person's own, and the way
            # back to its own address, in which a customer's name was searched for.
            told = self.found(text, *([] if problem else ["form token", "customer name"]))
            if told:
                self.refused.append(f"{answer.request.method} {answer.request.url.path}: {told}")
            return
        for kind, pattern in _SHOWN.items():
            for value in pattern.findall(text):
                self.add(kind, value)

    def letters(self) -> list[str]:
        """Know the links in letters, which are the one place for them; return their tokens."""
        tokens = []
        for path in Path(self.rt.settings.data_dir, "mail").glob("*.eml"):
            text = path.read_text().replace("=\n", "")
            told = self.found(text, "link")
            if told:
                self.refused.append(f"a letter tells {told}")
            tokens += _LINK.findall(text)
        for token in tokens:
            self.add("link", token)
        return tokens

    async def rows(self) -> list[str]:
        """Return `table.column: kind` of each secret in the clear in the whole database."""
        told = set()
        async with self.rt.sessions.snapshot() as session:
            for table in db.Base.metadata.sorted_tables:
                for row in (await session.execute(select(table))).mappings():
                    for column, value in row.items():
                        place = f"{table.name}.{column}"
                        for kind in self.found(_text(value)):
                            if (kind, place) not in LEGITIMATE:
                                told.add(f"{place}: {kind}")
        return sorted(told)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, bytes) else str(value)


def _sent(answer: httpx.Response) -> str:
    try:
        return answer.request.content.decode("utf-8", "replace")
    except httpx.RequestNotRead:
        return ""


@contextmanager
def watching(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Gather from every answer in this process, and write all logs, DEBUG too, to a stream."""
    send = httpx.AsyncClient.send

    async def watched(self: httpx.AsyncClient, *args: Any, **kw: Any) -> httpx.Response:
        answer = await send(self, *args, **kw)
        canaries.answered(answer)
        return answer

    monkeypatch.setattr(httpx.AsyncClient, "send", watched)
    with logging_to_stream("DEBUG") as stream:
        # The tests' own client is not part of the application.
        quiet = logging.getLogger("httpx")
        was, quiet.disabled = quiet.disabled, True
        try:
            yield stream
        finally:
            quiet.disabled = was


@contextmanager
def logging_to_stream(level: str) -> Iterator[io.StringIO]:
    """Write logs as the application does, to a stream; without it they are rendered for people."""
    root = logging.getLogger()
    before, was = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(level, stream)
    # A logger that keeps what it was first used with would keep it for the tests after this one.
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield stream
    finally:
        root.handlers[:] = before
        root.setLevel(was)
        structlog.reset_defaults()
