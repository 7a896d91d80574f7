"""Letters to people: a job row each, then SMTP, or a file where no mail server is set."""

import asyncio
import os
import re
import smtplib
import ssl
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app import jobs
from app.ids import Ids
from app.runtime import Runtime
from app.secrets import Sealer
from app.settings import Settings

FOLDER = "mail"


class Letter(msgspec.Struct, frozen=True):
    """What is to be sent: one recipient, plain text."""

    to: str
    subject: str
    text: str


class MailFile(msgspec.Struct, frozen=True):
    """A letter that was written to a file, for the admin's health page."""

    name: str
    to: str
    subject: str
    written_at: datetime
    size: int


class Mailer(Protocol):
    """Takes a letter out of the house; called from a thread."""

    def send(self, message: EmailMessage, name: str) -> None:
        """Send, or raise; `name` is the same for every try of one letter."""


async def enqueue(
    session: AsyncSession, *, ids: Ids, now: datetime, sealer: Sealer, letter: Letter
) -> str:
    """Promise a letter in the caller's transaction; return the job's id.

    The letter is sealed: it may hold a link that signs somebody in, and job rows are read by
    people.
    """
    job_id = ids("job")
    sealed = sealer.seal(msgspec.json.encode(letter), f"jobs:{job_id}:letter")
    await jobs.enqueue(
        session, id=job_id, kind="mail.send", args={"letter": sealed}, queue="mail", now=now
    )
    return job_id


async def send(rt: Runtime, job: jobs.Claim) -> None:
    """Send one letter (the job `mail.send`).

    A try that was cut off may send it twice; a letter twice is better than none. Raises jobs.Bury
    when the mail server refuses the recipient for good.
    """
    sealed = str(job.args["letter"])
    letter = msgspec.json.decode(rt.sealer.open(sealed, f"jobs:{job.id}:letter"), type=Letter)
    message = compose(letter, sender=rt.settings.mail_from, at=rt.clock(), job_id=job.id)
    name = f"{job.created_at:%Y%m%dT%H%M%SZ}-{_plain(letter.to)}-{job.id[-6:]}.eml"
    try:
        await asyncio.to_thread(mailer(rt.settings).send, message, name)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        if all(500 <= code < 600 for code in codes):
            raise jobs.Bury(f"the mail server refuses the recipient ({codes})") from None
        raise


def compose(letter: Letter, *, sender: str, at: datetime, job_id: str) -> EmailMessage:
    """Return the message. Raises ValueError for a header that holds a line break."""
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = sender
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(at.astimezone(UTC))
    # The same id at each try lets a mail program drop the second copy.
    message["Message-ID"] = f"<{job_id}@counterfoil.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    return message


def mailer(settings: Settings) -> Mailer:
    """Return the mailer that the settings ask for."""
    if settings.mail_url:
        return Smtp(settings.mail_url, settings.deadlines.mail)
    return Files(Path(settings.data_dir) / FOLDER)


class Files:
    """Writes letters to a folder that only this user can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, message: EmailMessage, name: str) -> None:
        """Write the letter; a second try writes the same file."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._folder / f".{name}.new"
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes())
        aside.replace(self._folder / name)


class Smtp:
    """Sends through a mail server: `smtp://` (with STARTTLS when offered) or `smtps://`."""

    def __init__(self, url: str, deadline: float) -> None:
        self._url = urlsplit(url)
        self._deadline = deadline

    def send(self, message: EmailMessage, name: str) -> None:
        """Send the letter. Raises OSError or smtplib.SMTPException."""
        url = self._url
        context = ssl.create_default_context()
        host, secure = url.hostname or "localhost", url.scheme == "smtps"
        connection: smtplib.SMTP
        if secure:
            port = url.port or 465
            connection = smtplib.SMTP_SSL(host, port, timeout=self._deadline, context=context)
        else:
            connection = smtplib.SMTP(host, url.port or 587, timeout=self._deadline)
        with connection:
            connection.ehlo()
            if not secure and connection.has_extn("starttls"):
                connection.starttls(context=context)
                connection.ehlo()
                secure = True
            if url.username:
                if not secure:
                    raise smtplib.SMTPException("the server offers no TLS; the password stays here")
                connection.login(unquote(url.username), unquote(url.password or ""))
            connection.send_message(message)


def list_files(data_dir: str, *, limit: int = 100) -> list[MailFile]:
    """Return the letters that were written to files, newest first."""
    folder = Path(data_dir) / FOLDER
    if not folder.is_dir():
        return []
    paths = sorted(folder.glob("*.eml"), key=lambda path: path.name, reverse=True)[:limit]
    return [_described(path) for path in paths]


def _described(path: Path) -> MailFile:
    with path.open("rb") as file:
        headers = BytesHeaderParser(policy=policy.default).parse(file)
    status = path.stat()
    return MailFile(
        name=path.name,
        to=str(headers["To"]),
        subject=str(headers["Subject"]),
        written_at=datetime.fromtimestamp(status.st_mtime, UTC),
        size=status.st_size,
    )


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.@+]+", "_", text.lower())[:60].lstrip(".")
