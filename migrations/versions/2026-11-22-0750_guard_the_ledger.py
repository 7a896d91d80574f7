"""Make entries and audit rows append-only in the database itself; name this installation.

Triggers rather than rights, because the embedded database has no rights and because the owner
of a table passes over them.
"""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from app import db

revision = "20261122b"
down_revision = "20261122a"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("entries", "audit_rows")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION counterfoil_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
        for table in _APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION counterfoil_append_only()"
            )
            op.execute(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION counterfoil_append_only()"
            )
    else:
        for table in _APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
    installation = sa.table(
        "installation", sa.column("id", sa.String), sa.column("created_at", db.Utc())
    )
    op.execute(installation.insert().values(id=secrets.token_hex(8), created_at=datetime.now(UTC)))
    ledgers = sa.table(
        "ledgers",
        sa.column("id", sa.String),
        sa.column("livemode", sa.Boolean),
        sa.column("shard", sa.Integer),
        sa.column("last_seq", sa.BigInteger),
        sa.column("fence", sa.BigInteger),
    )
    for name, livemode in (("test:0", False), ("live:0", True)):
        op.execute(
            ledgers.insert().values(id=name, livemode=livemode, shard=0, last_seq=0, fence=0)
        )


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM ledgers"))
    op.execute(sa.text("DELETE FROM installation"))
    if op.get_bind().dialect.name == "postgresql":
        for table in _APPEND_ONLY:
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
            op.execute(f"DROP TRIGGER {table}_no_truncate ON {table}")
        op.execute("DROP FUNCTION counterfoil_append_only()")
    else:
        for table in _APPEND_ONLY:
            for verb in ("update", "delete"):
                op.execute(f"DROP TRIGGER {table}_no_{verb}")
