"""Who may do what: roles in a shop, and the platform's admins."""

from app.errors import Invalid

VIEWER, OPERATOR, OWNER = "viewer", "operator", "owner"
ROLES = (OWNER, OPERATOR, VIEWER)

_VIEWER = frozenset({"payments:read", "ledger:read", "webhooks:read", "settings:read"})
_OPERATOR = _VIEWER | {
    "payments:write",
    "payments:capture",
    "payments:cancel",
    "payments:refund",
    "payments:review",
    "webhooks:redeliver",
}
_OWNER = _OPERATOR | {
    "webhooks:write",
    "keys:read",
    "keys:write",
    "audit:read",
    "settings:write",
    "members:read",
    "members:write",
}
PERMISSIONS: dict[str, frozenset[str]] = {
    VIEWER: _VIEWER,
    OPERATOR: _OPERATOR,
    OWNER: _OWNER,
}
ADMIN_PERMISSIONS = frozenset(
    {
        "admin:deadletters",
        "admin:health",
        "admin:reviews",
        "admin:merchants",
        "admin:users",
        "admin:audit",
        "admin:ledger",
    }
)
# What everybody may do with their own account, in no shop.
OWN_PERMISSIONS = frozenset({"account:read", "account:write"})
ALL_PERMISSIONS = _OWNER | ADMIN_PERMISSIONS | OWN_PERMISSIONS


def checked_role(role: str) -> str:
    """Return `role` when it is one. Raises Invalid."""
    if role not in ROLES:
        raise Invalid(f"role must be one of {', '.join(ROLES)}", param="role")
    return role
