"""Who a session proves to be, what that person may do, and the refusals of sign-in."""

from datetime import datetime, timedelta

import msgspec

from app.accounts import roles
from app.audit.operations import Actor
from app.errors import Conflict, Forbidden, NotFound, Unauthenticated

PASSWORD, ENROL, FULL = "password", "enrol", "full"
IDLE = timedelta(minutes=15)
ABSOLUTE = timedelta(hours=12)
CONFIRMED = timedelta(minutes=5)


class SessionEnded(Unauthenticated):
    """There is no such session (any more)."""

    code = "session_ended"


class SecondFactorNeeded(Unauthenticated):
    """The password was right; the session is not usable before the second factor."""

    code = "second_factor_needed"


class SignInFailed(Unauthenticated):
    """One refusal for every cause, so that it tells nobody which accounts exist."""

    code = "sign_in_failed"


class CodeRefused(Unauthenticated):
    """A wrong, used or late code, or too many wrong ones in the life of the seed."""

    code = "code_refused"


class ConfirmationNeeded(Forbidden):
    """This needs password and code, given within the last five minutes."""

    code = "confirmation_needed"


class PermissionMissing(Forbidden):
    """A member of the shop, without the role that this needs."""

    code = "permission_missing"


class LinkRefused(NotFound):
    """The link was used, has expired or never was one."""

    code = "link_refused"


class WrongStage(Conflict):
    """The sign-in is at another step."""

    code = "wrong_stage"


class Opened(msgspec.Struct, frozen=True):
    """A new session; the token goes into the cookie and is kept nowhere else."""

    token: str
    session_id: str
    user_id: str
    stage: str
    csrf_token: str


class Origin(msgspec.Struct, frozen=True):
    """Where a request of a person came from."""

    address: str | None = None
    agent: str | None = None
    request_id: str | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid session proves, at whichever stage; read anew for each request."""

    session_id: str
    user_id: str
    email: str
    name: str | None
    is_admin: bool
    stage: str
    csrf_token: str
    created_at: datetime
    last_seen_at: datetime
    confirmed_at: datetime | None
    memberships: dict[str, str]  # Merchant id to role.

    @property
    def ends_at(self) -> datetime:
        """When the session ends if nothing is done with it."""
        return min(self.last_seen_at + IDLE, self.created_at + ABSOLUTE)

    def permissions(self, merchant_id: str | None = None) -> frozenset[str]:
        """Return what this person may do in a shop, or on the platform's own pages."""
        if self.stage != FULL:
            return frozenset()
        if merchant_id is None:
            return roles.OWN_PERMISSIONS | (roles.ADMIN_PERMISSIONS if self.is_admin else set())
        role = self.memberships.get(merchant_id, "")
        return roles.PERMISSIONS.get(role, frozenset())

    def require(self, permission: str, merchant_id: str | None = None) -> None:
        """Check a permission; the one gate of every route of a signed-in person.

        Raises SecondFactorNeeded before the second factor, NotFound for a shop that this person
        does not belong to (as if it did not exist), PermissionMissing.
        """
        if self.stage != FULL:
            raise SecondFactorNeeded("Finish signing in first.")
        if merchant_id is not None and merchant_id not in self.memberships:
            raise NotFound
        if permission not in self.permissions(merchant_id):
            raise PermissionMissing("Your role does not allow this.")

    def is_confirmed(self, now: datetime) -> bool:
        """Tell whether password and code were given within the last five minutes."""
        return self.confirmed_at is not None and now < self.confirmed_at + CONFIRMED

    def require_confirmed(self, now: datetime) -> None:
        """Raise ConfirmationNeeded unless password and code are fresh (S11)."""
        if not self.is_confirmed(now):
            raise ConfirmationNeeded("Confirm with your password and a code.")

    def actor(self, origin: Origin) -> Actor:
        """Return who acts, for the audit log."""
        return Actor(
            kind="user",
            id=self.user_id,
            name=self.email,
            address=origin.address,
            session_id=self.session_id,
            request_id=origin.request_id,
        )
