"""The signed-in person at one page, as handlers and templates see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from litestar import Request

from app.accounts.identity import Identity, Origin
from app.accounts.queries import Shop
from app.audit.operations import Actor
from app.errors import NotFound
from app.merchants.models import Merchant
from web.deps import client_address, request_id
from web.render import Counts, Membership, Shell
from web.render.shell import Mode, Role

Req = Request[Any, Any, Any]


class Viewer:
    """A signed-in person at one page: who they are, at which shop and mode, what they may do."""

    def __init__(
        self,
        *,
        identity: Identity,
        shops: Sequence[Shop],
        shop: Merchant | None,
        mode: Mode,
        counts: Counts,
        path: str,
        now: datetime,
    ) -> None:
        self.identity = identity
        self.shops = shops
        self.livemode = mode == "live"
        self._shop, self._mode, self._counts = shop, mode, counts
        self._path, self._now = path, now

    @property
    def user_id(self) -> str:
        """The person's id."""
        return self.identity.user_id

    @property
    def email(self) -> str:
        """The person's e-mail address."""
        return self.identity.email

    @property
    def session_id(self) -> str:
        """The id of this sign-in."""
        return self.identity.session_id

    @property
    def is_admin(self) -> bool:
        """Whether this person is an admin of the platform."""
        return self.identity.is_admin

    @property
    def csrf(self) -> str:
        """The token that every form of this session carries."""
        return self.identity.csrf_token

    @property
    def merchant(self) -> Merchant:
        """The shop of the address. Raises NotFound on pages of no shop."""
        if self._shop is None:
            raise NotFound
        return self._shop

    @property
    def role(self) -> Role | None:
        """The person's role in this shop."""
        held = self.identity.memberships.get(self._shop.id) if self._shop else None
        return cast("Role | None", held)

    @property
    def tenant(self) -> dict[str, Any]:
        """The two keywords that every query and operation on a shop's data takes."""
        return {"merchant_id": self.merchant.id, "livemode": self.livemode}

    @property
    def base(self) -> str:
        """The address under which this shop's pages lie, without a slash at the end."""
        return f"/m/{self.merchant.id}/{self._mode}"

    @property
    def path(self) -> str:
        """The address of this page, with its query."""
        return self._path

    def can(self, permission: str) -> bool:
        """Tell whether this person may do something here."""
        here = self._shop.id if self._shop else None
        return permission in self.identity.permissions(here)

    def actor(self, request: Req) -> Actor:
        """Return who acts, for the audit log."""
        return self.identity.actor(origin(request))

    def is_confirmed(self) -> bool:
        """Tell whether password and code are fresh, so that no form needs to ask for them."""
        return self.identity.is_confirmed(self._now)

    def shell(self, active: str = "") -> Shell:
        """Return the frame of the page; `active` is a key of the navigation."""
        return Shell(
            merchant_id=self._shop.id if self._shop else None,
            merchant_name=self._shop.name if self._shop else None,
            mode=self._mode,
            role=self.role,
            user_email=self.email,
            is_admin=self.is_admin,
            csrf_token=self.csrf,
            now=self._now,
            path=self._path,
            active=active,
            memberships=tuple(
                Membership(
                    merchant_id=one.merchant_id,
                    merchant_name=one.name,
                    role=cast("Role", one.role),
                )
                for one in self.shops
            ),
            counts=self._counts,
        )


def origin(request: Req) -> Origin:
    """Return where a request came from."""
    return Origin(
        address=client_address(request.scope),
        agent=request.headers.get("User-Agent", "")[:200] or None,
        request_id=request_id(request.scope),
    )
