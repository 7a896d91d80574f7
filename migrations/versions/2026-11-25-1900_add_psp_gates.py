"""Add the gates to PSPs: breakers, pace and retry budget, which all workers share."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app import db

revision = "20261125b"
down_revision = "20261125a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "psp_gates",
        sa.Column(
            "connection_id",
            sa.String(length=80).with_variant(sa.String(length=80, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("operation", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("since", db.Utc(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("next_probe_at", db.Utc(), nullable=True),
        sa.Column(
            "data",
            sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql"),
            nullable=False,
        ),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "operation", name=op.f("pk_psp_gates")),
    )


def downgrade() -> None:
    op.drop_table("psp_gates")
