"""What the frame around every signed-in page needs to know."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Mode = Literal["test", "live"]
Role = Literal["owner", "operator", "viewer"]


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A shop that the user may switch to."""

    merchant_id: str
    merchant_name: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many things wait for somebody; a zero shows nothing."""

    webhooks_failing: int = 0
    dead_letters: int = 0
    reviews: int = 0  # Of the shop: payments that its risk check holds.
    health: int = 0
    desk: int = 0  # Of the platform: what no look-up could settle.


@dataclass(frozen=True, kw_only=True)
class NavLink:
    """One line of the sidebar, ready to show."""

    key: str
    href: str
    icon: str
    label: str
    count: int = 0
    tone: str = "bad"


@dataclass(frozen=True, kw_only=True)
class Shell:
    """The frame of one page: who looks, at which shop, in which mode, and where they are.

    `merchant_id`, `merchant_name` and `role` are None on platform pages of an admin without a
    shop. `active` is a key of the navigation ("payments", "dead-letters", or "" for none), `path`
    the address with its query. `now` is the time of the answer; every written time is UTC.
    """

    merchant_id: str | None
    merchant_name: str | None
    mode: Mode
    role: Role | None
    user_email: str
    is_admin: bool
    csrf_token: str
    now: datetime
    path: str
    active: str = ""
    memberships: tuple[Membership, ...] = ()
    counts: Counts = field(default_factory=Counts)

    @property
    def base(self) -> str:
        """Return the address under which this shop's pages lie, without a slash at the end."""
        return f"/m/{self.merchant_id}/{self.mode}"

    @property
    def live_url(self) -> str:
        """Return the address that says what changed on this page."""
        root = f"{self.base}/live" if self.merchant_id else "/admin/live"
        return f"{root}?page={self.active}"

    @property
    def home(self) -> str:
        """Return where the name of the product leads."""
        return f"{self.base}/overview" if self.merchant_id else "/admin/health"

    @property
    def shop_links(self) -> tuple[NavLink, ...]:
        """Return the pages of the shop, in the order of the sidebar."""
        if self.merchant_id is None:
            return ()
        rows = [
            ("overview", "home", "Overview", 0),
            ("payments", "credit-card", "Payments", 0),
            ("reviews", "user-exclamation", "Reviews", self.counts.reviews),
            ("wallets", "wallet", "Wallets", 0),
            ("webhooks", "webhook", "Webhooks", self.counts.webhooks_failing),
        ]
        if self.role == "owner":
            rows += [("keys", "key", "API keys", 0), ("audit", "history", "Audit log", 0)]
        rows.append(("settings", "settings", "Settings", 0))
        return tuple(
            NavLink(
                key=key,
                href=f"{self.base}/{key}",
                icon=icon,
                label=label,
                count=count,
                tone="wait" if key == "reviews" else "bad",
            )
            for key, icon, label, count in rows
        )

    @property
    def platform_links(self) -> tuple[NavLink, ...]:
        """Return the pages of the platform's admins; nobody else gets any."""
        if not self.is_admin:
            return ()
        return (
            NavLink(
                key="dead-letters",
                href="/admin/dead-letters",
                icon="inbox-off",
                label="Dead letters",
                count=self.counts.dead_letters,
            ),
            NavLink(
                key="desk",
                href="/admin/reviews",
                icon="user-exclamation",
                label="Reviews",
                count=self.counts.desk,
                tone="wait",
            ),
            NavLink(
                key="health",
                href="/admin/health",
                icon="activity-heartbeat",
                label="System health",
                count=self.counts.health,
                tone="wait",
            ),
            NavLink(key="merchants", href="/admin/merchants", icon="users", label="Merchants"),
            NavLink(key="platform-audit", href="/admin/audit", icon="history", label="Audit log"),
        )
