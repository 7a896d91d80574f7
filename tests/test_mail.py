"""Letters: sealed while they wait, sent by SMTP or kept as files that only we can read."""

import asyncio
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.parser import BytesParser
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import ClassVar

import msgspec
import pytest
from sqlalchemy import select

from app import jobs, mail
from app.runtime import Runtime
from app.secrets import SealBroken

LETTER = mail.Letter(
    to="alice@example.com",
    subject="Choose a new password",
    text="Open https://localhost/link/reset/0123456789 soon.\nGrüße\n",
)


async def promised(rt: Runtime, letter: mail.Letter = LETTER) -> jobs.Claim:
    async with rt.sessions.begin() as session:
        await mail.enqueue(session, ids=rt.ids, now=rt.clock(), sealer=rt.sealer, letter=letter)
    async with rt.sessions.begin() as session:
        (claim,) = await jobs.claim(session, queue="mail", limit=1, owner="test", lease=15)
    return claim


def smtp(rt: Runtime, url: str) -> None:
    rt.settings = msgspec.structs.replace(rt.settings, mail_url=url)


class Server(ThreadingTCPServer):
    """A mail server of a few words."""

    allow_reuse_address = True
    daemon_threads = True
    received: ClassVar[list[bytes]] = []
    refusal: ClassVar[str | None] = None


class Talk(StreamRequestHandler):
    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self.say("220 test")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if verb == "RCPT" and Server.refusal:
                self.say(Server.refusal)
            elif verb == "DATA":
                self.say("354 go on")
                body = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    body += part
                Server.received.append(body)
                self.say("250 kept")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


@contextmanager
def server(refusal: str | None = None) -> Iterator[str]:
    Server.received.clear()
    Server.refusal = refusal
    with Server(("127.0.0.1", 0), Talk) as running:
        Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()


async def test_without_a_mail_server_a_letter_is_a_private_file(
    rt: Runtime, tmp_path: Path
) -> None:
    claim = await promised(rt)
    await mail.send(rt, claim)
    await mail.send(rt, claim)  # A second try writes the same file.
    (path,) = (tmp_path / "mail").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    message = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
    assert (message["To"], message["Subject"]) == (LETTER.to, LETTER.subject)
    assert message.get_content().replace("\r\n", "\n") == LETTER.text
    (listed,) = await asyncio.to_thread(mail.list_files, rt.settings.data_dir)
    assert (listed.name, listed.to, listed.subject) == (path.name, LETTER.to, LETTER.subject)
    assert listed.size == path.stat().st_size


def test_no_letters_are_an_empty_list(tmp_path: Path) -> None:
    assert mail.list_files(str(tmp_path)) == []


async def test_an_address_cannot_leave_the_folder(rt: Runtime, tmp_path: Path) -> None:
    await mail.send(rt, await promised(rt, msgspec.structs.replace(LETTER, to="../../x@y.example")))
    (path,) = tmp_path.rglob("*.eml")
    assert path.parent == tmp_path / "mail"


async def test_a_waiting_letter_is_sealed_for_its_own_job(rt: Runtime) -> None:
    claim, other = await promised(rt), await promised(rt)
    assert "reset" not in repr(claim.args)
    other.args = claim.args
    with pytest.raises(SealBroken):
        await mail.send(rt, other)


async def test_a_promise_vanishes_with_what_it_follows_from(rt: Runtime) -> None:
    async with rt.sessions.begin() as session:
        await mail.enqueue(session, ids=rt.ids, now=rt.clock(), sealer=rt.sealer, letter=LETTER)
        await session.rollback()
    async with rt.sessions.read() as session:
        assert (await session.scalars(select(jobs.Job))).all() == []


async def test_a_mail_server_gets_the_letter(rt: Runtime) -> None:
    with server() as address:
        smtp(rt, f"smtp://{address}")
        await mail.send(rt, await promised(rt))
    (body,) = Server.received
    message = BytesParser(policy=policy.default).parsebytes(body)
    assert message["To"] == LETTER.to
    assert message["Message-ID"].startswith("<job_")
    assert "Grüße" in message.get_content()


async def test_a_recipient_refused_for_good_is_buried(rt: Runtime) -> None:
    with server("550 no such person") as address:
        smtp(rt, f"smtp://{address}")
        with pytest.raises(jobs.Bury, match="550"):
            await mail.send(rt, await promised(rt))


async def test_a_recipient_refused_for_now_is_tried_again(rt: Runtime) -> None:
    with server("450 come back later") as address:
        smtp(rt, f"smtp://{address}")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            await mail.send(rt, await promised(rt))


async def test_a_password_is_not_sent_in_the_clear(rt: Runtime) -> None:
    with server() as address:
        smtp(rt, f"smtp://someone:hunter2@{address}")
        with pytest.raises(smtplib.SMTPException, match="no TLS"):
            await mail.send(rt, await promised(rt))
    assert Server.received == []


async def test_a_server_that_is_away_is_a_failure_to_try_again(rt: Runtime) -> None:
    smtp(rt, "smtp://127.0.0.1:1")
    with pytest.raises(OSError, match="refused"):
        await mail.send(rt, await promised(rt))


@pytest.mark.parametrize("field", ["to", "subject"])
def test_a_line_break_makes_no_header(rt: Runtime, field: str) -> None:
    letter = msgspec.structs.replace(LETTER, **{field: "x\r\nBcc: mallory@example.com"})
    with pytest.raises(ValueError, match="linefeed"):
        mail.compose(letter, sender="a@example.com", at=rt.clock(), job_id="job_1")
