"""Add the risk check: a decision a payment, what shops set, and whom they block."""

import sqlalchemy as sa
from alembic import op

from app import db

revision = "20261125a"
down_revision = "20261122b"
branch_labels = None
depends_on = None

_ID = db.id_column_type()
_JSON = db.json_column_type()


def upgrade() -> None:
    # Long because it is a list, a table after the other; nothing stands between them to be named.
    # Nullable and without a default, so that no row is rewritten.
    with op.batch_alter_table("customers_of_payments") as batch:
        batch.add_column(sa.Column("country", sa.String(length=2), nullable=True))
        batch.add_column(sa.Column("card_country", sa.String(length=2), nullable=True))
    # Counting a customer's newest payments must not read all of them: some shops send one address.
    op.drop_index("ix_customers_of_payments_email_hash", table_name="customers_of_payments")
    op.create_index(
        "ix_customers_of_payments_email_hash",
        "customers_of_payments",
        ["merchant_id", "livemode", "email_hash", "payment_id"],
        unique=False,
    )
    op.create_table(
        "risk_checks",
        sa.Column("payment_id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("decision", sa.String(length=10), nullable=False),
        sa.Column("reasons", _JSON, nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("fallback", sa.Boolean(), nullable=False),
        sa.Column("fallback_rule", sa.String(length=40), nullable=True),
        sa.Column("failure", sa.String(length=200), nullable=True),
        sa.Column("asked_at", db.Utc(), nullable=False),
        sa.Column("answered_at", db.Utc(), nullable=False),
        sa.Column("review", sa.String(length=10), nullable=True),
        sa.Column("held_at", db.Utc(), nullable=True),
        sa.Column("reviewed_at", db.Utc(), nullable=True),
        sa.Column("reviewed_by", sa.String(length=200), nullable=True),
        sa.Column("review_reason", sa.String(length=1000), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "livemode", "payment_id"],
            ["payments.merchant_id", "payments.livemode", "payments.id"],
            name=op.f("fk_risk_checks_merchant_id_livemode_payment_id"),
        ),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_risk_checks")),
    )
    op.create_index(
        "ix_risk_checks_waiting",
        "risk_checks",
        ["merchant_id", "livemode", "held_at"],
        postgresql_where=sa.text("review = 'waiting'"),
        sqlite_where=sa.text("review = 'waiting'"),
    )
    op.create_index(
        "ix_risk_checks_fallback",
        "risk_checks",
        ["asked_at"],
        postgresql_where=sa.text("fallback"),
        sqlite_where=sa.text("fallback"),
    )
    op.create_table(
        "risk_settings",
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("terms", _JSON, nullable=False),
        sa.Column("updated_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchants.id"], name=op.f("fk_risk_settings_merchant_id")
        ),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("pk_risk_settings")),
    )
    op.create_table(
        "risk_blocks",
        sa.Column("id", _ID, nullable=False),
        sa.Column("merchant_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.Column("note", sa.String(length=80), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", db.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id"], ["merchants.id"], name=op.f("fk_risk_blocks_merchant_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_risk_blocks")),
        sa.UniqueConstraint(
            "merchant_id", "kind", "value", name=op.f("uq_risk_blocks_merchant_id_kind_value")
        ),
    )


def downgrade() -> None:
    op.drop_table("risk_blocks")
    op.drop_table("risk_settings")
    op.drop_index("ix_risk_checks_fallback", table_name="risk_checks")
    op.drop_index("ix_risk_checks_waiting", table_name="risk_checks")
    op.drop_table("risk_checks")
    op.drop_index("ix_customers_of_payments_email_hash", table_name="customers_of_payments")
    op.create_index(
        "ix_customers_of_payments_email_hash",
        "customers_of_payments",
        ["merchant_id", "livemode", "email_hash"],
        unique=False,
    )
    with op.batch_alter_table("customers_of_payments") as batch:
        batch.drop_column("card_country")
        batch.drop_column("country")
