"""What tests of accounts share: an origin, and sign-in in one call."""

import msgspec
import pytest
from sqlalchemy import select

from app import mail
from app.accounts import totp
from app.accounts.identity import Identity, Opened, Origin
from app.accounts.sessions import processing
from app.accounts.sessions.queries import identify
from app.jobs import Job
from app.runtime import Runtime
from tests.support.cast import Person


class Visitor:
    """Somebody with a browser at one address."""

    def __init__(self, rt: Runtime, address: str = "192.0.2.77") -> None:
        self.rt = rt
        self.origin = Origin(address, "Tests", "req_1")

    async def sign_in(self, person: Person, password: str | None = None) -> Opened:
        """Give e-mail address and password."""
        return await processing.sign_in(
            self.rt,
            email=person.email,
            password=person.password if password is None else password,
            origin=self.origin,
        )

    async def identity(self, opened: Opened) -> Identity:
        """Return what a session proves."""
        async with self.rt.sessions.read() as session:
            return await identify(session, token=opened.token, now=self.rt.clock())

    async def second(self, opened: Opened, code: str) -> Opened:
        """Give a code."""
        identity = await self.identity(opened)
        return await processing.second_factor(
            self.rt, identity=identity, code=code, origin=self.origin
        )

    def code(self, person: Person) -> str:
        """Return what the person's phone shows."""
        return totp.code_at(person.totp_secret, self.rt.clock())

    async def enter(self, person: Person) -> Opened:
        """Sign in with both factors."""
        return await self.second(await self.sign_in(person), self.code(person))

    async def letters(self, person: Person | str) -> list[mail.Letter]:
        """Return the letters promised to a person, oldest first."""
        email = person if isinstance(person, str) else person.email
        async with self.rt.sessions.read() as session:
            jobs = await session.scalars(
                select(Job).where(Job.kind == "mail.send").order_by(Job.created_at, Job.id)
            )
            found = [
                msgspec.json.decode(
                    self.rt.sealer.open(job.args["letter"], f"jobs:{job.id}:letter"),
                    type=mail.Letter,
                )
                for job in jobs
            ]
        return [letter for letter in found if letter.to == email]


@pytest.fixture
def visitor(rt: Runtime) -> Visitor:
    return Visitor(rt)
